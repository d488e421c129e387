// What key_stats hands to its kernels: one tile of up to 64 slots of a KV head.
#pragma once

#include <cstdint>

#include "core/ops.h"
#include "cpu/attend_task.h"
#include "cpu/isa.h"
#include "cpu/slot_tile.h"

namespace spindlekv::cpu {

struct StatsTask {
  const SkvKeyStatsParams* params;
  const SlotTile* tile;
  float* k_norm;     // [64] out, or NULL: keys are not read
  float* direction;  // [D] out, or NULL: the sum of the tile's keys, each of unit length
  float* v_norm;     // [64] out, or NULL
  float* v_l1;       // [64] out, or NULL
  float* scratch;    // stats_scratch_floats
};

struct CosineTask {
  const SkvKeyStatsParams* params;
  const SlotTile* tile;
  const float* mean;  // [D]
  float mean_norm;
  const float* k_norm;  // [count]
  float* cosine;        // [count] out
  float* scratch;       // stats_scratch_floats
};

struct StatsKernels {
  void (*rows)(const StatsTask& task);
  void (*cosines)(const CosineTask& task);
};

// A tile of rows, and the same as columns.
static inline int64_t stats_scratch_floats(int head_dim) {
  return int64_t{kTileSlots} * (padded_dim(head_dim) + head_dim);
}

SKV_DECLARE_ISA_TABLE(StatsKernels, stats_kernels)

}  // namespace spindlekv::cpu
