// Kernels on single rows of head_dim elements, for append_kv and rope.
#pragma once

#include <cstdint>

#include "core/types.h"
#include "cpu/isa.h"

namespace spindlekv::cpu {

struct RowKernels {
  // To floats, and back with one rounding; dtype is f32, f16 or bf16.
  void (*load)(int32_t dtype, const void* in, float* out, int head_dim);
  void (*store)(int32_t dtype, const float* in, void* out, int head_dim);
  // Turns the leading n_rot elements by the table's row `distance`, the other way if is_back
  // (canonical).
  void (*rotate)(float* row, const SkvRope& rope, int64_t distance, bool is_back);
  // L2 norm (canonical).
  float (*norm)(const float* row, int head_dim);
};

SKV_DECLARE_ISA_TABLE(RowKernels, row_kernels)

}  // namespace spindlekv::cpu
