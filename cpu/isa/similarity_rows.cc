// Rows one by one: conversion to and from f32, canonical norms and units, sums, paired products.
//
// Memory-bound but for the norms and products, which are chains of fma over dims. With wide vectors
// a lane is a pair of rows, which are transposed 8 dims at a time; otherwise eight chains go side
// by side to hide each other's latency.
#include "cpu/isa/similarity.h"

#include <cstring>

#include "cpu/isa/similarity_parts.h"
#include "cpu/simd.h"
#include "cpu/simd_transpose.h"

namespace spindlekv::cpu::SKV_ISA {
namespace {

constexpr int kChains = 8;

// The products of kChains pairs, or of fewer.
template <int kPairs>
inline void dot_chains(const float* const* a, const float* const* b, int32_t head_dim, float* out) {
  float acc[kPairs] = {};
  for (int32_t d = 0; d < head_dim; ++d) {
    for (int i = 0; i < kPairs; ++i) acc[i] = __builtin_fmaf(a[i][d], b[i][d], acc[i]);
  }
  for (int i = 0; i < kPairs; ++i) out[i] = acc[i];
}

// The products of kWidth pairs, 8 or 16.
inline void dot_lanes(const float* const* a, const float* const* b, int32_t head_dim, float* out) {
  Vec acc = zero();
  for (int32_t d = 0; d < head_dim; d += 8) {
    float left[8 * kWidth];
    float right[8 * kWidth];
    for (int i = 0; i < kWidth; i += 8) {
      transpose_8x8(a + i, d, left + i, kWidth);
      transpose_8x8(b + i, d, right + i, kWidth);
    }
    for (int e = 0; e < 8; ++e) acc = fma(load(left + e * kWidth), load(right + e * kWidth), acc);
  }
  store(out, acc);
}

// The same for fewer pairs: the other lanes repeat the first.
inline void dot_some_lanes(const float* const* a, const float* const* b, int count,
                           int32_t head_dim, float* out) {
  const float* left[kWidth];
  const float* right[kWidth];
  float dots[kWidth];
  for (int i = 0; i < kWidth; ++i) {
    left[i] = a[i < count ? i : 0];
    right[i] = b[i < count ? i : 0];
  }
  dot_lanes(left, right, head_dim, dots);
  for (int i = 0; i < count; ++i) out[i] = dots[i];
}

}  // namespace

void load_rows(int32_t dtype, const void* x, int64_t stride, const int32_t* rows, int64_t count,
               int32_t head_dim, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    const int64_t at = (rows != nullptr ? rows[i] : i) * stride;
    float* const row = out + i * head_dim;
    if (dtype == SKV_F32) {
      std::memcpy(row, static_cast<const float*>(x) + at, sizeof(float) * head_dim);
    } else if (dtype == SKV_F16) {
      to_floats(static_cast<const F16*>(x) + at, row, head_dim);
    } else {
      to_floats(static_cast<const Bf16*>(x) + at, row, head_dim);
    }
  }
}

void unit_rows(float* rows, int64_t count, int32_t head_dim, bool scale, float* norms) {
  constexpr int kBlock = 16;  // a whole number of chains or lanes
  const float* block[kBlock];
  for (int64_t i = 0; i < count; i += kBlock) {
    const int some = count - i < kBlock ? static_cast<int>(count - i) : kBlock;
    for (int c = 0; c < some; ++c) block[c] = rows + (i + c) * head_dim;
    paired_dots(block, block, some, head_dim, norms + i);
    for (int c = 0; c < some; ++c) {
      const float norm = __builtin_sqrtf(norms[i + c]);
      norms[i + c] = norm;
      if (!scale) continue;
      float* const row = rows + (i + c) * head_dim;
      if (norm == 0.0f) {
        std::memset(row, 0, sizeof(float) * head_dim);
      } else {
        for (int32_t d = 0; d < head_dim; ++d) row[d] = row[d] / norm;
      }
    }
  }
}

void store_values(int32_t dtype, const float* values, int64_t count, void* out) {
  const int n = static_cast<int>(count);
  if (dtype == SKV_F32) {
    std::memcpy(out, values, sizeof(float) * static_cast<size_t>(count));
  } else if (dtype == SKV_F16) {
    from_floats(values, static_cast<F16*>(out), n);
  } else {
    from_floats(values, static_cast<Bf16*>(out), n);
  }
}

void round_values(int32_t dtype, float* values, int64_t count) {
  if (dtype == SKV_F32) return;
  for (int64_t i = 0; i < count; i += 8) {
    if (dtype == SKV_F16) {
      F16 rounded[8];
      from_floats(values + i, rounded, 8);
      to_floats(rounded, values + i, 8);
    } else {
      Bf16 rounded[8];
      from_floats(values + i, rounded, 8);
      to_floats(rounded, values + i, 8);
    }
  }
}

void add_row(float weight, const float* row, int32_t head_dim, float* sum) {
  for (int32_t d = 0; d < head_dim; ++d) sum[d] = __builtin_fmaf(weight, row[d], sum[d]);
}

void paired_dots(const float* const* a, const float* const* b, int64_t count, int32_t head_dim,
                 float* out) {
  int64_t i = 0;
  if (kWidth >= 8) {
    for (; i + kWidth <= count; i += kWidth) dot_lanes(a + i, b + i, head_dim, out + i);
    // Lanes without a pair cost less than two chains one after the other.
    if (count - i > 1)
      return dot_some_lanes(a + i, b + i, static_cast<int>(count - i), head_dim, out + i);
  }
  for (; i + kChains <= count; i += kChains) dot_chains<kChains>(a + i, b + i, head_dim, out + i);
  for (; i < count; ++i) dot_chains<1>(a + i, b + i, head_dim, out + i);
}

}  // namespace spindlekv::cpu::SKV_ISA
