// The arithmetic that decides what is evicted, in one fixed order, for host and device alike.
//
// Scores, similarities and norms feed discrete decisions (top-k, thresholds, arg-max). So that the
// CPU on every SIMD path, the CUDA backend and its host emulation take the same decisions, they all
// compute these numbers by the definitions below, bit for bit. SIMD and parallel code may run over
// any *independent* axis (slots, rows, queries), never over the axis that is summed.
//
//   dot(a, b)      acc = 0; for d ascending: acc = fma(a[d], b[d], acc)
//   norm(a)        sqrt(dot(a, a));  unit(a)[d] = a[d] / norm(a), and 0 when the norm is 0
//   logit          dot(q', k') * scale + beta      (product rounded, then added; q', k' after RoPE,
//   f32) rotate         (x, y) -> (fma(-y, s, x * c), fma(y, c, x * s)) exp(x) exp_canonical below,
//   x <= 0 softmax row    blocks of 64 consecutive slots of the head (slot index / 64):
//                  m_b = max, l_b = halving sum of exp(logit - m_b) over the 64 (absent or masked:
//                  0); M = max_b m_b; L = 0; for b ascending: L = fma(l_b, exp(m_b - M), L); p =
//                  exp(logit - M) / L
//   column sum     for queries ascending: sum = sum + p; sum_sq = fma(p, p, sum_sq); max
//   halving sum    n = 32, 16, 8, 4, 2, 1: x[i] = x[i] + x[i + n] for i < n
//   mean           sum in ascending index order, then one division
//   block sum      blocks of 64 consecutive terms: each added up in ascending order from 0, then
//                  the blocks' sums in ascending order from 0
//   wide_dot(a, b) for long rows: 64 sums of their own, d ascending in each: x[d mod 64] =
//                  fma(a[d], b[d], x[d mod 64]) from 0; then the halving sum of x
//
// Compile with -ffp-contract=off (g++) and --fmad=false (nvcc): fma is explicit here.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define SKV_HOST_DEVICE __host__ __device__
#else
#define SKV_HOST_DEVICE
#endif

namespace spindlekv::canonical {

inline constexpr int kBlockSlots = 64;
// exp(x) is 0 below this: ln(2^-126), where results would turn subnormal.
inline constexpr float kExpFloor = -87.33654f;

SKV_HOST_DEVICE inline float dot(const float* a, const float* b, int n) {
  float acc = 0.0f;
  for (int d = 0; d < n; ++d) acc = std::fmaf(a[d], b[d], acc);
  return acc;
}

SKV_HOST_DEVICE inline float bits_to_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

// Constants of exp_canonical, for SIMD twins: x = n ln2 + r, |r| <= ln2/2, then a degree-6
// Taylor-like polynomial in r by Horner's rule with fma; relative error below 2e-7 on [-87.3, 0]
// (test/ops guards it).
inline constexpr float kLog2e = 1.44269504f;
inline constexpr float kLn2Hi = 0.693359375f;  // exact in 9 bits, so n * kLn2Hi is exact
inline constexpr float kLn2Lo = -2.12194440e-4f;
inline constexpr float kExpC6 = 1.9875691500e-4f;
inline constexpr float kExpC5 = 1.3981999507e-3f;
inline constexpr float kExpC4 = 8.3334519073e-3f;
inline constexpr float kExpC3 = 4.1665795894e-2f;
inline constexpr float kExpC2 = 1.6666665459e-1f;
inline constexpr float kExpC1 = 5.0000001201e-1f;

// exp(x) for x <= 0. NaN stays NaN; x < kExpFloor (and -inf) gives 0.
SKV_HOST_DEVICE inline float exp_canonical(float x) {
  if (!(x >= kExpFloor)) return x != x ? x : 0.0f;
  const float n = std::rint(x * kLog2e);
  float r = std::fmaf(n, -kLn2Hi, x);
  r = std::fmaf(n, -kLn2Lo, r);
  float p = kExpC6;
  p = std::fmaf(p, r, kExpC5);
  p = std::fmaf(p, r, kExpC4);
  p = std::fmaf(p, r, kExpC3);
  p = std::fmaf(p, r, kExpC2);
  p = std::fmaf(p, r, kExpC1);
  p = std::fmaf(p, r * r, r) + 1.0f;
  const int32_t exponent = static_cast<int32_t>(n);  // >= -126 by kExpFloor
  return p * bits_to_float(static_cast<uint32_t>(exponent + 127) << 23);
}

// Rotates one pair in place.
SKV_HOST_DEVICE inline void rotate_pair(float& x, float& y, float c, float s) {
  const float turned_x = std::fmaf(-y, s, x * c);
  const float turned_y = std::fmaf(y, c, x * s);
  x = turned_x;
  y = turned_y;
}

// x[0..64) is overwritten; the sum is x[0].
SKV_HOST_DEVICE inline float halving_sum_64(float* x) {
  for (int n = 32; n >= 1; n /= 2) {
    for (int i = 0; i < n; ++i) x[i] = x[i] + x[i + n];
  }
  return x[0];
}

// Order-preserving map of float to uint32 for selection: larger score -> larger key; -0 and +0
// alike; every NaN lowest (key 0, below -inf).
SKV_HOST_DEVICE inline uint32_t score_key(float score) {
  if (score != score) return 0;
  if (score == 0.0f) score = 0.0f;
  uint32_t bits;
  memcpy(&bits, &score, sizeof(bits));
  return (bits & 0x80000000u) ? ~bits : (bits | 0x80000000u);
}

// The score that has the key; NaN for 0 and for keys that no number has.
SKV_HOST_DEVICE inline float score_of_key(uint32_t key) {
  const uint32_t bits = (key & 0x80000000u) ? key & 0x7fffffffu : ~key;
  float score;
  memcpy(&score, &bits, sizeof(score));
  return score;
}

}  // namespace spindlekv::canonical
