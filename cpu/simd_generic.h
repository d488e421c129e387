// cpu/simd.h on the compiler's generic vectors of 4 floats: SSE2 on x86-64.
#pragma once

#include "cpu/convert.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace spindlekv::cpu::SKV_ISA {

inline constexpr int kWidth = 4;
inline constexpr bool kHasManyRegisters = false;
inline constexpr bool kHasFma = false;

typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Ints __attribute__((vector_size(16)));
typedef uint32_t Bits __attribute__((vector_size(16)));
typedef uint16_t Halves __attribute__((vector_size(8)));

struct Vec {
  Floats v;
};

struct Mask {
  Ints m;
};

static inline Vec zero() { return {Floats{0.0f, 0.0f, 0.0f, 0.0f}}; }
static inline Vec splat(float x) { return {Floats{x, x, x, x}}; }

static inline Vec load(const float* p) {
  Vec a;
  memcpy(&a.v, p, sizeof(a.v));
  return a;
}
// Four 16-bit patterns as integers.
template <class Element>
static inline Bits load_bits(const Element* p) {
  Halves halves;
  memcpy(&halves, p, sizeof(halves));
  return __builtin_convertvector(halves, Bits);
}
static inline Vec load(const Bf16* p) { return {(Floats)(load_bits(p) << 16)}; }
// As to_float(F16), four at a time.
static inline Vec load(const F16* p) {
  const Bits bits = load_bits(p);
  const Bits rest = bits & 0x7fffu;
  const Bits scaled = (Bits)((Floats)(rest << 13) * 0x1p112f);
  const Bits quiet = (Bits)(rest > 0x7c00u) & 0x00400000u;
  const Bits special = (rest << 13) | 0x7f800000u | quiet;
  const Bits is_special = (Bits)(rest >= 0x7c00u);
  return {(Floats)(((bits & 0x8000u) << 16) | (special & is_special) | (scaled & ~is_special))};
}
// Never called: rows are a multiple of 8 long, so nothing is left over for 8 at a time.
template <class Element>
static inline Vec load_8(const Element* p) {
  return load(p);
}

static inline void store(float* p, Vec a) { memcpy(p, &a.v, sizeof(a.v)); }
template <class Element>
static inline void store(Element* p, Vec a) {
  for (int i = 0; i < kWidth; ++i) from_float(a.v[i], p + i);
}
template <class Element>
static inline void store_8(Element* p, Vec a) {
  store(p, a);
}

static inline Vec add(Vec a, Vec b) { return {a.v + b.v}; }
static inline Vec sub(Vec a, Vec b) { return {a.v - b.v}; }
static inline Vec mul(Vec a, Vec b) { return {a.v * b.v}; }
static inline Vec div(Vec a, Vec b) { return {a.v / b.v}; }
static inline Vec blend(Ints m, Vec if_true, Vec if_false) {
  return {(Floats)(((Ints)if_true.v & m) | ((Ints)if_false.v & ~m))};
}
// b where the two do not compare.
static inline Vec max(Vec a, Vec b) { return blend(a.v > b.v, a, b); }
#if defined(__SSE2__)
// a * b + c in double, rounded to odd. The product of floats is exact; when the sum is not, its
// last bit is made 1 in the direction of what was lost, so that rounding it to float sees on which
// side of a tie the true value lies (Boldo and Melquiond, 2008). NaN and infinity make `lost` NaN
// and stay as they are.
static inline __m128d fma_to_odd(__m128d a, __m128d b, __m128d c) {
  const __m128d product = _mm_mul_pd(a, b);
  const __m128d sum = _mm_add_pd(product, c);
  const __m128d shadow = _mm_sub_pd(sum, product);
  const __m128d lost =
      _mm_add_pd(_mm_sub_pd(product, _mm_sub_pd(sum, shadow)), _mm_sub_pd(c, shadow));
  const __m128d none = _mm_setzero_pd();
  const __m128d is_inexact = _mm_or_pd(_mm_cmpgt_pd(lost, none), _mm_cmplt_pd(lost, none));
  const __m128i inward =
      _mm_castpd_si128(_mm_xor_pd(_mm_cmpgt_pd(lost, none), _mm_cmpgt_pd(sum, none)));
  const __m128i one = _mm_set_epi32(0, 1, 0, 1);
  const __m128i is_even = _mm_andnot_si128(_mm_castpd_si128(sum), one);
  const __m128i step = _mm_and_si128(is_even, _mm_castpd_si128(is_inexact));
  const __m128i signed_step = _mm_sub_epi64(_mm_xor_si128(step, inward), inward);
  return _mm_castsi128_pd(_mm_add_epi64(_mm_castpd_si128(sum), signed_step));
}
#endif

