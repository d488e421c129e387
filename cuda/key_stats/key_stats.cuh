// key_stats: norms of stored rows, and the cosine of every key with the mean direction of its head.
//   k_norm = |k|; v_norm = |v|; v_l1 = sum |v[d]|; cos_to_mean = cos(k', mean of k' / |k|)
// Canonical (core/canonical.h). Outputs [Hkv, stride] f32.
//   key_rows_kernel     grid (block of 64 slots, KV head): 64 threads own a slot's key, 64 its
//   value;
//                       then a thread owns dims and adds the block's directions, slots ascending
//   key_means_kernel    block = KV head, thread = dims: the blocks' sums ascending, and their norm
//   key_cosines_kernel  thread = slot: dot with the mean, which lies in shared memory
// Memory-bound: V once and K once, or twice for cosines (the rows of a block are read again for
// their directions, out of L1). Chains over D of one fma each, 64 rows side by side.
// Sources: the L2 norm (arXiv 2406.11430), KeyDiff (2504.15364), LAVa (2509.09754).
#pragma once

#include "core/canonical.h"
#include "core/ops.h"

#include "cuda/attend/slots.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/reduce.cuh"
#include "cuda/rope/rotate.cuh"

#include <cmath>

namespace spindlekv::cuda {

// ---- traits
// --------------------------------------------------------------------------------------

struct KeyStatsTraits {
  static constexpr int kSlots = canonical::kBlockSlots;
  static constexpr int kThreads = 2 * kSlots;
  static constexpr int kMeanThreads = 256;
  // Blocks on an SM that the kernel over rows is compiled for: up to 64 registers a thread, which
  // hold what is alive across its square root and its division.
  static constexpr int kRowBlocks = 8;
  static constexpr int kMaxHeadDim = 512;
};

struct KeyStatsArgs {
  SkvKeyStatsParams op;  // runs and heads are the copies on the device
  int32_t max_blocks;    // blocks of kSlots slots of the longest head
  float* norms;          // [Hkv, max_blocks * kSlots] of keys
  float* directions;     // [Hkv, max_blocks, D] sum of k' / |k| over a block
  float* means;          // [Hkv, D]
  float* mean_norms;     // [Hkv]
};

// A slot's key as the threads of its block read it.
template <typename Elem>
struct StatsKey {
  ScaledRow<Elem> row;
  const float2* turn;  // null: as stored
  float weight;        // 1 / |k|, 0 for a zero row
};

// ---- helpers
// -------------------------------------------------------------------------------------

template <typename Elem>
__device__ __forceinline__ StatsKey<Elem> stats_key(const SkvKeyStatsParams& op, int kv_head,
                                                    int slot) {
  const HeadSlots head = head_slots(op.runs, op.heads, kv_head);
  const SkvRun& run = *find_run(head, slot);
  const int index = slot - run.slot_base;
  const auto key = key_row<Elem>(run, index, op.head_dim);
  StatsKey<Elem> result{{key.row, key.magnitude}, nullptr, 0.0f};
  if (run.rotated == 0) {
    result.turn = turn_at(op.rope, op.reindex != 0 ? slot : slot_position(run, index));
  }
  return result;
}

template <typename Elem>
__device__ __forceinline__ ScaledRow<Elem> stats_value(const SkvKeyStatsParams& op, int kv_head,
                                                       int slot) {
  const HeadSlots head = head_slots(op.runs, op.heads, kv_head);
  const SkvRun& run = *find_run(head, slot);
  const auto value = value_row<Elem>(run, slot - run.slot_base, op.head_dim);
  return {value.row, value.magnitude};
}

struct RowMeasures {
  float norm;
  float l1;
};

template <typename Elem>
__device__ __forceinline__ RowMeasures measure_row(const ScaledRow<Elem>& row, int head_dim) {
  float square = 0.0f;
  float l1 = 0.0f;
  for (int first = 0; first < head_dim; first += 8) {
    float part[8];
    row.eight(first, part);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      square = fmaf(part[i], part[i], square);
      l1 = l1 + fabsf(part[i]);
    }
  }
  return {sqrtf(square), l1};
}

