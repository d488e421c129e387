// Integer approximations of dot products, with a bound on their error: most comparisons of the
// similarity ops are decided by them, and only the others need the canonical f32 product.
//
// Why it pays: a product of int16 pairs takes half the instructions (and bytes) of f32 fma with
// AVX512-VNNI, fewer with AVX2, and a small fraction where fma is emulated.
//
// A row x is stored as q = round(y), y = x * 2^k, with k such that |y| <= kNormLimit ("|.|" is the
// Euclidean norm), and with its slack s = ceil((kNormLimit + kErrorLimit) * |y - q|). Rows that are
// not finite, or lie far outside the usual magnitudes, have no such form: slack kNoSlack. For two
// rows a and b:
//
//   |qa . qb - ya . yb| = |(qa - ya) . qb + ya . (qb - yb)| <= |qa - ya| |qb| + |ya| |qb - yb|
//                       <= sa + sb        as |q| <= |y| + |q - y| <= kNormLimit + kErrorLimit
//
// The canonical product, a chain of D fma, differs from the true one by at most g |a| |b| with
// g = D u / (1 - D u), u = 2^-24 (Higham, Accuracy and Stability, 3.1), and by D 2^-150 for
// subnormal steps. Scaled by 2^(ka + kb) that is below rounding_slack(D); the second part is below
// 2^-30 there because exponents end at kMostExponent. So, with the integer n = qa . qb,
//
//   | n - 2^(ka + kb) dot(a, b) | <= sa + sb + rounding_slack(D)
//
// int32 suffices: by Cauchy-Schwarz |n|, and every partial sum over a subset of dims, is at most
// (kNormLimit + kErrorLimit)^2 < 1.1 * 2^30; adding a start of at most 2^29 + slack stays below
// 2^31. A pair of products is at most 2 * kMostValue^2 < 2^31. test/ops/similarity-filter.test.ts
// guards the limits.
#pragma once

#include <cstdint>

#include "cpu/isa.h"
#include "cpu/isa/similarity.h"

namespace spindlekv::cpu {

inline constexpr int32_t kUnitExponent = 15;  // of rows of norm 1
inline constexpr int32_t kLeastExponent = -25;
inline constexpr int32_t kMostExponent = 55;
// Norms up to 1.007 at kUnitExponent: units, also after rounding to bf16 (1 + 2^-9).
inline constexpr double kNormLimit = 33000.0;
// Largest value, so that each is two signed bytes. Rounding moves each of 512 dims by 1/2 at most:
// 12 in all; a dim of a unit is cut by 129 at most.
inline constexpr float kMostValue = 127.0f * 256.0f + 127.0f;
inline constexpr double kErrorLimit = 256.0;
inline constexpr int32_t kNoSlack = -1;

// Larger than 2^30 * 1.02 * D u / (1 - D u): what the canonical product may be off, scaled.
static constexpr int32_t rounding_slack(int32_t head_dim) { return 66 * head_dim + 1; }

// Ranks of filter_largest: the largest, the next and the third.
inline constexpr int kRanks = 3;

struct FilterKernels {
  // False: the functions below are null and everything is compared in f32.
  bool pays;
  // sum of squares, in any order; NaN or infinity if a value is not finite.
  float (*rough_square)(const float* row, int32_t head_dim);
  // out = round(row * 2^exponent); returns the slack or kNoSlack (then out is 0).
  int32_t (*quantise_row)(const float* row, int32_t head_dim, int32_t exponent, int16_t* out);
  // panel[p][i] = dims 2p and 2p + 1 of row i as one int32; lanes beyond count are 0.
  void (*pack_pairs)(const int16_t* const* rows, int32_t count, int32_t head_dim, int32_t* panel);
  // n = start[r] + rows[r] . (row i of the panel), for `count` rows stored one after the other.
  // Bit i of maybe[r] = n > low[i]; of sure[r] = n - margin[r] > high[i], only where maybe is set.
  void (*filter_bits)(const int16_t* rows, int32_t count, int32_t head_dim, const int32_t* panel,
                      const int32_t* start, const int32_t* margin, const int32_t* low,
                      const int32_t* high, uint64_t* maybe, uint64_t* sure);
  // The same for blocks of kPanelRows rows that are all compared with each other. lay_block makes
  // the panel of `count` rows and changes the rows, which have room for kPanelRows, to what
  // block_bits reads.
  void (*lay_block)(int16_t* rows, int32_t count, int32_t head_dim, int32_t* panel);
  void (*block_bits)(const int16_t* rows, int32_t count, int32_t head_dim, const int32_t* panel,
                     const int32_t* start, const int32_t* margin, const int32_t* low,
                     const int32_t* high, uint64_t* maybe, uint64_t* sure);
  // For each lane i the kRanks largest keys over `count` rows: rows[r] . (row i of the panel) with
  // the bits of `mask` (2^b - 1 >= count - 1) replaced by r; INT32_MIN where there are fewer.
  void (*filter_largest)(const int16_t* rows, int32_t count, int32_t head_dim, const int32_t* panel,
                         int32_t mask, int32_t (*keys)[kPanelRows]);
};

SKV_DECLARE_ISA_TABLE(FilterKernels, filter_kernels)

#if defined(SKV_HAS_ISA_AVX512)
namespace avx512 {
extern const FilterKernels filter_kernels_vnni;
extern const FilterKernels filter_kernels_amx;
}  // namespace avx512
#endif

static inline const FilterKernels& filter_for(Isa isa) {
#if defined(SKV_HAS_ISA_AVX512)
  if (isa == Isa::kAmx) return avx512::filter_kernels_amx;
  if (isa >= Isa::kAvx512Vnni) return avx512::filter_kernels_vnni;
#endif
  return filter_kernels_for(isa);
}

}  // namespace spindlekv::cpu
