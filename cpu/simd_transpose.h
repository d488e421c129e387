// out[j][i] = in[i][j] for an 8 x 8 block of floats, whose rows are `in_stride` floats apart or lie
// anywhere, `at` floats behind in[i]; strides in floats.
#pragma once

#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
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

}  // namespace spindlekv::cpu::SKV_ISA