__device__ __forceinline__ int is_nonfinite(float value) { return fabsf(value) < INFINITY ? 0 : 1; }

// ---- kernels
// -------------------------------------------------------------------------------------

template <typename Elem>
__global__ __launch_bounds__(
    KeyStatsTraits::kThreads,
    KeyStatsTraits::kRowBlocks) void key_rows_kernel(const KeyStatsArgs args) {
  constexpr int kSlots = KeyStatsTraits::kSlots;
  SKV_SHARED(keys, StatsKey<Elem>[KeyStatsTraits::kSlots]);
  const SkvKeyStatsParams& op = args.op;
  const int kv_head = static_cast<int>(blockIdx.x / args.max_blocks);
  const int block = static_cast<int>(blockIdx.x % args.max_blocks);
  const int slots = min(kSlots, op.heads[kv_head].slots - block * kSlots);
  if (slots <= 0) return;

  // compute: the norms of a key or a value
  const int own = static_cast<int>(threadIdx.x) % kSlots;
  const bool is_key = static_cast<int>(threadIdx.x) < kSlots;
  const int64_t slot = static_cast<int64_t>(block) * kSlots + own;
  const int64_t target = kv_head * op.stride + slot;
  int nonfinite = 0;
  if (own < slots && is_key && (op.k_norm != nullptr || op.cos_to_mean != nullptr)) {
    StatsKey<Elem> key = stats_key<Elem>(op, kv_head, static_cast<int>(slot));
    const float norm = measure_row(key.row, op.head_dim).norm;
    key.weight = norm == 0.0f ? 0.0f : 1.0f / norm;
    keys[own] = key;
    nonfinite = is_nonfinite(norm);
    if (op.k_norm != nullptr) op.k_norm[target] = norm;
    if (op.cos_to_mean != nullptr) {
      args.norms[static_cast<int64_t>(kv_head) * args.max_blocks * kSlots + slot] = norm;
    }
  } else if (own < slots && !is_key && (op.v_norm != nullptr || op.v_l1 != nullptr)) {
    const RowMeasures value =
        measure_row(stats_value<Elem>(op, kv_head, static_cast<int>(slot)), op.head_dim);
    if (op.v_norm != nullptr) {
      op.v_norm[target] = value.norm;
      nonfinite += is_nonfinite(value.norm);
    }
    if (op.v_l1 != nullptr) {
      op.v_l1[target] = value.l1;
      nonfinite += is_nonfinite(value.l1);
    }
  }
  nonfinite = warp_sum(nonfinite);
  if (lane_id() == 0 && nonfinite > 0 && op.nonfinite != nullptr) {
    atomicAdd(op.nonfinite, nonfinite);  // integers: any order gives the same
  }
  if (op.cos_to_mean == nullptr) return;
  __syncthreads();

  // reduce and store: the directions of the block, slots ascending
  float* directions =
      args.directions + (static_cast<int64_t>(kv_head) * args.max_blocks + block) * op.head_dim;
  for (int dim = static_cast<int>(threadIdx.x); dim < op.head_dim;
       dim += KeyStatsTraits::kThreads) {
    float sum = 0.0f;
#pragma unroll 4
    for (int s = 0; s < slots; ++s) {
      const StatsKey<Elem>& key = keys[s];
      const float x = rotated_one(key.row, dim, key.turn, op.rope.n_rot, op.rope.style);
      sum = fmaf(key.weight, x, sum);
    }
    directions[dim] = sum;
  }
}

