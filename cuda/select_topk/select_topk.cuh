// select_topk: the k best slots of score rows, by a cut instead of a sort.
//   selected = protected, or key > cut.key, or key == cut.key and slot < cut.tie_end
//   (key = canonical::score_key of the score)
//   select_cut_kernel    block = row: the cut, by a bracket around it (bracket.cuh) or, where that
//                        misses, by a radix count of the keys (cut.cuh)
//   select_share_kernel  block = set of rows (across-head mode): shares what the floors leave
//   select_write_kernel  block = output row: ordered compaction of the selected slots
// scores: [rows, stride] f32, any alignment. Memory-bound: a row is read once for its cut (by a
// radix count three times, and once more if ties straddle the cut), and once to write.
// Deterministic: the atomics are integer counts.
#pragma once

#include "core/canonical.h"
#include "core/ops.h"

#include "cuda/common/launch.h"
#include "cuda/common/reduce.cuh"
#include "cuda/select_topk/bracket.cuh"
#include "cuda/select_topk/cut.cuh"
#include "cuda/select_topk/row.cuh"

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

// Bits of a thread's items, the first of them in slot `first`, that the cut takes. Numbers are in
// the order of their keys.
__device__ __forceinline__ ItemBits items_taken(const float (&score)[SelectTraits::kItems],
                                                const SelectCut& cut, int first) {
  const float least = canonical::score_of_key(cut.key);
  const float next = canonical::score_of_key(cut.key + 1);
  const int early = cut.tie_end - first;
  ItemBits taken = 0;
#pragma unroll
  for (int item = 0; item < SelectTraits::kItems; ++item) {
    if (score[item] >= (item_offset(item) < early ? least : next)) taken |= 1u << item;
  }
  return taken;
}

// The same where the cut is at NaN, which is in no order and has the lowest key.
__device__ __forceinline__ ItemBits items_taken_to_nan(const float (&score)[SelectTraits::kItems],
                                                       const SelectCut& cut, int first) {
  ItemBits taken = 0;
#pragma unroll
  for (int item = 0; item < SelectTraits::kItems; ++item) {
    const bool is_early = first + item_offset(item) < cut.tie_end;
    taken |= score[item] == score[item] || is_early ? 1u << item : 0u;
  }
  return taken;
}

// Of a chunk, the competing slots that the cut takes.
__device__ __forceinline__ ItemBits taken_items(const Competing& slots, const SelectCut& cut,
                                                int chunk) {
  float score[SelectTraits::kItems];
  const ItemBits competing = load_scores(slots, chunk, score);
  const int first = own_slot(chunk);
  const ItemBits taken =
      cut.key == 0 ? items_taken_to_nan(score, cut, first) : items_taken(score, cut, first);
  return competing & taken;
}

// Bits of the thread's items that are slots of the row but do not compete: all rows select them.
__device__ __forceinline__ ItemBits protected_items(const Competing& slots, int length, int chunk) {
  if (chunk >= slots.first && chunk + SelectTraits::kChunk <= slots.last) return 0;
  ItemBits bits = 0;
#pragma unroll
  for (int item = 0; item < SelectTraits::kItems; ++item) {
    const int slot = own_slot(chunk) + item_offset(item);
    if (slot < length && (slot < slots.first || slot >= slots.last)) bits |= 1u << item;
  }
  return bits;
}

// ---- kernels
// -------------------------------------------------------------------------------------

__global__ __launch_bounds__(SelectTraits::kThreads,
                             2) void select_cut_kernel(const SelectArgs args) {
  SKV_SHARED(radix, SelectRadix);
  SKV_DYNAMIC_SHARED(list, SelectList);
  const int64_t row = blockIdx.x;
  const Competing slots = competing(args.op, row);
  const int64_t wanted = args.op.pool_rows > 1 ? args.op.floor : args.op.k[row];
  const SelectCut cut = find_row_cut(radix, *list, slots, wanted);
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
  const SelectCut cut =
      find_cut(radix, left, args.op.k[set] - given, SelectTraits::kDigits, each_key);
  share_cut(args, first_row, cut, cut.ties);
}

