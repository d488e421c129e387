// out[j][i] = in[i][j] for blocks of 8 x 8 or 16 x 16 floats, whose rows are `in_stride` floats
// apart or lie anywhere, `at` floats behind in[i]; strides in floats.
#pragma once

#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace spindlekv::cpu::SKV_ISA {

#if defined(__AVX2__)
static inline void transpose_8x8(const float* const* in, int64_t at, float* out,
                                 int64_t out_stride) {
  __m256 row[8], pair[8], quad[8];
  for (int i = 0; i < 8; ++i) row[i] = _mm256_loadu_ps(in[i] + at);
  for (int i = 0; i < 8; i += 2) {
    pair[i] = _mm256_unpacklo_ps(row[i], row[i + 1]);
    pair[i + 1] = _mm256_unpackhi_ps(row[i], row[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    quad[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);
    quad[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xee);
    quad[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
    quad[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xee);
  }
  for (int j = 0; j < 4; ++j) {
    _mm256_storeu_ps(out + j * out_stride, _mm256_permute2f128_ps(quad[j], quad[j + 4], 0x20));
    _mm256_storeu_ps(out + (j + 4) * out_stride,
                     _mm256_permute2f128_ps(quad[j], quad[j + 4], 0x31));
  }
}
#elif defined(__aarch64__)
static inline void transpose_8x8(const float* const* in, int64_t at, float* out,
                                 int64_t out_stride) {
  for (int i = 0; i < 8; i += 4) {
    for (int j = 0; j < 8; j += 4) {
      float32x4_t row[4];
      for (int r = 0; r < 4; ++r) row[r] = vld1q_f32(in[i + r] + at + j);
      const float64x2_t low_01 = vreinterpretq_f64_f32(vzip1q_f32(row[0], row[1]));
      const float64x2_t high_01 = vreinterpretq_f64_f32(vzip2q_f32(row[0], row[1]));
      const float64x2_t low_23 = vreinterpretq_f64_f32(vzip1q_f32(row[2], row[3]));
      const float64x2_t high_23 = vreinterpretq_f64_f32(vzip2q_f32(row[2], row[3]));
      float* const to = out + j * out_stride + i;
      vst1q_f32(to, vreinterpretq_f32_f64(vzip1q_f64(low_01, low_23)));
      vst1q_f32(to + out_stride, vreinterpretq_f32_f64(vzip2q_f64(low_01, low_23)));
      vst1q_f32(to + 2 * out_stride, vreinterpretq_f32_f64(vzip1q_f64(high_01, high_23)));
      vst1q_f32(to + 3 * out_stride, vreinterpretq_f32_f64(vzip2q_f64(high_01, high_23)));
    }
  }
}
#else
static inline void transpose_8x8(const float* const* in, int64_t at, float* out,
                                 int64_t out_stride) {
  for (int i = 0; i < 8; ++i) {
    for (int j = 0; j < 8; ++j) out[j * out_stride + i] = in[i][at + j];
  }
}
#endif

static inline void transpose_8x8(const float* in, int64_t in_stride, float* out,
                                 int64_t out_stride) {
  const float* rows[8];
  for (int i = 0; i < 8; ++i) rows[i] = in + i * in_stride;
  transpose_8x8(rows, 0, out, out_stride);
}

#if defined(__AVX512F__)
// 16 x 16. Four rows are put together by masked loads, which cost no shuffle.
static inline void transpose_16x16(const float* in, int64_t in_stride, float* out,
                                   int64_t out_stride) {
  for (int j = 0; j < 16; j += 4) {
    __m512 row[4];  // of rows i, i + 4, i + 8, i + 12 the columns j .. j + 3
    for (int i = 0; i < 4; ++i) {
      const float* const at = in + i * in_stride + j;
      __m512 four = _mm512_castps128_ps512(_mm_loadu_ps(at));
      four = _mm512_mask_broadcast_f32x4(four, 0x00f0, _mm_loadu_ps(at + 4 * in_stride));
      four = _mm512_mask_broadcast_f32x4(four, 0x0f00, _mm_loadu_ps(at + 8 * in_stride));
      row[i] = _mm512_mask_broadcast_f32x4(four, 0xf000, _mm_loadu_ps(at + 12 * in_stride));
    }
    const __m512d low_01 = _mm512_castps_pd(_mm512_unpacklo_ps(row[0], row[1]));
    const __m512d high_01 = _mm512_castps_pd(_mm512_unpackhi_ps(row[0], row[1]));
    const __m512d low_23 = _mm512_castps_pd(_mm512_unpacklo_ps(row[2], row[3]));
    const __m512d high_23 = _mm512_castps_pd(_mm512_unpackhi_ps(row[2], row[3]));
    float* const to = out + j * out_stride;
    _mm512_storeu_pd(to, _mm512_unpacklo_pd(low_01, low_23));
    _mm512_storeu_pd(to + out_stride, _mm512_unpackhi_pd(low_01, low_23));
    _mm512_storeu_pd(to + 2 * out_stride, _mm512_unpacklo_pd(high_01, high_23));
    _mm512_storeu_pd(to + 3 * out_stride, _mm512_unpackhi_pd(high_01, high_23));
  }
}
#endif

// kRows rows of `columns` floats; both multiples of 8.
template <int kRows>
static inline void transpose_rows(const float* in, int64_t in_stride, int columns, float* out,
                                  int64_t out_stride) {
  int d = 0;
#if defined(__AVX512F__)
  if constexpr (kRows % 16 == 0) {
    for (; d + 16 <= columns; d += 16) {
      for (int i = 0; i < kRows; i += 16) {
        transpose_16x16(in + i * in_stride + d, in_stride, out + int64_t{d} * out_stride + i,
                        out_stride);
      }
    }
  }
#endif
  for (; d < columns; d += 8) {
    for (int i = 0; i < kRows; i += 8) {
      transpose_8x8(in + i * in_stride + d, in_stride, out + int64_t{d} * out_stride + i,
                    out_stride);
    }
  }
}

}  // namespace spindlekv::cpu::SKV_ISA
