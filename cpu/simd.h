// A vector of kWidth floats, the same interface for every instruction set: 16 lanes of AVX-512, 8
// of AVX2 + FMA + F16C, 4 of NEON, or 4 of what the compiler's generic vectors become (SSE2).
//
// Only sources under cpu/isa/ include this; everything sits in the namespace that SKV_ISA names.
// fma is a true fused multiply-add everywhere, because the canonical arithmetic (core/canonical.h)
// is defined by it: where the baseline has none, it is computed in double, correctly and slowly.
// madd may round twice and is for results that are compared with a tolerance. kHasFma: fma is one
// instruction; kHasManyRegisters: 32 vector registers, else 16.
#pragma once

#include "core/canonical.h"
#include "cpu/convert.h"

#if !defined(SKV_ISA)
#error "expected SKV_ISA: baseline, avx2 or avx512"
#endif

#if defined(__AVX512F__)
#include "cpu/simd_avx512.h"
#elif defined(__AVX2__)
#include "cpu/simd_avx2.h"
#elif defined(__aarch64__)
#include "cpu/simd_neon.h"
#else
#include "cpu/simd_generic.h"
#endif

namespace spindlekv::cpu::SKV_ISA {

// ---- made of the primitives above -----------------------------------------------------

// Even and odd ones of 2 kWidth elements.
template <class Element>
static inline void load_pairs(const Element* p, Vec* even, Vec* odd) {
  split_pairs(load(p), load(p + kWidth), even, odd);
}

#if !defined(__AVX512F__)
// The sums of four times four vectors, those of a[r] to out[r * stride + 0..4).
static inline void sum_4x4(const Vec (*a)[4], float* out, int64_t stride) {
  for (int r = 0; r < 4; ++r) sum_4(a[r], out + r * stride);
}
#endif

// canonical::exp_canonical in every lane, bit for bit. Lanes above 0 are not meant to occur.
static inline Vec exp_canonical(Vec x) {
  namespace c = spindlekv::canonical;
  const Vec n = round_nearest(mul(x, splat(c::kLog2e)));
  Vec r = fma(n, splat(-c::kLn2Hi), x);
  r = fma(n, splat(-c::kLn2Lo), r);
  Vec p = splat(c::kExpC6);
  p = fma(p, r, splat(c::kExpC5));
  p = fma(p, r, splat(c::kExpC4));
  p = fma(p, r, splat(c::kExpC3));
  p = fma(p, r, splat(c::kExpC2));
  p = fma(p, r, splat(c::kExpC1));
  p = add(fma(p, mul(r, r), r), splat(1.0f));
  const Vec result = mul(p, power_of_two(n));
  // Below the floor 0; NaN compares false and keeps the polynomial's NaN.
  return select(less(x, splat(c::kExpFloor)), splat(0.0f), result);
}

// The same with multiply-adds that may round twice: relative error below 1e-6.
static inline Vec exp_fast(Vec x) {
  namespace c = spindlekv::canonical;
  const Vec n = round_nearest(mul(x, splat(c::kLog2e)));
  Vec r = madd(n, splat(-c::kLn2Hi), x);
  r = madd(n, splat(-c::kLn2Lo), r);
  Vec p = splat(c::kExpC6);
  p = madd(p, r, splat(c::kExpC5));
  p = madd(p, r, splat(c::kExpC4));
  p = madd(p, r, splat(c::kExpC3));
  p = madd(p, r, splat(c::kExpC2));
  p = madd(p, r, splat(c::kExpC1));
  p = madd(madd(p, r, splat(1.0f)), r, splat(1.0f));
  return select(less(x, splat(c::kExpFloor)), splat(0.0f), scale_by_power(p, n));
}

// 2^x for x <= 1, relative error below 2e-7; 0 below the smallest normal number. The polynomial is
// the best of its degree for 2^r on [-1/2, 1/2], to 2e-9.
static inline Vec exp2_fast(Vec x) {
  const Vec n = round_nearest(x);
  const Vec r = sub(x, n);
  Vec p = splat(1.534581242594868e-4f);
  p = madd(p, r, splat(1.3399930903688073e-3f));
  p = madd(p, r, splat(9.618489071726799e-3f));
  p = madd(p, r, splat(5.550328642129898e-2f));
  p = madd(p, r, splat(2.4022646248340607e-1f));
  p = madd(p, r, splat(6.931471824645996e-1f));
  p = madd(p, r, splat(1.0f));
  return select(less(x, splat(-126.0f)), splat(0.0f), scale_by_power(p, n));
}

// Copies n elements, a multiple of 8, from `in` to floats.
template <class Element>
static inline void to_floats(const Element* in, float* out, int n) {
  int d = 0;
  for (; d + kWidth <= n; d += kWidth) store(out + d, load(in + d));
  if (kWidth > 8 && d < n) store_8(out + d, load_8(in + d));
}

// Rounds n floats, a multiple of 8, to `out`.
template <class Element>
static inline void from_floats(const float* in, Element* out, int n) {
  int d = 0;
  for (; d + kWidth <= n; d += kWidth) store(out + d, load(in + d));
  if (kWidth > 8 && d < n) store_8(out + d, load_8(in + d));
}

}  // namespace spindlekv::cpu::SKV_ISA
