// cpu/simd.h on AVX-512 (F, BW, VL, DQ).
#pragma once

#include <immintrin.h>

#include "cpu/convert.h"

namespace spindlekv::cpu::SKV_ISA {

inline constexpr int kWidth = 16;
inline constexpr bool kHasManyRegisters = true;
inline constexpr bool kHasFma = true;

struct Vec {
  __m512 v;
};

struct Mask {
  __mmask16 m;
};

static inline Vec zero() { return {_mm512_setzero_ps()}; }
static inline Vec splat(float x) { return {_mm512_set1_ps(x)}; }

static inline Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
static inline Vec load(const F16* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
static inline Vec load(const Bf16* p) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
}

// The first 8 elements, zeros above.
static inline Vec load_8(const float* p) { return {_mm512_maskz_loadu_ps(0xff, p)}; }
static inline Vec load_8(const F16* p) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm512_zextps256_ps512(_mm256_cvtph_ps(bits))};
}
static inline Vec load_8(const Bf16* p) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  const __m256i wide = _mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16);
  return {_mm512_zextps256_ps512(_mm256_castsi256_ps(wide))};
}

// Floats to bf16 bits, to nearest even, NaN made quiet.
static inline __m256i bf16_bits(Vec a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __mmask16 is_nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  const __m512i chosen = _mm512_mask_mov_epi32(rounded, is_nan, quiet);
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(chosen, 16));
}

static inline void store(float* p, Vec a) { _mm512_storeu_ps(p, a.v); }
static inline void store(F16* p, Vec a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline void store(Bf16* p, Vec a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), bf16_bits(a));
}

static inline void store_8(float* p, Vec a) { _mm256_storeu_ps(p, _mm512_castps512_ps256(a.v)); }
static inline void store_8(F16* p, Vec a) {
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(p),
      _mm256_cvtps_ph(_mm512_castps512_ps256(a.v), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline void store_8(Bf16* p, Vec a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(bf16_bits(a)));
}

static inline Vec add(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
static inline Vec sub(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
static inline Vec mul(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
static inline Vec div(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
// b where the two do not compare.
static inline Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
// a * b + c and c - a * b, rounded once.
static inline Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
static inline Vec neg_fma(Vec a, Vec b, Vec c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }
static inline Vec madd(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
static inline Vec neg_madd(Vec a, Vec b, Vec c) { return neg_fma(a, b, c); }

// To the nearest integer, ties to even.
static inline Vec round_nearest(Vec a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
// 2^n for integers n in [-126, 127].
static inline Vec power_of_two(Vec n) {
  const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23))};
}

// a * 2^n, for the same n.
static inline Vec scale_by_power(Vec a, Vec n) { return {_mm512_scalef_ps(a.v, n.v)}; }

static inline Mask less(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
static inline Vec select(Mask m, Vec if_true, Vec if_false) {
  return {_mm512_mask_blend_ps(m.m, if_false.v, if_true.v)};
}
static inline Mask both(Mask a, Mask b) { return {static_cast<__mmask16>(a.m & b.m)}; }
static inline bool all(Mask m) { return m.m == 0xffff; }
static inline bool any(Mask m) { return m.m != 0; }
// p[lane] <= limit, and (p[lane] & bit) != 0.
static inline Mask at_most(const int32_t* p, int32_t limit) {
  return {_mm512_cmple_epi32_mask(_mm512_loadu_si512(p), _mm512_set1_epi32(limit))};
}
static inline Mask has_bit(const int32_t* p, int32_t bit) {
  return {_mm512_test_epi32_mask(_mm512_loadu_si512(p), _mm512_set1_epi32(bit))};
}

static inline float reduce_max(Vec a) { return _mm512_reduce_max_ps(a.v); }

// Lane i plus lane i + 8, then + 4, + 2, + 1: the tail of canonical's halving sum.
static inline float halving_sum(Vec a) {
  const __m256 by_8 = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 by_4 = _mm_add_ps(_mm256_castps256_ps128(by_8), _mm256_extractf128_ps(by_8, 1));
  const __m128 by_2 = _mm_add_ps(by_4, _mm_movehl_ps(by_4, by_4));
  return _mm_cvtss_f32(_mm_add_ss(by_2, _mm_movehdup_ps(by_2)));
}

// The sums of four vectors, to out[0..4).
static inline void sum_4(const Vec* a, float* out) {
  const __m512 ab =
      _mm512_add_ps(_mm512_unpacklo_ps(a[0].v, a[1].v), _mm512_unpackhi_ps(a[0].v, a[1].v));
  const __m512 cd =
      _mm512_add_ps(_mm512_unpacklo_ps(a[2].v, a[3].v), _mm512_unpackhi_ps(a[2].v, a[3].v));
  const __m512 abcd =
      _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
  const __m256 folded =
      _mm256_add_ps(_mm512_castps512_ps256(abcd), _mm512_extractf32x8_ps(abcd, 1));
  _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(folded), _mm256_extractf128_ps(folded, 1)));
}

// The sums of four times four vectors, those of a[r] to out[r * stride + 0..4). Each step adds
// halves of two vectors into one, with one shuffle where sum_4 needs two.
static inline void sum_4x4(const Vec (*a)[4], float* out, int64_t stride) {
  const __m512i quarters =
      _mm512_setr_epi32(4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 24, 25, 26, 27);
  const auto halves = [](__m512 low, __m512 high) {
    return _mm512_add_ps(_mm512_mask_blend_ps(0xff00, low, high),
                         _mm512_shuffle_f32x4(low, high, 0x4e));
  };
  __m512 by_4[4];  // [i]: quarter r holds row r's four partial sums of vector i
  for (int i = 0; i < 4; ++i) {
    const __m512 even = halves(a[0][i].v, a[2][i].v);
    const __m512 odd = halves(a[1][i].v, a[3][i].v);
    by_4[i] = _mm512_add_ps(_mm512_mask_blend_ps(0xf0f0, even, odd),
                            _mm512_permutex2var_ps(even, quarters, odd));
  }
  const auto pairs = [](__m512 first, __m512 second) {
    return _mm512_add_ps(_mm512_mask_blend_ps(0xcccc, first, second),
                         _mm512_shuffle_ps(first, second, 0x4e));
  };
  const __m512 low = pairs(by_4[0], by_4[1]);
  const __m512 high = pairs(by_4[2], by_4[3]);
  const __m512 sums =
      _mm512_add_ps(_mm512_shuffle_ps(low, high, 0x88), _mm512_shuffle_ps(low, high, 0xdd));
  _mm_storeu_ps(out, _mm512_castps512_ps128(sums));
  _mm_storeu_ps(out + stride, _mm512_extractf32x4_ps(sums, 1));
  _mm_storeu_ps(out + 2 * stride, _mm512_extractf32x4_ps(sums, 2));
  _mm_storeu_ps(out + 3 * stride, _mm512_extractf32x4_ps(sums, 3));
}

// Even and odd elements of 32 floats, and back.
static inline void split_pairs(Vec low, Vec high, Vec* even, Vec* odd) {
  const __m512i evens =
      _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odds = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  even->v = _mm512_permutex2var_ps(low.v, evens, high.v);
  odd->v = _mm512_permutex2var_ps(low.v, odds, high.v);
}
static inline void store_pairs(float* p, Vec even, Vec odd) {
  const __m512i lows = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i highs =
      _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  _mm512_storeu_ps(p, _mm512_permutex2var_ps(even.v, lows, odd.v));
  _mm512_storeu_ps(p + 16, _mm512_permutex2var_ps(even.v, highs, odd.v));
}

}  // namespace spindlekv::cpu::SKV_ISA
