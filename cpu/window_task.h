// What window_scores hands to its kernels. Rows are the query heads of a KV head's group times the
// queries of a chunk: row g * n_queries + t.
#pragma once

#include <cstdint>

#include "core/ops.h"
#include "cpu/attend_task.h"
#include "cpu/isa.h"
#include "cpu/slot_tile.h"

namespace spindlekv::cpu {

// The softmax of one row: p = exp(logit - pivot) / sum.
struct RowSoftmax {
  float pivot;       // the maximum; 0 if the row sees nothing
  float sum;         // 1 if the row sees nothing
  float reciprocal;  // of the sum, rounded once
  float log_sum;
  float lse;  // -inf if the row sees nothing
};

// The logits of all rows and some tiles of a KV head. Arrays are those of the first tile.
struct WindowTask {
  const SkvWindowScoresParams* params;
  SlotSource source;
  int kv_head, tile, n_tiles;
  int first_query, n_queries;
  int padded_rows;
  int64_t logits_stride, statistics_stride;  // from tile to tile
  float* queries;                            // [padded_rows, padded_dim]
  float* logits;                             // [n_tiles, padded_rows, 64] out
  float* block_max;                          // [n_tiles, rows] out
  float* block_sum;                          // [n_tiles, rows] out
  int32_t* nonfinite;                        // [n_tiles] out
  float* scratch;                            // window_scratch_floats
};

// The softmax of rows whose blocks are known. Rows come in vectors, so both arrays have room for a
// multiple of kMergeRows in each block.
inline constexpr int kMergeRows = 16;
struct MergeRows {
  const float* block_max;  // [blocks, stride]
  const float* block_sum;
  int blocks, rows;
  int64_t stride;
  RowSoftmax* softmax;  // [rows] out
};

// The column sums of the rows of one query head over one tile.
struct ColumnTask {
  const float* logits;        // [rows, 64]
  const RowSoftmax* softmax;  // [rows]
  int rows;
  int count;      // slots of the tile
  bool is_first;  // the outputs start here instead of going on
  float* sum;     // [count], each may be NULL
  float* sum_sq;
  float* max;
  float* entropy;        // [1] out, or NULL: - sum p ln p of these rows and slots
  const float* weights;  // [rows] of p in sum, or NULL: 1
  const float* counts;   // [64] 1 for the slots of the entropy and 0 for the others, or NULL: all
};

struct WindowKernels {
  void (*queries)(const WindowTask& task);
  void (*logits)(const WindowTask& task);
  void (*merge)(const MergeRows& task);
  void (*columns)(const ColumnTask& task);
};

// Key rows that are transposed at once.
inline constexpr int kWindowStagingRows = 16;

static inline int64_t window_scratch_floats(int head_dim) {
  return int64_t{kTileSlots} * head_dim + kWindowStagingRows * padded_dim(head_dim);
}

SKV_DECLARE_ISA_TABLE(WindowKernels, window_kernels)

}  // namespace spindlekv::cpu
