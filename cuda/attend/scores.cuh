// attend, its column sums: what each slot got of all rows, for those who ask.
//   score_sum[r,s] += sum_t exp(x[r,t,s] - M) / L
// Thread = slot, which owns its column of score_sum; reads every logit once, in L2, four of them at
// a time. Memory-bound: rows * slots * 4 bytes. Runs after the merge, whose M and 1 / L it takes.
#pragma once

#include "cuda/attend/block.cuh"
#include "cuda/attend/params.h"
#include "cuda/attend/plan.h"
#include "cuda/common/global.cuh"
#include "cuda/common/launch.h"

#include <cmath>

namespace spindlekv::cuda {

// Sum of p over rows `first`, first + step and so on of a head, for one slot.
__device__ __forceinline__ float column_sum(const AttendArgs& args, const AttendHead& head,
                                            int first, int step, int rows, int slot) {
  const float* logits = args.logits + head.first_logit + slot;
  const float2* stats = args.row_stats + head.first_row;
  float sum = 0.0f;
#pragma unroll 4
  for (int row = first; row < rows; row += step) {
    const float logit = logits[row * head.logit_stride];
    const float2 of_row = stats[row];
    // A row that saw nothing has no maximum to subtract.
    sum += logit == -INFINITY ? 0.0f : expf(logit - of_row.x) * of_row.y;
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
  const int rows = queries * args.group;

  // One sum for all rows, or one for each query head of the group, whose rows lie `sums` apart.
  const int sums = item.op.score_mode == SKV_SCORE_KV_HEAD ? 1 : args.group;
#pragma unroll 1
  for (int i = 0; i < sums; ++i) {
    const int64_t target = (static_cast<int64_t>(head.kv_head) * sums + i) * item.op.score_stride;
    item.op.score_sum[target + slot] += column_sum(args, head, i, sums, rows, slot);
  }
}

inline Status launch_attend_score(const AttendArgs& args, int64_t blocks, cudaStream_t stream) {
  return launch<attend_score_kernel>("attend", {blocks}, dim3(kScoreSlots), 0, stream, args);
}

}  // namespace spindlekv::cuda
