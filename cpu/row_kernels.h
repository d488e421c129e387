// Kernels on single rows: of head_dim elements for append_kv and rope, of any width for row_cosine.
#pragma once

#include <cstdint>

#include "core/types.h"
#include "cpu/isa.h"

namespace spindlekv::cpu {

// wide_dot of core/canonical.h of two rows with themselves and each other.
struct WideDots {
  float aa, ab, bb;
};

struct RowKernels {
  // To floats; dtype is f32, f16 or bf16.
  void (*load)(int32_t dtype, const void* in, float* out, int head_dim);
  // From one dtype to another, with one rounding.
  void (*convert)(int32_t from, const void* in, int32_t to, void* out, int head_dim);
  // The same, with the leading n_rot elements turned by the table's row `distance`, the other way
  // if is_back (canonical). in may equal out if the dtypes are one.
  void (*turn)(int32_t from, const void* in, int32_t to, void* out, int head_dim,
               const SkvRope& rope, int64_t distance, bool is_back);
  // L2 norm (canonical).
  float (*norm)(const float* row, int head_dim);
  WideDots (*wide_dots)(int32_t dtype, const void* a, const void* b, int64_t width);
};

SKV_DECLARE_ISA_TABLE(RowKernels, row_kernels)

}  // namespace spindlekv::cpu
