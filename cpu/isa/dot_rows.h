// Dot products of four rows of keys with a few query rows.
#pragma once

#include <cstdint>

#include "cpu/attend_task.h"
#include "cpu/simd.h"
#include "cpu/slot_tile.h"

namespace spindlekv::cpu::SKV_ISA {

inline constexpr int kQuad = 4;
// Query rows at a time: their accumulators for four keys fill half of the registers.
inline constexpr int kRowsAtOnce = kHasManyRegisters ? 4 : 2;

// The products of kRows query rows with four keys, lane by lane. Loops are unrolled by order: else
// GCC takes the sums to the stack and back around them.
template <int kRows>
struct QuadSums {
  Vec sum[kRows][kQuad];

  [[gnu::always_inline]] QuadSums() {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int i = 0; i < kQuad; ++i) sum[r][i] = zero();
    }
  }

  // One vector of each row: q, q + q_stride, ...
  [[gnu::always_inline]] void add(const float* q, int64_t q_stride, const Vec (&key)[kQuad]) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const Vec query = load(q + r * q_stride);
#pragma GCC unroll 4
      for (int i = 0; i < kQuad; ++i) sum[r][i] = madd(query, key[i], sum[r][i]);
    }
  }

  // out[r * out_stride + i], whole.
  [[gnu::always_inline]] void fold(float* out, int64_t out_stride) const {
    if constexpr (kRows == 4) {
      sum_4x4(sum, out, out_stride);
    } else {
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) sum_4(sum[r], out + r * out_stride);
    }
  }
};

// Element d on of four rows.
template <class Element>
[[gnu::always_inline]] inline void load_quad(const Element* const* k, int d, Vec (&key)[kQuad]) {
#pragma GCC unroll 4
  for (int i = 0; i < kQuad; ++i) key[i] = load(k[i] + d);
}

// The last 8 elements of rows that are no whole number of vectors.
template <class Element>
[[gnu::always_inline]] inline void load_quad_8(const Element* const* k, int d, Vec (&key)[kQuad]) {
#pragma GCC unroll 4
  for (int i = 0; i < kQuad; ++i) key[i] = load_8(k[i] + d);
}

// out[r * out_stride + i] = q[r] . k[i] over n elements, a multiple of 8; q has 0 up to a multiple
// of 16.
template <class Element, int kRows>
inline void dot_quad(const float* q, int64_t q_stride, const Element* const* k, int n, float* out,
                     int64_t out_stride) {
  QuadSums<kRows> sums;
  Vec key[kQuad];
  int d = 0;
  for (; d + kWidth <= n; d += kWidth) {
    load_quad(k, d, key);
    sums.add(q + d, q_stride, key);
  }
  if (kWidth > 8 && d < n) {
    load_quad_8(k, d, key);
    sums.add(q + d, q_stride, key);
  }
  sums.fold(out, out_stride);
}

// Calls run<n>(first row) for all rows, kAtOnce (at most 4) or fewer at a time.
template <int kAtOnce = kRowsAtOnce, class Call>
inline void by_rows(int rows, const Call& call) {
  for (int r = 0; r < rows; r += kAtOnce) {
    switch (rows - r < kAtOnce ? rows - r : kAtOnce) {
      case 1:
        call.template run<1>(r);
        break;
      case 2:
        call.template run<2>(r);
        break;
      case 3:
        call.template run<3>(r);
        break;
      default:
        call.template run<kAtOnce>(r);
        break;
    }
  }
}

template <class Element>
struct DotCall {
  const float* q;
  int64_t q_stride;
  const Element* const* k;
  int n;
  float* out;
  int64_t out_stride;
  template <int kRows>
  void run(int r) const {
    dot_quad<Element, kRows>(q + r * q_stride, q_stride, k, n, out + r * out_stride, out_stride);
  }
};

// Four columns of scores that may end at a slot within: out of the way first.
struct Columns {
  float apart[kStreamRows * kQuad];
  float* out;
  int n;
  Columns(float* tile_out, int wanted) : out(tile_out), n(wanted) {}
  float* target() { return n < kQuad ? apart : out; }
  int stride() const { return n < kQuad ? kQuad : kTileSlots; }
  void finish(int rows) const {
    if (n >= kQuad) return;
    for (int r = 0; r < rows; ++r) {
      for (int i = 0; i < n; ++i) out[r * kTileSlots + i] = apart[r * kQuad + i];
    }
  }
};

}  // namespace spindlekv::cpu::SKV_ISA
