// Single rows: conversion, rotation, norm.
#include "cpu/row_kernels.h"

#include "cpu/isa/rows.h"

namespace spindlekv::cpu::SKV_ISA {
namespace {

void load_floats(int32_t dtype, const void* in, float* out, int head_dim) {
  load_row_of(dtype, in, out, head_dim, head_dim);
}

void rotate(float* row, const SkvRope& rope, int64_t distance, bool is_back) {
  rotate_row(row, table_row(rope, distance), rope.n_rot, rope.style, is_back ? -1.0f : 1.0f);
}

float norm(const float* row, int head_dim) {
  float sum = 0.0f;
  for (int d = 0; d < head_dim; ++d) sum = __builtin_fmaf(row[d], row[d], sum);
  return __builtin_sqrtf(sum);
}

}  // namespace

extern const RowKernels row_kernels = {load_floats, store_row_of, rotate, norm};

}  // namespace spindlekv::cpu::SKV_ISA
