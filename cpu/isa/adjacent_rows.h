// Scores and values of a whole tile of one raw run, read where it is stored: most of what decode
// reads.
//
// The rows lie one behind the other and the next tile's anywhere, as a rule in another page, so
// each step asks for as many bytes as it reads, kFarBytes and kNearBytes further on of this tile
// and then of the next. The dimensions of most models are known to the compiler.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cpu/attend_task.h"
#include "cpu/isa/dot_rows.h"
#include "cpu/prefetch.h"
#include "cpu/simd.h"

namespace spindlekv::cpu::SKV_ISA {

// How far ahead rows are prefetched, in bytes: into the second-level cache, where many lines may be
// on their way, and from there into the first, whose few fill buffers then turn over fast. The far
// requests are spread over everything a tile costs, the weights and the second half of the columns
// included, because a queue that runs dry is time the memory is idle. On Emerald Rapids 4 to 32 KiB
// and 1 to 4 KiB are within 5 % of each other, one level alone is a tenth slower.
inline constexpr int kFarBytes = 8192;
inline constexpr int kNearBytes = 2048;
// One slot of this many is left for the time the weights take.
inline constexpr int kSlotsPerGap = 8;

// The lines that begin within [begin, begin + kBytes) of `rows`; begin is a multiple of kBytes.
template <int kBytes, int kLevel>
SKV_PREFETCH void prefetch_part(const char* rows, int begin) {
  if constexpr (kBytes >= static_cast<int>(kLineBytes)) {
    prefetch_bytes<kLevel>(rows + begin, kBytes);
  } else {
    if (begin % static_cast<int>(kLineBytes) == 0) prefetch_line<kLevel>(rows + begin);
  }
}

// A tile of adjacent rows. kDim: head_dim where the compiler knows it, or 0. kAsks: whether the
// rows to come are prefetched.
template <class Element, int kDim, bool kAsks>
struct AdjacentRows {
  const Element* rows;
  const Element* next;  // the tile that is read after this one
  int head_dim;

  int dim() const { return kDim > 0 ? kDim : head_dim; }
  const Element* row(int slot) const { return rows + slot * dim(); }
  // What is read `distance` bytes, a tile at most, after the row of `slot`.
  const char* after(int slot, int distance) const {
    const int row_bytes = dim() * static_cast<int>(sizeof(Element));
    const int tile_bytes = kTileSlots * row_bytes;
    const int at = slot * row_bytes + (distance < tile_bytes ? distance : tile_bytes);
    return at < tile_bytes ? reinterpret_cast<const char*>(rows) + at
                           : reinterpret_cast<const char*>(next) + (at - tile_bytes);
  }
  const char* far(int slot) const { return after(slot, kFarBytes); }
  const char* near(int slot) const { return after(slot, kNearBytes); }
};

// out[r * 64 + slot] = q[r] . k[slot].
template <int kRows, class Element, int kDim, bool kAsks>
inline void score_adjacent(const float* q, const AdjacentRows<Element, kDim, kAsks>& k,
                           float* out) {
  constexpr int kBytes = static_cast<int>(sizeof(Element));
  const int n = k.dim();
  for (int slot = 0; slot < kTileSlots; slot += kQuad) {
    const Element* const row[kQuad] = {k.row(slot), k.row(slot + 1), k.row(slot + 2),
                                       k.row(slot + 3)};
    // What is further in the rows is left to the weights.
    const int far_end = (slot + kQuad) % kSlotsPerGap == 0 ? n - n / kQuad : n;
    QuadSums<kRows> sums;
    Vec key[kQuad];
    int d = 0;
    for (; d + kWidth <= n; d += kWidth) {
      if constexpr (kAsks) {
        const int at = kQuad * d * kBytes;
        if (d < far_end) prefetch_part<kQuad * kWidth * kBytes, kSecondLevel>(k.far(slot), at);
        prefetch_part<kQuad * kWidth * kBytes, kFirstLevel>(k.near(slot), at);
      }
      load_quad(row, d, key);
      sums.add(q + d, padded_dim(n), key);
    }
    if (kDim == 0 && kWidth > 8 && d < n) {
      load_quad_8(row, d, key);
      sums.add(q + d, padded_dim(n), key);
    }
    sums.fold(out + slot, kTileSlots);
  }
}

// kVecs vectors of output from column d on; each block of columns asks for its part of the rows to
// come. kHalf: only 8 elements are left (AVX-512).
template <int kRows, int kVecs, bool kHalf, class Element, int kDim, bool kAsks>
inline void add_adjacent_columns(const float* p, const AdjacentRows<Element, kDim, kAsks>& v, int d,
                                 const float* factor, float* acc) {
  constexpr int kBytes = (kHalf ? 8 : kVecs * kWidth) * static_cast<int>(sizeof(Element));
  const int stride = padded_dim(v.dim());
  Vec sum[kRows][kVecs];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kVecs; ++c) {
      sum[r][c] = mul(load(acc + r * stride + d + c * kWidth), splat(factor[r]));
    }
  }
  for (int slot = 0; slot < kTileSlots; ++slot) {
    const Element* const row = v.row(slot) + d;
    if constexpr (kAsks) {
      const int at = d * static_cast<int>(sizeof(Element));
      prefetch_part<kBytes, kSecondLevel>(v.far(slot), at);
      prefetch_part<kBytes, kFirstLevel>(v.near(slot), at);
    }
    Vec value[kVecs];
#pragma GCC unroll 4
    for (int c = 0; c < kVecs; ++c) value[c] = kHalf ? load_8(row) : load(row + c * kWidth);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const Vec weight = splat(p[r * kTileSlots + slot]);
#pragma GCC unroll 4
      for (int c = 0; c < kVecs; ++c) sum[r][c] = madd(weight, value[c], sum[r][c]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kVecs; ++c) store(acc + r * stride + d + c * kWidth, sum[r][c]);
  }
}

// acc[r] = factor[r] * acc[r] + sum of p[r, slot] v[slot].
template <int kRows, class Element, int kDim, bool kAsks>
inline void add_adjacent(const float* p, const AdjacentRows<Element, kDim, kAsks>& v,
                         const float* factor, float* acc) {
  constexpr int kVecs = kHasManyRegisters ? 4 : 2;
  const int n = v.dim();
  int d = 0;
  for (; d + kVecs * kWidth <= n; d += kVecs * kWidth) {
    add_adjacent_columns<kRows, kVecs, false>(p, v, d, factor, acc);
  }
  if constexpr (kDim == 0 || kDim % (kVecs * kWidth) != 0) {
    for (; d + kWidth <= n; d += kWidth)
      add_adjacent_columns<kRows, 1, false>(p, v, d, factor, acc);
    if (kWidth > 8 && d < n) add_adjacent_columns<kRows, 1, true>(p, v, d, factor, acc);
  }
}

// Calls call(dim) with head_dim as a constant, or 0 if it is none of those known.
template <class Call>
inline void with_known_dim(int head_dim, const Call& call) {
  switch (head_dim) {
    case 64:
      return call(std::integral_constant<int, 64>());
    case 128:
      return call(std::integral_constant<int, 128>());
    default:
      return call(std::integral_constant<int, 0>());
  }
}

}  // namespace spindlekv::cpu::SKV_ISA
