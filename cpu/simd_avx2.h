// cpu/simd.h on AVX2 + FMA + F16C.
#pragma once

#include <immintrin.h>

#include "cpu/convert.h"

namespace spindlekv::cpu::SKV_ISA {

inline constexpr int kWidth = 8;
inline constexpr bool kHasManyRegisters = false;
inline constexpr bool kHasFma = true;

struct Vec {
  __m256 v;
};

struct Mask {
  __m256 m;
};

static inline Vec zero() { return {_mm256_setzero_ps()}; }
static inline Vec splat(float x) { return {_mm256_set1_ps(x)}; }

static inline Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
static inline Vec load(const F16* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
static inline Vec load(const Bf16* p) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))};
}
template <class Element>
static inline Vec load_8(const Element* p) {
  return load(p);
}

static inline void store(float* p, Vec a) { _mm256_storeu_ps(p, a.v); }
static inline void store(F16* p, Vec a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm256_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
// To nearest even, NaN made quiet.
static inline void store(Bf16* p, Vec a) {
  const __m256i bits = _mm256_castps_si256(a.v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q));
  const __m256i chosen = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, is_nan), 16);
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(p),
      _mm_packus_epi32(_mm256_castsi256_si128(chosen), _mm256_extracti128_si256(chosen, 1)));
}
template <class Element>
static inline void store_8(Element* p, Vec a) {
  store(p, a);
}

static inline Vec add(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
static inline Vec sub(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
static inline Vec mul(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
static inline Vec div(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
// b where the two do not compare.
static inline Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
// a * b + c and c - a * b, rounded once.
static inline Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
static inline Vec neg_fma(Vec a, Vec b, Vec c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }
static inline Vec madd(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
static inline Vec neg_madd(Vec a, Vec b, Vec c) { return neg_fma(a, b, c); }

// To the nearest integer, ties to even.
static inline Vec round_nearest(Vec a) {
  return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
// 2^n for integers n in [-126, 127].
static inline Vec power_of_two(Vec n) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23))};
}

// a * 2^n, for the same n.
static inline Vec scale_by_power(Vec a, Vec n) { return mul(a, power_of_two(n)); }

static inline Mask less(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
static inline Vec select(Mask m, Vec if_true, Vec if_false) {
  return {_mm256_blendv_ps(if_false.v, if_true.v, m.m)};
}
static inline Mask both(Mask a, Mask b) { return {_mm256_and_ps(a.m, b.m)}; }
static inline bool all(Mask m) { return _mm256_movemask_ps(m.m) == 0xff; }
static inline bool any(Mask m) { return _mm256_movemask_ps(m.m) != 0; }
// p[lane] <= limit, and (p[lane] & bit) != 0.
static inline Mask at_most(const int32_t* p, int32_t limit) {
  const __m256i values = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  const __m256i above = _mm256_cmpgt_epi32(values, _mm256_set1_epi32(limit));
  return {_mm256_castsi256_ps(_mm256_xor_si256(above, _mm256_set1_epi32(-1)))};
}
static inline Mask has_bit(const int32_t* p, int32_t bit) {
  const __m256i values = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  const __m256i common = _mm256_and_si256(values, _mm256_set1_epi32(bit));
  const __m256i none = _mm256_cmpeq_epi32(common, _mm256_setzero_si256());
  return {_mm256_castsi256_ps(_mm256_xor_si256(none, _mm256_set1_epi32(-1)))};
}

static inline float reduce_max(Vec a) {
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

// Lane i plus lane i + 4, then + 2, + 1: the tail of canonical's halving sum.
static inline float halving_sum(Vec a) {
  const __m128 by_4 = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  const __m128 by_2 = _mm_add_ps(by_4, _mm_movehl_ps(by_4, by_4));
  return _mm_cvtss_f32(_mm_add_ss(by_2, _mm_movehdup_ps(by_2)));
}

// The sums of four vectors, to out[0..4).
static inline void sum_4(const Vec* a, float* out) {
  const __m256 ab = _mm256_hadd_ps(a[0].v, a[1].v);
  const __m256 cd = _mm256_hadd_ps(a[2].v, a[3].v);
  const __m256 abcd = _mm256_hadd_ps(ab, cd);
  _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1)));
}

// Even and odd elements of 16 floats, and back.
static inline void split_pairs(Vec low, Vec high, Vec* even, Vec* odd) {
  const __m256 left = _mm256_permute2f128_ps(low.v, high.v, 0x20);
  const __m256 right = _mm256_permute2f128_ps(low.v, high.v, 0x31);
  even->v = _mm256_shuffle_ps(left, right, 0x88);
  odd->v = _mm256_shuffle_ps(left, right, 0xdd);
}
static inline void store_pairs(float* p, Vec even, Vec odd) {
  const __m256 low = _mm256_unpacklo_ps(even.v, odd.v);
  const __m256 high = _mm256_unpackhi_ps(even.v, odd.v);
  _mm256_storeu_ps(p, _mm256_permute2f128_ps(low, high, 0x20));
  _mm256_storeu_ps(p + 8, _mm256_permute2f128_ps(low, high, 0x31));
}

}  // namespace spindlekv::cpu::SKV_ISA
