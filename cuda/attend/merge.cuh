// attend, last kernels: the partials of a row merged in split order, then column sums.
//   M = max_b m_b, L = sum_b l_b exp(m_b - M), out = sum_b acc_b exp(m_b - M) / L, lse = M + ln L
//   score_sum[r,s] += sum_t exp(x[r,t,s] - M) / L
// attend_merge_kernel: block = row, thread = dims. Reads splits * (D + 2) floats a row.
// attend_score_kernel: grid (slots, KV head), thread = slot, which owns its column of score_sum;
// reads every logit once. Both are memory-bound and small beside the split kernel.
#pragma once

#include "cuda/attend/params.h"
#include "cuda/common/launch.h"
#include "cuda/common/reduce.cuh"
#include "cuda/rope/rotate.cuh"

#include <cmath>

namespace spindlekv::cuda {

inline constexpr int kMergeThreads = 128;

// ---- helpers
// -------------------------------------------------------------------------------------

// Maximum and sum of a row from its splits, added in split order by every thread alike.
__device__ __forceinline__ float2 merge_stats(const float2* partial, int splits) {
  float maximum = -INFINITY;
  for (int split = 0; split < splits; ++split) maximum = fmaxf(maximum, partial[split].x);
  float sum = 0.0f;
  for (int split = 0; split < splits; ++split) {
    if (partial[split].y == 0.0f) continue;  // nothing visible: -inf - -inf is NaN
    sum = fmaf(partial[split].y, expf(partial[split].x - maximum), sum);
  }
  return make_float2(maximum, sum);
}

// Sum of p over the chunk's queries of one query head, for one slot.
__device__ __forceinline__ float column_sum(const AttendArgs& args, int kv_head, int group_head,
                                            int slot) {
  float sum = 0.0f;
  for (int query = 0; query < args.chunk_queries; ++query) {
    const int64_t row =
        kv_head * args.rows_of_head() + static_cast<int64_t>(query) * args.op.group + group_head;
    const float logit = args.logits[row * args.logit_stride + slot];
    if (logit == -INFINITY) continue;
    const float2 stats = args.row_stats[row];
    sum += expf(logit - stats.x) / stats.y;
  }
  return sum;
}

// ---- kernels
// -------------------------------------------------------------------------------------

__global__ __launch_bounds__(kMergeThreads) void attend_merge_kernel(const AttendArgs args) {
  const SkvAttendParams& op = args.op;
  const int64_t row = blockIdx.x;
  const int kv_head = static_cast<int>(row / args.rows_of_head());
  const int in_head = static_cast<int>(row % args.rows_of_head());
  const int64_t head = static_cast<int64_t>(kv_head) * op.group + in_head % op.group;
  const int64_t query = args.first_query + in_head / op.group;

  const int splits = (op.heads[kv_head].slots + kSplitSlots - 1) / kSplitSlots;
  const float2* partial = args.partial_stats + row * args.max_splits;
  const float2 stats = merge_stats(partial, splits);
  if (threadIdx.x == 0) {
    args.row_stats[row] = stats;
    if (op.lse != nullptr) {
      op.lse[head * op.queries + query] = stats.y == 0.0f ? -INFINITY : stats.x + logf(stats.y);
    }
  }

  const float* acc = args.partial_acc + row * args.max_splits * op.head_dim;
  const int64_t target = head * op.out_stride_head + query * op.out_stride_token;
  for (int dim = static_cast<int>(threadIdx.x); dim < op.head_dim; dim += kMergeThreads) {
    float sum = 0.0f;
    for (int split = 0; split < splits; ++split) {
      if (partial[split].y == 0.0f) continue;  // its sums were not written
      sum = fmaf(acc[static_cast<int64_t>(split) * op.head_dim + dim],
                 expf(partial[split].x - stats.x), sum);
    }
    store_element(op.out, op.q_dtype, target + dim, stats.y == 0.0f ? 0.0f : sum / stats.y);
  }
}

__global__ __launch_bounds__(kMergeThreads) void attend_score_kernel(const AttendArgs args) {
  const SkvAttendParams& op = args.op;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kMergeThreads;
  const int kv_head = static_cast<int>(blockIdx.y);
  if (first + threadIdx.x >= op.heads[kv_head].slots) return;
  const int slot = static_cast<int>(first + threadIdx.x);

  float group_sum = 0.0f;
  for (int g = 0; g < op.group; ++g) {
    const float sum = column_sum(args, kv_head, g, slot);
    group_sum += sum;
    if (op.score_mode != SKV_SCORE_QUERY_HEAD) continue;
    const int64_t head = static_cast<int64_t>(kv_head) * op.group + g;
    op.score_sum[head * op.score_stride + slot] += sum;
  }
  if (op.score_mode == SKV_SCORE_KV_HEAD) {
    op.score_sum[kv_head * op.score_stride + slot] += group_sum;
  }
}

// ---- launch
// --------------------------------------------------------------------------------------

inline Status launch_attend_merge(const AttendArgs& args, cudaStream_t stream) {
  const int64_t rows = args.op.kv_heads * args.rows_of_head();
  return launch<attend_merge_kernel>("attend", {rows}, dim3(kMergeThreads), 0, stream, args);
}

inline Status launch_attend_score(const AttendArgs& args, int64_t most_slots, cudaStream_t stream) {
  const Grid grid{ceil_div(most_slots, kMergeThreads), args.op.kv_heads};
  return launch<attend_score_kernel>("attend", grid, dim3(kMergeThreads), 0, stream, args);
}

}  // namespace spindlekv::cuda
