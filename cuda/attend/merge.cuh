// attend, its end: the partials of a row merged in split order.
//   M = max_b m_b, L = sum_b l_b exp(m_b - M), out = sum_b acc_b exp(m_b - M) / L, lse = M + ln L
// finish_block: the block that is the last to deliver a partial of a row tile, told by a ticket,
// merges the tile; a warp a row, a lane 4 dims, so the order of the sums is that of the splits
// whoever comes last. Reads splits * (D + 2) floats a row, which are in L2.
#pragma once

#include "cuda/attend/block.cuh"
#include "cuda/attend/params.h"
#include "cuda/common/launch.h"
#include "cuda/common/reduce.cuh"
#include "cuda/rope/rotate.cuh"

#include <cmath>

namespace spindlekv::cuda {

// ---- merge
// ---------------------------------------------------------------------------------------

// Weights exp(m_b - M) of the partials of one row, by one warp; 0 where a split was hidden, whose
// sums were not written. Returns M and L.
__device__ __forceinline__ float2 weigh_partials(const float2* partial, int splits, float* weight) {
  float maximum = -INFINITY;
  for (int split = lane_id(); split < splits; split += kWarpSize) {
    maximum = fmaxf(maximum, load_shared_by_blocks(partial + split).x);
  }
  maximum = warp_max(maximum);
  float sum = 0.0f;
  for (int split = lane_id(); split < splits; split += kWarpSize) {
    const float2 stats = load_shared_by_blocks(partial + split);
    const bool is_hidden = stats.y == 0.0f;  // and -inf - -inf is NaN
    weight[split] = is_hidden ? 0.0f : expf(stats.x - maximum);
    if (!is_hidden) sum = fmaf(stats.y, weight[split], sum);
  }
  return make_float2(maximum, warp_sum(sum));
}

// Sums of 4 dims of a row over its partials, in their order. Several loads are under way at once.
__device__ __forceinline__ float4 merged_four(const float* acc, const float* weight, int splits,
                                              int head_dim) {
  float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 16
  for (int split = 0; split < splits; ++split) {
    // Unwritten where the weight is 0. No branch, so that the loads do not wait for one another.
    float4 part = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (weight[split] != 0.0f) {
      part = load_shared_by_blocks(
          reinterpret_cast<const float4*>(acc + static_cast<int64_t>(split) * head_dim));
    }
    sum.x = fmaf(part.x, weight[split], sum.x);
    sum.y = fmaf(part.y, weight[split], sum.y);
    sum.z = fmaf(part.z, weight[split], sum.z);
    sum.w = fmaf(part.w, weight[split], sum.w);
  }
  return sum;
}

// Merges one row and writes its output; all lanes of a warp call.
__device__ __forceinline__ void merge_row(const AttendArgs& args, const AttendRow& row,
                                          float* weight) {
  const AttendHead& head = args.heads[row.head];
  const AttendItem& item = args.items[head.item];
  const int64_t query_head = static_cast<int64_t>(head.kv_head) * args.group + row.row % args.group;
  const int64_t query = first_query(args, item) + row.row / args.group;
  const int64_t first = partial_index(args, row, 0);
  const float2 stats = weigh_partials(args.partial_stats + first, head.splits, weight);
  if (lane_id() == 0) {
    args.row_stats[head.first_row + row.row] =
        make_float2(stats.x, stats.y == 0.0f ? 0.0f : 1.0f / stats.y);
    if (item.op.lse != nullptr) {
      item.op.lse[query_head * item.op.queries + query] =
          stats.y == 0.0f ? -INFINITY : stats.x + logf(stats.y);
    }
  }
  __syncwarp();  // the weights are read by all lanes
  const float* acc = args.partial_acc + first * args.head_dim;
  const int64_t target = query_head * item.op.out_stride_head + query * item.op.out_stride_token;
  for (int dim = 4 * lane_id(); dim < args.head_dim; dim += 4 * kWarpSize) {
    const float4 sum = merged_four(acc + dim, weight, head.splits, args.head_dim);
    const float value[4] = {sum.x, sum.y, sum.z, sum.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      store_element(item.op.out, args.q_dtype, target + dim + i,
                    stats.y == 0.0f ? 0.0f : value[i] / stats.y);
    }
  }
  __syncwarp();  // the weights are written again
}

// Where warps keep the weights of the partials they merge.
struct MergeShared {
  bool is_last[kBlockRows];  // by member
};

// Counts the block's partials in; true in `is_last` for the heads that it completes. The ticket is
// left at 0 for the next launch.
__device__ __forceinline__ void take_ticket(const AttendArgs& args, const AttendBlock& block,
                                            bool* is_last) {
  const int unit = static_cast<int>(threadIdx.x);
  if (unit >= max(1, block.span.members)) return;
  const int index =
      block.span.members == 0 ? block.span.head : args.members[block.span.head + unit];
  const AttendHead& head = args.heads[index];
  unsigned* ticket = args.tickets + head.first_ticket + block.tile;
  is_last[unit] = atomicAdd(ticket, 1u) + 1u == static_cast<unsigned>(head.splits);
  if (is_last[unit]) *ticket = 0u;
}

// Delivers the block's partials, and merges the rows whose last partials these were. `weights` is
// shared memory for kMostPartials floats a warp. Every thread of the block calls.
template <int kThreads>
__device__ __forceinline__ void finish_block(const AttendArgs& args, const AttendBlock& block,
                                             const AttendRows& rows, float* weights) {
  SKV_SHARED(merge, MergeShared);
  __threadfence();  // the partials before the ticket
  __syncthreads();
  take_ticket(args, block, merge.is_last);
  __syncthreads();
  __threadfence();  // the ticket before the partials of other blocks
  int unit = 0;
  for (int row = 0; row < rows.count; ++row) {
    if (row > 0 && rows.row[row].head != rows.row[row - 1].head) ++unit;
    if (!merge.is_last[unit] || row % (kThreads / kWarpSize) != warp_id()) continue;
    merge_row(args, rows.row[row], weights + warp_id() * kMostPartials);
  }
}

}  // namespace spindlekv::cuda