// kIsUnion: several rows of scores for an output row.
template <bool kIsUnion>
__global__ __launch_bounds__(SelectTraits::kThreads,
                             2) void select_write_kernel(const SelectArgs args) {
  constexpr int kItems = SelectTraits::kItems;
  constexpr int kNeighbours = SelectTraits::kNeighbours;
  const int64_t out_row = blockIdx.x;
  const int group = kIsUnion ? args.op.union_group : 1;
  const int64_t first_row = out_row * group;
  const int length = args.op.lengths[first_row];
  const Competing slots = competing(args.op, first_row);
  const SelectCut cut = args.cuts[first_row];
  int32_t* const indices = args.op.indices + out_row * args.op.out_stride;
  uint16_t* const masks =
      args.op.masks != nullptr ? args.op.masks + out_row * args.op.out_stride : nullptr;

  int written = 0;
  for (int64_t next = 0; next < length; next += SelectTraits::kChunk) {
    const int chunk = static_cast<int>(next);
    // load: which items are selected, in a union also by whom
    ItemBits selected = protected_items(slots, length, chunk);
    [[maybe_unused]] unsigned by_rows[kItems];
    if constexpr (kIsUnion) {
      const unsigned all = (1u << group) - 1u;
#pragma unroll
      for (int item = 0; item < kItems; ++item) by_rows[item] = selected >> item & 1u ? all : 0u;
      for (int g = 0; g < group; ++g) {
        const Competing row{slots.scores + g * args.op.stride, slots.first, slots.last};
        const ItemBits taken = taken_items(row, args.cuts[first_row + g], chunk);
        selected |= taken;
#pragma unroll
        for (int item = 0; item < kItems; ++item) by_rows[item] |= (taken >> item & 1u) << g;
      }
    } else {
      selected |= taken_items(slots, cut, chunk);
    }
    // reduce: the numbers of four rounds in one word, a byte each, of at most 128
    static_assert(SelectTraits::kRounds == 4 && SelectTraits::kRoundSlots < 256);
    uint32_t own = 0;
#pragma unroll
    for (int round = 0; round < SelectTraits::kRounds; ++round) {
      own |= __popc(selected >> (round * kNeighbours) & 0xfu) << (8 * round);
    }
    const uint32_t through = warp_inclusive_sum(own);
    const uint32_t warp_total = __shfl_sync(kAllLanes, through, kWarpSize - 1);
    const uint32_t before = through - own;
    const int of_warp = static_cast<int>((warp_total & 0xffu) + (warp_total >> 8 & 0xffu) +
                                         (warp_total >> 16 & 0xffu) + (warp_total >> 24));
    const bool is_last_lane = lane_id() == kWarpSize - 1;  // all lanes get the earlier warps' sum
    const ScanResult<int> place =
        block_exclusive_sum<SelectTraits::kThreads>(is_last_lane ? of_warp : 0);
    // store
    const int slot = own_slot(chunk);
    int round_first = written + place.before;
#pragma unroll
    for (int round = 0; round < SelectTraits::kRounds; ++round) {
      int target = round_first + static_cast<int>(before >> (8 * round) & 0xffu);
#pragma unroll
      for (int i = 0; i < kNeighbours; ++i) {
        const int item = round * kNeighbours + i;
        if ((selected >> item & 1u) == 0) continue;
        indices[target] = slot + item_offset(item);
        if constexpr (kIsUnion) {
          if (masks != nullptr) masks[target] = static_cast<uint16_t>(by_rows[item]);
        }
        ++target;
      }
      round_first += static_cast<int>(warp_total >> (8 * round) & 0xffu);
    }
    written += place.total;
  }
  if (threadIdx.x == 0) args.op.counts[out_row] = written;
  if constexpr (!kIsUnion) {
    if (masks == nullptr) return;
    for (int64_t i = threadIdx.x; i < written; i += SelectTraits::kThreads) masks[i] = 1;
  }
}

// ---- launch
// --------------------------------------------------------------------------------------

inline Status launch_select_cut(const SelectArgs& args, cudaStream_t stream) {
  return launch<select_cut_kernel>("select_topk", {args.op.rows}, dim3(SelectTraits::kThreads),
                                   sizeof(SelectList), stream, args);
}

inline Status launch_select_share(const SelectArgs& args, cudaStream_t stream) {
  return launch<select_share_kernel>("select_topk", {args.op.rows / args.op.pool_rows},
                                     dim3(SelectTraits::kThreads), 0, stream, args);
}

inline Status launch_select_write(const SelectArgs& args, cudaStream_t stream) {
  const Grid grid{args.op.rows / args.op.union_group};
  const dim3 block(SelectTraits::kThreads);
  if (args.op.union_group > 1) {
    return launch<select_write_kernel<true>>("select_topk", grid, block, 0, stream, args);
  }
  return launch<select_write_kernel<false>>("select_topk", grid, block, 0, stream, args);
}

}  // namespace spindlekv::cuda
