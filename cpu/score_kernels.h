// Kernels on rows of scores, for pool_scores and reduce_group.
#pragma once

#include <cstdint>

#include "core/ops.h"
#include "cpu/isa.h"

namespace spindlekv::cpu {

struct ScoreKernels {
  // out[i] for i in [first, last) of a row of `length` scores; `params` says what is pooled how.
  void (*pool)(const SkvPoolScoresParams& params, const float* in, int64_t length, int64_t first,
               int64_t last, float* out);
  // `count` outputs of one row; `in` and `out` begin at the first of them.
  void (*reduce)(const SkvReduceGroupParams& params, const float* in, int64_t count, float* out);
};

SKV_DECLARE_ISA_TABLE(ScoreKernels, score_kernels)

}  // namespace spindlekv::cpu
