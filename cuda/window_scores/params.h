// What the window_scores kernels are launched with.
#pragma once

#include <cuda_runtime.h>

#include "core/canonical.h"
#include "core/ops.h"

namespace spindlekv::cuda {

// Block partials are taken for as many queries at a time as fit in about this much workspace.
inline constexpr int64_t kWindowWorkspaceTarget = int64_t{32} << 20;

struct WindowArgs {
  SkvWindowScoresParams op;  // runs and heads are the copies on the device
  int32_t first_query;       // of the chunk
  int32_t chunk_queries;
  int32_t max_blocks;  // blocks of canonical::kBlockSlots slots of the longest head
  int32_t reserved;
  float2* block_stats;   // [Hq, chunk_queries, max_blocks] maximum and sum of a block
  float2* row_stats;     // [Hq, W] maximum and sum of a row
  float* entropy_parts;  // [Hq, max_blocks], or null
};

}  // namespace spindlekv::cuda
