// Blocks of rows times a matrix: out[r][n] = sum_k a[r][k] * b[k][n], k ascending.
//
// The sum over k is one chain of fused multiply-adds per element: canonical's dot. The accumulators
// live in registers: 6 x 4 vectors where there are 32 (AVX-512, NEON), 6 x 2 elsewhere (16).
#pragma once

#include "cpu/simd.h"

namespace spindlekv::cpu::SKV_ISA {

inline constexpr int kRowBlock = 6;
inline constexpr int kColumnVecs = kHasManyRegisters ? 4 : 2;

// kRows rows, at most kRowBlock, and kColumnVecs vectors.
template <int kRows>
static inline void multiply_block(const float* a, int64_t a_stride, const float* b,
                                  int64_t b_stride, int depth, float* out, int64_t out_stride) {
  Vec acc[kRows][kColumnVecs];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kColumnVecs; ++v) acc[r][v] = zero();
  }
  for (int k = 0; k < depth; ++k) {
    Vec column[kColumnVecs];
    for (int v = 0; v < kColumnVecs; ++v) column[v] = load(b + k * b_stride + v * kWidth);
    for (int r = 0; r < kRows; ++r) {
      const Vec factor = splat(a[r * a_stride + k]);
      for (int v = 0; v < kColumnVecs; ++v) acc[r][v] = fma(factor, column[v], acc[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kColumnVecs; ++v) store(out + r * out_stride + v * kWidth, acc[r][v]);
  }
}

}  // namespace spindlekv::cpu::SKV_ISA
