// What the attend kernels are launched with: the op's params, its tables on the device, and the
// part of the workspace that a launch over some of the queries uses.
#pragma once

#include <cuda_runtime.h>

#include "core/ops.h"

namespace spindlekv::cuda {

// A constant, so that results depend on nothing but the head's own slots. 256 slots keep the
// partials under 2 % of the bytes of f16 keys and values.
inline constexpr int kSplitSlots = 256;
// Rows (query head, query) a block of the split kernel works on: one group of any allowed size.
inline constexpr int kBlockRows = 16;
// Queries are taken in chunks whose partials and logits fit in about this much workspace.
inline constexpr int64_t kAttendWorkspaceTarget = int64_t{64} << 20;

// Rows of a chunk are numbered [kv head][query of the chunk][query head of the group].
struct AttendArgs {
  SkvAttendParams op;   // runs and heads are the copies on the device
  int32_t first_query;  // of the chunk
  int32_t chunk_queries;
  int32_t block_queries;  // queries a block takes: kBlockRows / group
  int32_t max_splits;
  int64_t logit_stride;
  float* partial_acc;     // [rows, max_splits, D], not normalised
  float2* partial_stats;  // [rows, max_splits] maximum and sum of exponentials
  float2* row_stats;      // [rows] the same of the whole row
  float* logits;          // [rows, logit_stride], -inf where not visible; null without score_sum

  __host__ __device__ int64_t rows_of_head() const {
    return static_cast<int64_t>(chunk_queries) * op.group;
  }
};

}  // namespace spindlekv::cuda
