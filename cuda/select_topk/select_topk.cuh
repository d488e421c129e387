// select_topk: the k best slots of score rows, by a cut instead of a sort.
//   selected = protected, or key > cut.key, or key == cut.key and slot < cut.tie_end
//   (key = canonical::score_key of the score)
//   select_cut_kernel    block = row: radix count of the keys by 11, 11, 10 bits finds the cut
//   select_share_kernel  block = set of rows (across-head mode): shares what the floors leave
//   select_write_kernel  block = output row: ordered compaction of the selected slots
// scores: [rows, stride] f32, any alignment. Memory-bound: a row is read three times by its cut
// (from cache but for the first), once more if ties straddle the cut, and once to write.
// Deterministic: the atomics are integer counts.
#pragma once

#include "core/canonical.h"
#include "core/ops.h"

#include "cuda/common/launch.h"
#include "cuda/common/reduce.cuh"
#include "cuda/select_topk/cut.cuh"

namespace spindlekv::cuda {

// ---- helpers
// -------------------------------------------------------------------------------------

// Across-head mode: gives each row, in order, its part of the `ties` slots that have the shared
// cut's key. What a row has got by its floor stays.
__device__ __forceinline__ void share_cut(const SelectArgs& args, int64_t first_row,
                                          SelectCut shared_cut, int64_t ties) {
  for (int row = 0; row < args.op.pool_rows; ++row) {
    const SelectCut own = args.cuts[first_row + row];
    __syncthreads();  // all have read it before thread 0 replaces it
    if (own.takes_all() || shared_cut.key > own.key) continue;
    SelectCut cut = everything();
    if (!shared_cut.takes_all()) {
      const Competing slots = competing(args.op, first_row + row);
      const bool is_same_key = shared_cut.key == own.key;
      const int64_t equal = is_same_key ? own.left_ties : count_equal(slots, shared_cut.key);
      const int64_t taken = min(equal, ties);
      ties -= taken;
      cut.key = shared_cut.key;
      cut.ties = static_cast<int>(is_same_key ? own.ties + taken : taken);
      cut.left_ties = static_cast<int>(equal - taken);
      cut.tie_end = find_tie_end(slots, cut);
    }
    if (threadIdx.x == 0) args.cuts[first_row + row] = cut;
  }
}

// Bit g: row g of the union selects the slot.
__device__ __forceinline__ unsigned selected_by(const SelectArgs& args, int64_t first_row,
                                                const Competing& slots, int64_t slot) {
  const unsigned all = (1u << args.op.union_group) - 1u;
  if (slot < slots.first || slot >= slots.last) return all;
  unsigned mask = 0;
  for (int g = 0; g < args.op.union_group; ++g) {
    const float score = slots.scores[g * args.op.stride + slot];
    if (args.cuts[first_row + g].takes(canonical::score_key(score), slot)) mask |= 1u << g;
  }
  return mask;
}

// ---- kernels
// -------------------------------------------------------------------------------------

__global__ __launch_bounds__(SelectTraits::kThreads,
                             2) void select_cut_kernel(const SelectArgs args) {
  SKV_SHARED(radix, SelectRadix);
  const int64_t row = blockIdx.x;
  const Competing slots = competing(args.op, row);
  const int64_t wanted = args.op.pool_rows > 1 ? args.op.floor : args.op.k[row];
  const auto each_key = [&](BinCounter& counter) { count_keys(slots, counter); };
  SelectCut cut = find_cut(radix, slots.count(), wanted, each_key);
  cut.tie_end = find_tie_end(slots, cut);
  if (threadIdx.x == 0) args.cuts[row] = cut;
}

__global__ __launch_bounds__(SelectTraits::kThreads,
                             2) void select_share_kernel(const SelectArgs args) {
  SKV_SHARED(radix, SelectRadix);
  const int64_t set = blockIdx.x;
  const int64_t first_row = set * args.op.pool_rows;
  int64_t given = 0;
  int64_t left = 0;
  for (int row = 0; row < args.op.pool_rows; ++row) {
    const int64_t count = competing(args.op, first_row + row).count();
    const int64_t floor = min(static_cast<int64_t>(args.op.floor), count);
    given += floor;
    left += count - floor;
  }
  const auto each_key = [&](BinCounter& counter) {
    for (int row = 0; row < args.op.pool_rows; ++row) {
      const SelectCut own = args.cuts[first_row + row];
      if (own.takes_all()) continue;
      const Competing slots = competing(args.op, first_row + row);
      for (int64_t slot = slots.first + threadIdx.x; slot < slots.last;
           slot += SelectTraits::kThreads) {
        const uint32_t key = canonical::score_key(slots.scores[slot]);
        if (key < own.key) counter.add(key, 1);
      }
      if (threadIdx.x == 0) counter.add(own.key, static_cast<unsigned>(own.left_ties));
    }
  };
  const SelectCut cut = find_cut(radix, left, args.op.k[set] - given, each_key);
  share_cut(args, first_row, cut, cut.ties);
}

__global__ __launch_bounds__(SelectTraits::kThreads,
                             2) void select_write_kernel(const SelectArgs args) {
  constexpr int kItems = SelectTraits::kItems;
  const int64_t out_row = blockIdx.x;
  const int64_t first_row = out_row * args.op.union_group;
  const int64_t length = args.op.lengths[first_row];
  const Competing slots = competing(args.op, first_row);

  int64_t written = out_row * args.op.out_stride;
  for (int64_t chunk = 0; chunk < length; chunk += SelectTraits::kThreads * kItems) {
    // load: kItems neighbouring slots a thread
    const int64_t first = chunk + static_cast<int64_t>(threadIdx.x) * kItems;
    unsigned selected[kItems];
    int count = 0;
#pragma unroll
    for (int item = 0; item < kItems; ++item) {
      const int64_t slot = first + item;
      selected[item] = slot < length ? selected_by(args, first_row, slots, slot) : 0u;
      count += selected[item] != 0 ? 1 : 0;
    }
    // reduce and store
    const ScanResult<int> place = block_exclusive_sum<SelectTraits::kThreads>(count);
    int64_t target = written + place.before;
#pragma unroll
    for (int item = 0; item < kItems; ++item) {
      if (selected[item] == 0) continue;
      args.op.indices[target] = static_cast<int32_t>(first + item);
      if (args.op.masks != nullptr) args.op.masks[target] = static_cast<uint16_t>(selected[item]);
      ++target;
    }
    written += place.total;
  }
  if (threadIdx.x == 0) {
    args.op.counts[out_row] = static_cast<int32_t>(written - out_row * args.op.out_stride);
  }
}

// ---- launch
// --------------------------------------------------------------------------------------

inline Status launch_select_cut(const SelectArgs& args, cudaStream_t stream) {
  return launch<select_cut_kernel>("select_topk", {args.op.rows}, dim3(SelectTraits::kThreads), 0,
                                   stream, args);
}

inline Status launch_select_share(const SelectArgs& args, cudaStream_t stream) {
  return launch<select_share_kernel>("select_topk", {args.op.rows / args.op.pool_rows},
                                     dim3(SelectTraits::kThreads), 0, stream, args);
}

inline Status launch_select_write(const SelectArgs& args, cudaStream_t stream) {
  return launch<select_write_kernel>("select_topk", {args.op.rows / args.op.union_group},
                                     dim3(SelectTraits::kThreads), 0, stream, args);
}

}  // namespace spindlekv::cuda
