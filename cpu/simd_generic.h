// cpu/simd.h on the compiler's generic vectors of 4 floats: SSE2 on x86-64, NEON on AArch64.
#pragma once

#include "cpu/convert.h"

namespace spindlekv::cpu::SKV_ISA {

inline constexpr int kWidth = 4;

typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Ints __attribute__((vector_size(16)));
typedef uint32_t Bits __attribute__((vector_size(16)));

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
template <class Element>
static inline Vec load(const Element* p) {
  return {Floats{to_float(p[0]), to_float(p[1]), to_float(p[2]), to_float(p[3])}};
}
// Never called: rows are a multiple of 8 long, so nothing is left over for 8 at a time.
template <class Element>
static inline Vec load_8(const Element* p) { return load(p); }

static inline void store(float* p, Vec a) { memcpy(p, &a.v, sizeof(a.v)); }
template <class Element>
static inline void store(Element* p, Vec a) {
  for (int i = 0; i < kWidth; ++i) from_float(a.v[i], p + i);
}
template <class Element>
static inline void store_8(Element* p, Vec a) { store(p, a); }

static inline Vec add(Vec a, Vec b) { return {a.v + b.v}; }
static inline Vec sub(Vec a, Vec b) { return {a.v - b.v}; }
static inline Vec mul(Vec a, Vec b) { return {a.v * b.v}; }
static inline Vec div(Vec a, Vec b) { return {a.v / b.v}; }
static inline Vec blend(Ints m, Vec if_true, Vec if_false) {
  return {(Floats)(((Ints)if_true.v & m) | ((Ints)if_false.v & ~m))};
}
// b where the two do not compare.
static inline Vec max(Vec a, Vec b) { return blend(a.v > b.v, a, b); }
// a * b + c and c - a * b, rounded once.
static inline Vec fma(Vec a, Vec b, Vec c) {
  Vec r;
  for (int i = 0; i < kWidth; ++i) r.v[i] = __builtin_fmaf(a.v[i], b.v[i], c.v[i]);
  return r;
}
static inline Vec neg_fma(Vec a, Vec b, Vec c) { return fma({-a.v}, b, c); }
#if defined(__FP_FAST_FMAF)
static inline Vec madd(Vec a, Vec b, Vec c) { return fma(a, b, c); }
#else
static inline Vec madd(Vec a, Vec b, Vec c) { return {a.v * b.v + c.v}; }
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

static inline Mask less(Vec a, Vec b) { return {a.v < b.v}; }
static inline Vec select(Mask m, Vec if_true, Vec if_false) { return blend(m.m, if_true, if_false); }
static inline Mask both(Mask a, Mask b) { return {a.m & b.m}; }
static inline bool all(Mask m) { return (m.m[0] & m.m[1] & m.m[2] & m.m[3]) != 0; }
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
static inline float halving_sum(Vec a) {
  return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]);
}

// The sums of four vectors, to out[0..4).
static inline void sum_4(const Vec* a, float* out) {
  for (int i = 0; i < 4; ++i) out[i] = halving_sum(a[i]);
}

// Even and odd elements of 8 floats, and back.
static inline void load_pairs(const float* p, Vec* even, Vec* odd) {
  even->v = Floats{p[0], p[2], p[4], p[6]};
  odd->v = Floats{p[1], p[3], p[5], p[7]};
}
static inline void store_pairs(float* p, Vec even, Vec odd) {
  for (int i = 0; i < kWidth; ++i) {
    p[2 * i] = even.v[i];
    p[2 * i + 1] = odd.v[i];
  }
}

}  // namespace spindlekv::cpu::SKV_ISA
