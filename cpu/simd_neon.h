// cpu/simd.h on NEON, which every AArch64 processor has, its conversions of f16 included.
#pragma once

#include <arm_neon.h>

#include "cpu/convert.h"

namespace spindlekv::cpu::SKV_ISA {

inline constexpr int kWidth = 4;
inline constexpr bool kHasManyRegisters = true;
inline constexpr bool kHasFma = true;

struct Vec {
  float32x4_t v;
};

struct Mask {
  uint32x4_t m;
};

static inline Vec zero() { return {vdupq_n_f32(0.0f)}; }
static inline Vec splat(float x) { return {vdupq_n_f32(x)}; }

static inline Vec load(const float* p) { return {vld1q_f32(p)}; }
static inline Vec load(const F16* p) {
  return {vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(&p->bits)))};
}
static inline Vec load(const Bf16* p) {
  return {vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(&p->bits), 16))};
}
// Never called: rows are a multiple of 8 long, so nothing is left over for 8 at a time.
template <class Element>
static inline Vec load_8(const Element* p) {
  return load(p);
}

static inline void store(float* p, Vec a) { vst1q_f32(p, a.v); }
static inline void store(F16* p, Vec a) {
  vst1_u16(&p->bits, vreinterpret_u16_f16(vcvt_f16_f32(a.v)));
}
// To nearest even, NaN made quiet.
static inline void store(Bf16* p, Vec a) {
  const uint32x4_t bits = vreinterpretq_u32_f32(a.v);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  const uint32x4_t rounded = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd);
  const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
  const uint32x4_t is_number = vceqq_f32(a.v, a.v);
  vst1_u16(&p->bits, vshrn_n_u32(vbslq_u32(is_number, rounded, quiet), 16));
}
template <class Element>
static inline void store_8(Element* p, Vec a) {
  store(p, a);
}

static inline Vec add(Vec a, Vec b) { return {vaddq_f32(a.v, b.v)}; }
static inline Vec sub(Vec a, Vec b) { return {vsubq_f32(a.v, b.v)}; }
static inline Vec mul(Vec a, Vec b) { return {vmulq_f32(a.v, b.v)}; }
static inline Vec div(Vec a, Vec b) { return {vdivq_f32(a.v, b.v)}; }
// b where the two do not compare: vmaxq_f32 would give NaN.
static inline Vec max(Vec a, Vec b) { return {vbslq_f32(vcgtq_f32(a.v, b.v), a.v, b.v)}; }
// a * b + c and c - a * b, rounded once.
static inline Vec fma(Vec a, Vec b, Vec c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
static inline Vec neg_fma(Vec a, Vec b, Vec c) { return {vfmsq_f32(c.v, a.v, b.v)}; }
static inline Vec madd(Vec a, Vec b, Vec c) { return fma(a, b, c); }
static inline Vec neg_madd(Vec a, Vec b, Vec c) { return neg_fma(a, b, c); }

// To the nearest integer, ties to even.
static inline Vec round_nearest(Vec a) { return {vrndnq_f32(a.v)}; }
// 2^n for integers n in [-126, 127].
static inline Vec power_of_two(Vec n) {
  const int32x4_t exponent = vaddq_s32(vcvtnq_s32_f32(n.v), vdupq_n_s32(127));
  return {vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23))};
}

// a * 2^n, for the same n.
static inline Vec scale_by_power(Vec a, Vec n) { return mul(a, power_of_two(n)); }

static inline Mask less(Vec a, Vec b) { return {vcltq_f32(a.v, b.v)}; }
static inline Vec select(Mask m, Vec if_true, Vec if_false) {
  return {vbslq_f32(m.m, if_true.v, if_false.v)};
}
static inline Mask both(Mask a, Mask b) { return {vandq_u32(a.m, b.m)}; }
static inline bool all(Mask m) { return vminvq_u32(m.m) != 0; }
static inline bool any(Mask m) { return vmaxvq_u32(m.m) != 0; }
// Bit i: lane i of a comparison.
static inline uint32_t bits_of(uint32x4_t m) {
  static constexpr uint32_t kLaneBits[kWidth] = {1, 2, 4, 8};
  return vaddvq_u32(vandq_u32(m, vld1q_u32(kLaneBits)));
}
// p[lane] <= limit, and (p[lane] & bit) != 0.
static inline Mask at_most(const int32_t* p, int32_t limit) {
  return {vcleq_s32(vld1q_s32(p), vdupq_n_s32(limit))};
}
static inline Mask has_bit(const int32_t* p, int32_t bit) {
  return {vtstq_s32(vld1q_s32(p), vdupq_n_s32(bit))};
}

// Not vmaxvq_f32: NaN in a lane that the others outweigh is dropped, as on the other paths.
static inline float reduce_max(Vec a) {
  const Vec half = max(a, {vextq_f32(a.v, a.v, 2)});
  return vgetq_lane_f32(max(half, {vextq_f32(half.v, half.v, 1)}).v, 0);
}

// Lane i plus lane i + 2, then + 1: the tail of canonical's halving sum.
static inline float halving_sum(Vec a) {
  return vpadds_f32(vadd_f32(vget_low_f32(a.v), vget_high_f32(a.v)));
}

// The sums of four vectors, to out[0..4).
static inline void sum_4(const Vec* a, float* out) {
  const float32x4_t ab = vpaddq_f32(a[0].v, a[1].v);
  const float32x4_t cd = vpaddq_f32(a[2].v, a[3].v);
  vst1q_f32(out, vpaddq_f32(ab, cd));
}

// Even and odd elements of 8 floats, and back.
static inline void split_pairs(Vec low, Vec high, Vec* even, Vec* odd) {
  even->v = vuzp1q_f32(low.v, high.v);
  odd->v = vuzp2q_f32(low.v, high.v);
}
static inline void store_pairs(float* p, Vec even, Vec odd) {
  vst1q_f32(p, vzip1q_f32(even.v, odd.v));
  vst1q_f32(p + kWidth, vzip2q_f32(even.v, odd.v));
}

}  // namespace spindlekv::cpu::SKV_ISA
