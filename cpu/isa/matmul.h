// Blocks of 6 rows times a matrix: out[r][n] = start + sum_k a[r][k] * b[k][n], k ascending.
//
// The sum over k is one chain of multiply-adds per element, so with kFused it is canonical's dot.
// The accumulators live in registers: 6 x 4 vectors on AVX-512 (32 registers), 6 x 2 elsewhere
// (16).
#pragma once

#include "cpu/simd.h"

namespace spindlekv::cpu::SKV_ISA {

inline constexpr int kRowBlock = 6;
inline constexpr int kColumnVecs = kWidth == 16 ? 4 : 2;

// One block of kRows rows and kVecs vectors. start: NULL for 0, else per-row factors of what `out`
// holds.
template <bool kFused, int kVecs, int kRows = kRowBlock>
static inline void multiply_block(const float* a, int64_t a_stride, const float* b,
                                  int64_t b_stride, int depth, const float* start, float* out,
                                  int64_t out_stride) {
  Vec acc[kRows][kVecs];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) {
      acc[r][v] =
          start == nullptr ? zero() : mul(load(out + r * out_stride + v * kWidth), splat(start[r]));
    }
  }
  for (int k = 0; k < depth; ++k) {
    Vec column[kVecs];
    for (int v = 0; v < kVecs; ++v) column[v] = load(b + k * b_stride + v * kWidth);
    for (int r = 0; r < kRows; ++r) {
      const Vec factor = splat(a[r * a_stride + k]);
      for (int v = 0; v < kVecs; ++v) {
        acc[r][v] = kFused ? fma(factor, column[v], acc[r][v]) : madd(factor, column[v], acc[r][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVecs; ++v) store(out + r * out_stride + v * kWidth, acc[r][v]);
  }
}

// rows is a multiple of 6, columns one of 16. start: NULL, or [rows].
template <bool kFused>
static inline void multiply_rows(const float* a, int64_t a_stride, const float* b, int64_t b_stride,
                                 int rows, int depth, int columns, const float* start, float* out,
                                 int64_t out_stride) {
  int n = 0;
  for (; n + kColumnVecs * kWidth <= columns; n += kColumnVecs * kWidth) {
    for (int r = 0; r < rows; r += kRowBlock) {
      multiply_block<kFused, kColumnVecs>(a + r * a_stride, a_stride, b + n, b_stride, depth,
                                          start == nullptr ? nullptr : start + r,
                                          out + r * out_stride + n, out_stride);
    }
  }
  for (; n < columns; n += kWidth) {
    for (int r = 0; r < rows; r += kRowBlock) {
      multiply_block<kFused, 1>(a + r * a_stride, a_stride, b + n, b_stride, depth,
                                start == nullptr ? nullptr : start + r, out + r * out_stride + n,
                                out_stride);
    }
  }
}

}  // namespace spindlekv::cpu::SKV_ISA
