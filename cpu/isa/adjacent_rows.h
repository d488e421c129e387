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
// included, because a queue that runs dry is time the memory is idle.
inline constexpr int kFarBytes = 4096;
inline constexpr int kNearBytes = 2048;
// What is asked for while the weights are worked out: keys of the next tile, the first beyond those
// that this tile's keys asked for.
inline constexpr int kWeightBytes = 2048;
// Values are added for so many slots, block of columns by block of columns, before the next ones',
// so that memory is read in nearly the order it lies in: over a whole tile the second block would
// come back to every row, and adding values takes half as long again as reading them.
inline constexpr int kValueSlots = 8;

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

// out[r * 64 + slot] = q[r] . k[slot]. Like add_adjacent a function of its own: inlined into the
// loop over tiles, its registers would not suffice.
template <int kRows, class Element, int kDim, bool kAsks>
[[gnu::noinline]] void score_adjacent(const float* q, AdjacentRows<Element, kDim, kAsks> k,
                                      float* out) {
  constexpr int kBytes = kQuad * kWidth * static_cast<int>(sizeof(Element));
  const int n = k.dim();
  for (int slot = 0; slot < kTileSlots; slot += kQuad) {
    const Element* const row[kQuad] = {k.row(slot), k.row(slot + 1), k.row(slot + 2),
                                       k.row(slot + 3)};
    const char* const far = k.far(slot);
    const char* const near = k.near(slot);
    QuadSums<kRows> sums;
    Vec key[kQuad];
    int d = 0;
#pragma GCC unroll 8
    for (; d + kWidth <= n; d += kWidth) {
      if constexpr (kAsks) {
        const int at = kQuad * d * static_cast<int>(sizeof(Element));
        prefetch_part<kBytes, kSecondLevel>(far, at);
        prefetch_part<kBytes, kFirstLevel>(near, at);
        prefetches_come_first();
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

// kVecs vectors of output from column d on, over slots [begin, end); each block of columns asks for
// its part of the rows to come. kHalf: only 8 elements are left (AVX-512). factor: what the sums so
// far are multiplied by; NULL: nothing.
template <int kRows, int kVecs, bool kHalf, class Element, int kDim, bool kAsks>
[[gnu::always_inline]] inline void add_adjacent_columns(const float* p,
                                                        const AdjacentRows<Element, kDim, kAsks>& v,
                                                        int begin, int end, int d,
                                                        const float* factor, float* acc) {
  constexpr int kBytes = (kHalf ? 8 : kVecs * kWidth) * static_cast<int>(sizeof(Element));
  const int stride = padded_dim(v.dim());
  const int row_bytes = v.dim() * static_cast<int>(sizeof(Element));
  Vec sum[kRows][kVecs];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kVecs; ++c) sum[r][c] = load(acc + r * stride + d + c * kWidth);
  }
  if (factor != nullptr) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int c = 0; c < kVecs; ++c) sum[r][c] = mul(sum[r][c], splat(factor[r]));
    }
  }
  // Strips of common dimensions lie in this tile or the next one as a whole; what others ask for
  // across the border is wasted.
  const Element* row = v.row(begin) + d;
  const char* far = v.far(begin);
  const char* near = v.near(begin);
  for (int slot = begin; slot < end; ++slot) {
    if constexpr (kAsks) {
      const int at = d * static_cast<int>(sizeof(Element));
      prefetch_part<kBytes, kSecondLevel>(far, at);
      prefetch_part<kBytes, kFirstLevel>(near, at);
      prefetches_come_first();
      far += row_bytes;
      near += row_bytes;
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
    row += v.dim();
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kVecs; ++c) store(acc + r * stride + d + c * kWidth, sum[r][c]);
  }
}

// acc[r] = factor[r] * acc[r] + sum of p[r, slot] v[slot].
template <int kRows, class Element, int kDim, bool kAsks>
[[gnu::noinline]] void add_adjacent(const float* p, AdjacentRows<Element, kDim, kAsks> v,
                                    const float* factor, float* acc) {
  constexpr int kVecs = kHasManyRegisters ? 4 : 2;
  const int n = v.dim();
  for (int begin = 0; begin < kTileSlots; begin += kValueSlots) {
    const int end = begin + kValueSlots;
    const float* const scale = begin == 0 ? factor : nullptr;
    int d = 0;
    for (; d + kVecs * kWidth <= n; d += kVecs * kWidth) {
      add_adjacent_columns<kRows, kVecs, false>(p, v, begin, end, d, scale, acc);
    }
    if constexpr (kDim == 0 || kDim % (kVecs * kWidth) != 0) {
      for (; d + kWidth <= n; d += kWidth) {
        add_adjacent_columns<kRows, 1, false>(p, v, begin, end, d, scale, acc);
      }
      if (kWidth > 8 && d < n) {
        add_adjacent_columns<kRows, 1, true>(p, v, begin, end, d, scale, acc);
      }
    }
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
