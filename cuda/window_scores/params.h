// What the window_scores kernels are launched with.
#pragma once

#include <cuda_runtime.h>

#include "core/canonical.h"
#include "core/ops.h"

namespace spindlekv::cuda {

// The turned queries of as many KV heads, and the block partials of as many rows, at a time as fit
// in about this much workspace each.
inline constexpr int64_t kWindowWorkspaceTarget = int64_t{32} << 20;

// The rows of a KV head are numbered [query head of the group][query].
struct WindowArgs {
  SkvWindowScoresParams op;  // runs and heads are the copies on the device
  int32_t first_head;        // KV heads of the chunk
  int32_t chunk_heads;
  int32_t first_row;  // rows of the chunk, from each of those heads; a multiple of a tile's
  int32_t chunk_rows;
  int32_t row_tiles;      // of all rows of a KV head
  int32_t max_blocks;     // blocks of canonical::kBlockSlots slots of the longest head
  float* turned_queries;  // [chunk_heads, row_tiles, D, rows of a tile], after RoPE
  float2* block_stats;    // [chunk_heads, chunk_rows, max_blocks] maximum and sum of a block
  float2* row_stats;      // [Hq, W] maximum and sum of a row
  float* entropy_parts;   // [Hq, max_blocks], or null
};

}  // namespace spindlekv::cuda
