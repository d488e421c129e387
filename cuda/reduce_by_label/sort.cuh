// reduce_by_label: stable sort of rows by label, least significant digit first, of all problems.
//   keys [n] = label, or C for labels outside [0, C); rows [n]: order = rows by ascending key
//   label_count_kernel    block = tile of rows: how many keys of the tile have each digit value
//   label_scan_kernel     block = problem: exclusive sum over [digit value][tile]
//   label_scatter_kernel  block = tile: every key to its place, equal digits in order
// The second axis of a grid is the problem; blocks beyond a problem's tiles have nothing to do.
// One pass over 8 bits of the key; a pass reads and writes 8 bytes a row twice. Memory-bound.
// No atomics decide a place: a row's rank is counted from the rows before it.
#pragma once

#include "core/ops.h"

#include "cuda/common/launch.h"
#include "cuda/common/reduce.cuh"

namespace spindlekv::cuda {

// ---- traits
// --------------------------------------------------------------------------------------

struct LabelSortTraits {
  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / kWarpSize;
  static constexpr int kTile = 2048;  // rows of a block
  static constexpr int kDigitBits = 8;
  static constexpr int kDigits = 1 << kDigitBits;
  static constexpr int kScanThreads = 1024;
  static_assert(kDigits == kThreads, "a thread owns a digit value");
  static_assert(kTile % kThreads == 0);
};

// A key and the row it came from.
struct LabelledRow {
  int32_t key;
  int32_t row;
};

// A problem and its part of the workspace.
struct LabelWork {
  SkvLabelProblem problem;
  LabelledRow* rows[2];  // each [n]; pass p writes rows[p % 2]
  int32_t* places;       // [kDigits, tiles]
  int32_t* offsets;      // [C + 1]: the problem's, or its own
  int32_t tiles;
};

struct LabelSortArgs {
  const LabelWork* works;  // of the problems at hand
  int32_t n_works;
  int32_t most_tiles;
  int32_t pass;
  bool is_last;
};

// ---- helpers
// -------------------------------------------------------------------------------------

__device__ __forceinline__ LabelledRow labelled_row(const LabelSortArgs& args,
                                                    const LabelWork& work, int index) {
  if (args.pass > 0) return work.rows[(args.pass - 1) % 2][index];
  const int label = work.problem.labels[index];
  const int labels = work.problem.n_labels;
  return {label >= 0 && label < labels ? label : labels, index};
}

__device__ __forceinline__ int label_digit(const LabelSortArgs& args, int key) {
  return (key >> (args.pass * LabelSortTraits::kDigitBits)) & (LabelSortTraits::kDigits - 1);
}

// ---- kernels
// -------------------------------------------------------------------------------------

__global__ __launch_bounds__(LabelSortTraits::kThreads) void label_count_kernel(
    const LabelSortArgs args) {
  const LabelWork& work = args.works[blockIdx.y];
  if (static_cast<int>(blockIdx.x) >= work.tiles) return;
  SKV_SHARED(counts, int[LabelSortTraits::kDigits]);
  const int own_digit = static_cast<int>(threadIdx.x);
  counts[own_digit] = 0;
  __syncthreads();
  const int first = static_cast<int>(blockIdx.x) * LabelSortTraits::kTile;
  const int rows = min(LabelSortTraits::kTile, work.problem.n - first);
  for (int i = own_digit; i < rows; i += LabelSortTraits::kThreads) {
    atomicAdd(&counts[label_digit(args, labelled_row(args, work, first + i).key)], 1);
  }
  __syncthreads();
  work.places[static_cast<int64_t>(own_digit) * work.tiles + blockIdx.x] = counts[own_digit];
}

__global__ __launch_bounds__(LabelSortTraits::kScanThreads) void label_scan_kernel(
    const LabelSortArgs args) {
  const LabelWork& work = args.works[blockIdx.y];
  const int64_t count = static_cast<int64_t>(LabelSortTraits::kDigits) * work.tiles;
  int before = 0;
  for (int64_t first = 0; first < count; first += LabelSortTraits::kScanThreads) {
    const int64_t index = first + threadIdx.x;
    const int own = index < count ? work.places[index] : 0;
    const ScanResult<int> sum = block_exclusive_sum<LabelSortTraits::kScanThreads>(own);
    if (index < count) work.places[index] = before + sum.before;
    before += sum.total;
  }
}

__global__ __launch_bounds__(LabelSortTraits::kThreads) void label_scatter_kernel(
    const LabelSortArgs args) {
  const LabelWork& work = args.works[blockIdx.y];
  if (static_cast<int>(blockIdx.x) >= work.tiles) return;
  LabelledRow* const out = work.rows[args.pass % 2];
  int32_t* const order = args.is_last ? work.problem.order : nullptr;
  // Where the next key of a digit value goes; and where those of each warp go in this round.
  SKV_SHARED(next, int[LabelSortTraits::kDigits]);
  SKV_SHARED(warp_next, int[LabelSortTraits::kWarps][LabelSortTraits::kDigits]);
  const int thread = static_cast<int>(threadIdx.x);
  next[thread] = work.places[static_cast<int64_t>(thread) * work.tiles + blockIdx.x];
  const int first = static_cast<int>(blockIdx.x) * LabelSortTraits::kTile;
  const int rows = min(LabelSortTraits::kTile, work.problem.n - first);
  for (int round = 0; round < rows; round += LabelSortTraits::kThreads) {
    // load
    const bool is_row = round + thread < rows;
    LabelledRow own{0, 0};
    if (is_row) own = labelled_row(args, work, first + round + thread);
    const int digit = is_row ? label_digit(args, own.key) : -1;
    for (int warp = 0; warp < LabelSortTraits::kWarps; ++warp) warp_next[warp][thread] = 0;
    __syncthreads();

    // rank: among equal digits of the warp, then of the earlier warps
    const unsigned equal = __match_any_sync(kAllLanes, digit);
    const int rank = __popc(equal & ((1u << lane_id()) - 1u));
    if (is_row && rank == 0) warp_next[warp_id()][digit] = __popc(equal);
    __syncthreads();
    for (int warp = 0; warp < LabelSortTraits::kWarps; ++warp) {
      const int count = warp_next[warp][thread];
      warp_next[warp][thread] = next[thread];
      next[thread] += count;
    }
    __syncthreads();

    // store
    if (is_row) {
      const int place = warp_next[warp_id()][digit] + rank;
      out[place] = own;
      if (order != nullptr && own.key < work.problem.n_labels) order[place] = own.row;
    }
    __syncthreads();
  }
}

// ---- launch
// --------------------------------------------------------------------------------------

// One pass over the digit of args.pass.
inline Status launch_label_pass(const LabelSortArgs& args, cudaStream_t stream) {
  const dim3 block(LabelSortTraits::kThreads);
  const Grid tiles{args.most_tiles, args.n_works};
  SKV_RETURN_IF_ERROR(launch<label_count_kernel>("reduce_by_label", tiles, block, 0, stream, args));
  SKV_RETURN_IF_ERROR(launch<label_scan_kernel>(
      "reduce_by_label", {1, args.n_works}, dim3(LabelSortTraits::kScanThreads), 0, stream, args));
  return launch<label_scatter_kernel>("reduce_by_label", tiles, block, 0, stream, args);
}

}  // namespace spindlekv::cuda
