// attend, its column sums: what each slot got of all rows, for those who ask.
//   score_sum[r,s] += sum_t exp(x[r,t,s] - M) / L
// Thread = slot, which owns its column of score_sum; reads every logit once, in L2. Memory-bound:
// rows * slots * 4 bytes. Runs after the merge, whose M and L it takes.
#pragma once

#include "cuda/attend/block.cuh"
#include "cuda/attend/params.h"
#include "cuda/attend/plan.h"
#include "cuda/common/global.cuh"
#include "cuda/common/launch.h"

#include <cmath>

namespace spindlekv::cuda {

// Sum of p over the round's queries of one query head, for one slot.
__device__ __forceinline__ float column_sum(const AttendArgs& args, const AttendHead& head,
                                            int queries, int group_head, int slot) {
  float sum = 0.0f;
  for (int query = 0; query < queries; ++query) {
    const int64_t row = static_cast<int64_t>(query) * args.group + group_head;
    const float logit = args.logits[head.first_logit + row * head.logit_stride + slot];
    if (logit == -INFINITY) continue;
    const float2 stats = args.row_stats[head.first_row + row];
    sum += expf(logit - stats.x) / stats.y;
  }
  return sum;
}

__global__ __launch_bounds__(kScoreSlots) void attend_score_kernel(const AttendArgs args) {
  const int block = static_cast<int>(blockIdx.x);
  const AttendHead head = load_constant(args.heads + find_owner(args.n_heads, block, [&](int i) {
                                          return load_constant(&args.heads[i].first_score_block);
                                        }));
  const int slot = (block - head.first_score_block) * kScoreSlots + static_cast<int>(threadIdx.x);
  if (slot >= head.slots) return;
  const AttendItem& item = args.items[head.item];
  const int queries = min(item.round_queries, item.op.queries - first_query(args, item));

  float group_sum = 0.0f;
  for (int g = 0; g < args.group; ++g) {
    const float sum = column_sum(args, head, queries, g, slot);
    group_sum += sum;
    if (item.op.score_mode != SKV_SCORE_QUERY_HEAD) continue;
    const int64_t query_head = static_cast<int64_t>(head.kv_head) * args.group + g;
    item.op.score_sum[query_head * item.op.score_stride + slot] += sum;
  }
  if (item.op.score_mode == SKV_SCORE_KV_HEAD) {
    item.op.score_sum[head.kv_head * item.op.score_stride + slot] += group_sum;
  }
}

inline Status launch_attend_score(const AttendArgs& args, int64_t blocks, cudaStream_t stream) {
  return launch<attend_score_kernel>("attend", {blocks}, dim3(kScoreSlots), 0, stream, args);
}

}  // namespace spindlekv::cuda