// a * b + c and c - a * b, rounded once.
static inline Vec fma(Vec a, Vec b, Vec c) {
#if defined(__SSE2__)
  const __m128 x = (__m128)a.v, y = (__m128)b.v, z = (__m128)c.v;
  const __m128d low = fma_to_odd(_mm_cvtps_pd(x), _mm_cvtps_pd(y), _mm_cvtps_pd(z));
  const __m128d high =
      fma_to_odd(_mm_cvtps_pd(_mm_movehl_ps(x, x)), _mm_cvtps_pd(_mm_movehl_ps(y, y)),
                 _mm_cvtps_pd(_mm_movehl_ps(z, z)));
  return {(Floats)_mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high))};
#else
  Vec r;
  for (int i = 0; i < kWidth; ++i) r.v[i] = __builtin_fmaf(a.v[i], b.v[i], c.v[i]);
  return r;
#endif
}
static inline Vec neg_fma(Vec a, Vec b, Vec c) { return fma({-a.v}, b, c); }
#if defined(__FP_FAST_FMAF)
static inline Vec madd(Vec a, Vec b, Vec c) { return fma(a, b, c); }
static inline Vec neg_madd(Vec a, Vec b, Vec c) { return neg_fma(a, b, c); }
#else
static inline Vec madd(Vec a, Vec b, Vec c) { return {a.v * b.v + c.v}; }
static inline Vec neg_madd(Vec a, Vec b, Vec c) { return {c.v - a.v * b.v}; }
#endif

// To the nearest integer, ties to even, for |a| < 2^22 (larger ones are masked out by the callers).
static inline Vec round_nearest(Vec a) {
  const Vec shift = splat(12582912.0f);  // 1.5 * 2^23: no fraction bits are left
  return sub(add(a, shift), shift);
}
// 2^n for integers n in [-126, 127]; other n give some float.
static inline Vec power_of_two(Vec n) {
  // The low bits of n + 1.5 * 2^23 are the integer itself.
  const Bits integer = (Bits)(n.v + splat(12582912.0f).v) - 0x4b400000u;
  return {(Floats)((integer + 127u) << 23)};
}

// a * 2^n, for the same n.
static inline Vec scale_by_power(Vec a, Vec n) { return mul(a, power_of_two(n)); }

static inline Mask less(Vec a, Vec b) { return {a.v < b.v}; }
static inline Vec select(Mask m, Vec if_true, Vec if_false) {
  return blend(m.m, if_true, if_false);
}
static inline Mask both(Mask a, Mask b) { return {a.m & b.m}; }
static inline bool all(Mask m) { return (m.m[0] & m.m[1] & m.m[2] & m.m[3]) != 0; }
static inline bool any(Mask m) { return (m.m[0] | m.m[1] | m.m[2] | m.m[3]) != 0; }
// p[lane] <= limit, and (p[lane] & bit) != 0.
static inline Mask at_most(const int32_t* p, int32_t limit) {
  Ints values;
  memcpy(&values, p, sizeof(values));
  return {values <= Ints{limit, limit, limit, limit}};
}
static inline Mask has_bit(const int32_t* p, int32_t bit) {
  Ints values;
  memcpy(&values, p, sizeof(values));
  return {(values & Ints{bit, bit, bit, bit}) != Ints{0, 0, 0, 0}};
}

static inline float reduce_max(Vec a) {
  const float x = a.v[0] > a.v[2] ? a.v[0] : a.v[2];
  const float y = a.v[1] > a.v[3] ? a.v[1] : a.v[3];
  return x > y ? x : y;
}

// Lane i plus lane i + 2, then + 1: the tail of canonical's halving sum.
static inline float halving_sum(Vec a) { return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]); }

// The sums of four vectors, to out[0..4).
static inline void sum_4(const Vec* a, float* out) {
  for (int i = 0; i < 4; ++i) out[i] = halving_sum(a[i]);
}

// Even and odd elements of 8 floats, and back.
static inline void split_pairs(Vec low, Vec high, Vec* even, Vec* odd) {
  even->v = Floats{low.v[0], low.v[2], high.v[0], high.v[2]};
  odd->v = Floats{low.v[1], low.v[3], high.v[1], high.v[3]};
}
static inline void store_pairs(float* p, Vec even, Vec odd) {
  for (int i = 0; i < kWidth; ++i) {
    p[2 * i] = even.v[i];
    p[2 * i + 1] = odd.v[i];
  }
}

}  // namespace spindlekv::cpu::SKV_ISA
