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
  float pivot;  // the maximum; 0 if the row sees nothing
  float sum;    // 1 if the row sees nothing
  float log_sum;
  float lse;  // -inf if the row sees nothing
};

// The logits of all rows and one tile.
struct WindowTask {
  const SkvWindowScoresParams* params;
  SlotSource source;
  int kv_head, tile;
  int first_query, n_queries;
  int padded_rows;
  float* queries;      // [padded_rows, padded_dim]
  float* logits;       // [padded_rows, 64] out
  float* block_max;    // [rows] out
  float* block_sum;    // [rows] out
  int32_t* nonfinite;  // [1] out
  float* scratch;      // window_scratch_floats
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
  float* entropy;  // [1] out, or NULL: - sum p ln p of these rows and slots
};

struct WindowKernels {
  void (*queries)(const WindowTask& task);
  void (*logits)(const WindowTask& task);
  // stride: from block to block.
  void (*merge)(const float* block_max, const float* block_sum, int blocks, int64_t stride,
                RowSoftmax* out);
  void (*columns)(const ColumnTask& task);
};

static inline int64_t window_scratch_floats(int head_dim) {
  return int64_t{kTileSlots} * head_dim + 8 * padded_dim(head_dim);
}

SKV_DECLARE_ISA_TABLE(WindowKernels, window_kernels)

}  // namespace spindlekv::cpu