// Grid x: KV heads.
__global__ __launch_bounds__(KeyStatsTraits::kMeanThreads) void key_means_kernel(
    const KeyStatsArgs args) {
  SKV_SHARED(mean, float[KeyStatsTraits::kMaxHeadDim]);
  const SkvKeyStatsParams& op = args.op;
  const int64_t kv_head = blockIdx.x;
  const int slots = op.heads[kv_head].slots;
  const int blocks = (slots + KeyStatsTraits::kSlots - 1) / KeyStatsTraits::kSlots;
  if (slots == 0) return;
  for (int dim = static_cast<int>(threadIdx.x); dim < op.head_dim;
       dim += KeyStatsTraits::kMeanThreads) {
    const float* part = args.directions + kv_head * args.max_blocks * op.head_dim + dim;
    float sum = 0.0f;
#pragma unroll 8
    for (int block = 0; block < blocks; ++block) {
      sum = sum + part[static_cast<int64_t>(block) * op.head_dim];
    }
    mean[dim] = sum / static_cast<float>(slots);
    args.means[kv_head * op.head_dim + dim] = mean[dim];
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  float square = 0.0f;
  for (int dim = 0; dim < op.head_dim; ++dim) square = fmaf(mean[dim], mean[dim], square);
  args.mean_norms[kv_head] = sqrtf(square);
}

// Grid x: blocks of kThreads slots of every KV head.
template <typename Elem>
__global__ __launch_bounds__(KeyStatsTraits::kThreads) void key_cosines_kernel(
    const KeyStatsArgs args) {
  SKV_SHARED(mean, float[KeyStatsTraits::kMaxHeadDim]);
  const SkvKeyStatsParams& op = args.op;
  const int chunks = (args.max_blocks + 1) / 2;  // of two blocks, a slot a thread
  const int kv_head = static_cast<int>(blockIdx.x / chunks);
  for (int dim = static_cast<int>(threadIdx.x); dim < op.head_dim;
       dim += KeyStatsTraits::kThreads) {
    mean[dim] = args.means[static_cast<int64_t>(kv_head) * op.head_dim + dim];
  }
  __syncthreads();
  const int64_t slot = static_cast<int64_t>(blockIdx.x % chunks) * KeyStatsTraits::kThreads +
                       static_cast<int>(threadIdx.x);
  if (slot >= op.heads[kv_head].slots) return;

  const StatsKey<Elem> key = stats_key<Elem>(op, kv_head, static_cast<int>(slot));
  float dot = 0.0f;
  for (int first = 0; first < op.head_dim; first += 8) {
    float part[8];
    rotated_eight(key.row, first, key.turn, op.rope.n_rot, op.rope.style, part);
#pragma unroll
    for (int i = 0; i < 8; ++i) dot = fmaf(mean[first + i], part[i], dot);
  }
  const float norm =
      args.norms[static_cast<int64_t>(kv_head) * args.max_blocks * KeyStatsTraits::kSlots + slot];
  const float mean_norm = args.mean_norms[kv_head];
  op.cos_to_mean[kv_head * op.stride + slot] =
      norm == 0.0f || mean_norm == 0.0f ? 0.0f : dot / norm / mean_norm;
}

// ---- launch
// --------------------------------------------------------------------------------------

template <typename Elem>
Status launch_key_stats(const KeyStatsArgs& args, cudaStream_t stream) {
  const int64_t heads = args.op.kv_heads;
  SKV_RETURN_IF_ERROR(launch<key_rows_kernel<Elem>>(
      "key_stats", {heads * args.max_blocks}, dim3(KeyStatsTraits::kThreads), 0, stream, args));
  if (args.op.cos_to_mean == nullptr || args.max_blocks == 0) return ok_status();
  SKV_RETURN_IF_ERROR(launch<key_means_kernel>(
      "key_stats", {heads}, dim3(KeyStatsTraits::kMeanThreads), 0, stream, args));
  return launch<key_cosines_kernel<Elem>>("key_stats", {heads * ceil_div(args.max_blocks, 2)},
                                          dim3(KeyStatsTraits::kThreads), 0, stream, args);
}

}  // namespace spindlekv::cuda
