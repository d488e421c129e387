// The two products of attend_block on the matrix unit, which multiplies bf16 only.
//
// Every number becomes two of bf16: high, the nearest, and low, what is left of it, rounded. f16 is
// exactly their sum; of f32 up to 2^-17 is lost. Of the four products the one of both low parts is
// left out, up to 2^-16 of the whole; rounding one factor to f16 costs 2^-12. bf16 keys and values
// have no low part.
//
//   x[s, r] = sum_d k[s, d] q[r, d]      slots x rows; pairs are dimensions j, j + 16 of 32
//   acc[r, d] += sum_s p[s, r] v[s, d]   rows x dimensions; pairs are slots j, j + 16 of 32
// A left factor's tile has 16 rows of 16 pairs, a right one's 16 pairs of each of 16 columns.
// Rows with infinity, NaN or very small values are found, and left to the vectors.
#pragma once

#include <immintrin.h>

#include "cpu/isa/amx.h"
#include "cpu/simd.h"
#include "cpu/simd_transpose.h"
#include "cpu/slot_tile.h"

namespace spindlekv::cpu::SKV_ISA {

// 16 pairs of each part.
struct Parts {
  __m512i high, low;
};

// Bits of floats of which the upper half is the nearest bf16.
static inline __m512i rounded_bits(Vec a) {
  return _mm512_add_epi32(_mm512_castps_si512(a.v), _mm512_set1_epi32(0x8000));
}
static inline Vec upper_value(__m512i bits) {
  return {_mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(~0xffff)))};
}
// The upper halves of each lane, a's first.
static inline __m512i pair_uppers(__m512i a, __m512i b) {
  return _mm512_mask_blend_epi16(0xaaaaaaaau, _mm512_srli_epi32(a, 16), b);
}

// Pairs of a's and b's elements. kIsExact: they are of f16, whose low part needs no rounding.
template <bool kIsExact>
static inline Parts split_parts(Vec a, Vec b) {
  const __m512i high_a = rounded_bits(a), high_b = rounded_bits(b);
  const Vec low_a = sub(a, upper_value(high_a)), low_b = sub(b, upper_value(high_b));
  const __m512i bits_a = kIsExact ? _mm512_castps_si512(low_a.v) : rounded_bits(low_a);
  const __m512i bits_b = kIsExact ? _mm512_castps_si512(low_b.v) : rounded_bits(low_b);
  return {pair_uppers(high_a, high_b), pair_uppers(bits_a, bits_b)};
}

// What keys and values are made of where they are read: the cache, or rows of floats that were
// turned or multiplied by their magnitudes.
enum class Stored { kF16, kBf16, kFloats };
template <Stored kStored>
inline constexpr bool kHasLow = kStored != Stored::kBf16;

// Looks for what the unit gets wrong: infinity and NaN, whose low part is none, and numbers so
// small that products are rounded to 0, which the unit does to all below 2^-126.
class Probe {
 public:
  void look(__m512i pairs) {
    positive_ = _mm512_max_epi16(positive_, pairs);
    negative_ = _mm512_max_epu16(negative_, pairs);
  }
  void look_for_small(__m512i pairs) {
    const __m512i magnitude = _mm512_and_si512(pairs, _mm512_set1_epi16(0x7fff));
    least_ = _mm512_min_epu16(least_, _mm512_sub_epi16(magnitude, _mm512_set1_epi16(1)));
  }
  bool found() const {
    return _mm512_cmpge_epi16_mask(positive_, _mm512_set1_epi16(0x7f80)) != 0 ||
           _mm512_cmpge_epu16_mask(negative_, _mm512_set1_epi16(static_cast<short>(0xff80))) != 0 ||
           _mm512_cmplt_epu16_mask(least_, _mm512_set1_epi16(kSmall - 1)) != 0;
  }

 private:
  static constexpr short kSmall = (127 - 100) << 7;  // 2^-100

  __m512i positive_ = _mm512_setzero_si512(), negative_ = _mm512_setzero_si512();
  __m512i least_ = _mm512_set1_epi16(-1);  // magnitude less 1, so that 0 is large
};

// Pairs of a's and b's elements. The probe looks where no NaN is rounded to a number: at f16's low
// parts (infinity's is NaN), or at the upper halves as they were.
template <Stored kStored>
static inline Parts parts_of(Vec a, Vec b, Probe* probe) {
  if constexpr (kStored == Stored::kF16) {
    const Parts parts = split_parts<true>(a, b);
    probe->look(parts.low);
    return parts;
  } else {
    const __m512i uppers = pair_uppers(_mm512_castps_si512(a.v), _mm512_castps_si512(b.v));
    probe->look(uppers);
    if constexpr (kStored == Stored::kBf16) return {uppers, _mm512_setzero_si512()};
    return split_parts<false>(a, b);
  }
}

static inline void store_part(void* to, __m512i part) { _mm512_store_si512(to, part); }

// ---- memory ---------------------------------------------------------------------------

inline constexpr int kHalfSlots = 32;  // of a tile of slots: what one product goes over

static inline constexpr int dim_blocks(int head_dim) { return (head_dim + 31) / 32; }

// The four factors. Tiles of queries and weights are made by transposing, and each lies in one
// piece; rows of keys and values are written one after the other, so theirs are strided.
struct BlockTiles {
  int row_groups, dim_blocks, dim_groups;  // of 16, of 32 and of 16
  char* queries;                           // [row group][dim block][part] tiles
  char* weights;                           // [row group][half][part] tiles
  char* keys;                              // [64 slots] rows: [dim block][part] of kUnitBytes
  char* values;  // [32 pairs of slots] rows: [dim group][part] of kUnitBytes

  int64_t query_step() const { return dim_blocks * kTwoTiles; }
  int64_t weight_step() const { return 2 * kTwoTiles; }
  // Odd multiples of a line, so that a tile's rows spread over the cache.
  int64_t key_stride() const { return (2 * dim_blocks + 1) * kUnitBytes; }
  int64_t value_stride() const { return (2 * dim_groups + 1) * kUnitBytes; }

  char* query(int group, int block) const {
    return queries + group * query_step() + block * kTwoTiles;
  }
  char* weight(int group, int half) const {
    return weights + group * weight_step() + half * kTwoTiles;
  }
  char* key(int slot, int block) const {
    return keys + slot * key_stride() + block * (2 * kUnitBytes);
  }
  char* value(int pair, int group) const {
    return values + pair * value_stride() + group * (2 * kUnitBytes);
  }

 private:
  static constexpr int64_t kTwoTiles = 2 * kUnitTileBytes;
};

// ---- packing --------------------------------------------------------------------------

// rows: [lanes, dim] floats.
static inline void pack_queries(const float* rows, int dim, const BlockTiles& tiles) {
  alignas(64) float pairs[2][kUnitRows * 16];
  for (int group = 0; group < tiles.row_groups; ++group) {
    for (int block = 0; block < tiles.dim_blocks; ++block) {
      for (int r = 0; r < kUnitRows; ++r) {
        const float* const row = rows + (group * kUnitRows + r) * dim + block * 32;
        const Vec second = block * 32 + 16 < dim ? load(row + 16) : zero();
        const Parts parts = split_parts<false>(load(row), second);
        store_part(pairs[0] + r * 16, parts.high);
        store_part(pairs[1] + r * 16, parts.low);
      }
      char* const to = tiles.query(group, block);
      for (int part = 0; part < 2; ++part) {
        transpose_16x16(pairs[part], 16, reinterpret_cast<float*>(to + part * kUnitTileBytes), 16);
      }
    }
  }
}

template <class Element>
static inline Vec load_up_to(const Element* p, int n) {
  if (n >= 16) return load(p);
  return n >= 8 ? load_8(p) : zero();
}

template <Stored kStored, class Element>
static inline void pack_key(const Element* row, int head_dim, char* to, Probe* probe) {
  for (int d = 0; d < head_dim; d += 32, to += 2 * kUnitBytes) {
    const bool is_whole = d + 32 <= head_dim;
    const Vec a = is_whole ? load(row + d) : load_up_to(row + d, head_dim - d);
    const Vec b = is_whole ? load(row + d + 16) : load_up_to(row + d + 16, head_dim - d - 16);
    const Parts parts = parts_of<kStored>(a, b, probe);
    store_part(to, parts.high);
    if (kHasLow<kStored>) store_part(to + kUnitBytes, parts.low);
  }
}

// Values of slots j and j + 16 of a half. kMayBeSmall: of a dtype with the range of f32.
template <Stored kStored, bool kMayBeSmall, class Element>
static inline void pack_values(const Element* first, const Element* second, int head_dim, char* to,
                               Probe* probe) {
  for (int d = 0; d < head_dim; d += 16, to += 2 * kUnitBytes) {
    const Vec a = load_up_to(first + d, head_dim - d);
    const Vec b = load_up_to(second + d, head_dim - d);
    const Parts parts = parts_of<kStored>(a, b, probe);
    if (kMayBeSmall) probe->look_for_small(parts.high);
    store_part(to, parts.high);
    if (kHasLow<kStored>) store_part(to + kUnitBytes, parts.low);
  }
}

// ---- products -------------------------------------------------------------------------

// Tiles 0..3 are sums, [left][right]; 4 and 5 left factors, 6 and 7 right ones: one or two of each.
template <int kLeft, int kRight>
static inline void dot_all() {
  tile_dot<0, 4, 6>();
  if (kRight == 2) tile_dot<1, 4, 7>();
  if (kLeft == 2) tile_dot<2, 5, 6>();
  if (kLeft == 2 && kRight == 2) tile_dot<3, 5, 7>();
}

// The sums to rows of `columns` floats.
template <int kLeft, int kRight>
static inline void store_sums(float* to, int columns) {
  const int64_t stride = int64_t{columns} * 4;
  float* const below = to + int64_t{kUnitRows} * columns;
  tile_store<0>(to, stride);
  if (kRight == 2) tile_store<1>(to + 16, stride);
  if (kLeft == 2) tile_store<2>(below, stride);
  if (kLeft == 2 && kRight == 2) tile_store<3>(below + 16, stride);
}

// Where a factor's tiles lie: those of two neighbours `step` apart, the low part `low` behind.
struct Factor {
  const char* tiles;
  int64_t step, low, stride;

  template <int kTile, int kCount>
  void load(bool is_low) const {
    const char* const from = is_low ? tiles + low : tiles;
    tile_load<kTile>(from, stride);
    if (kCount == 2) tile_load<kTile + 1>(from + step, stride);
  }
};

// Adds the products of parts, then calls beside(): the unit has work for 100 cycles and more, in
// which the vectors are free.
template <int kLeft, int kRight, bool kLeftHasLow, bool kRightHasLow, class Beside>
static inline void dot_parts(const Factor& left, const Factor& right, Beside& beside) {
  if (kLeftHasLow) {
    left.load<4, kLeft>(true);
    right.load<6, kRight>(false);
    dot_all<kLeft, kRight>();
    left.load<4, kLeft>(false);
  } else {
    left.load<4, kLeft>(false);
    right.load<6, kRight>(false);
  }
  dot_all<kLeft, kRight>();
  if (kRightHasLow) {
    right.load<6, kRight>(true);
    dot_all<kLeft, kRight>();
  }
  beside();
}

// out[s, r] of the 64 slots and kRows times 16 rows from row group `group` on.
template <bool kHasLow, int kRows, class Beside>
static inline void multiply_keys(const BlockTiles& tiles, int group, float* out, int lanes,
                                 Beside& beside) {
  for (int slot = 0; slot < kTileSlots; slot += kHalfSlots) {
    tile_zero<0>();
    if (kRows == 2) tile_zero<1>();
    tile_zero<2>();
    if (kRows == 2) tile_zero<3>();
    for (int block = 0; block < tiles.dim_blocks; ++block) {
      const Factor keys{tiles.key(slot, block), kUnitRows * tiles.key_stride(), kUnitBytes,
                        tiles.key_stride()};
      const Factor queries{tiles.query(group, block), tiles.query_step(), kUnitTileBytes,
                           kUnitBytes};
      dot_parts<2, kRows, kHasLow, true>(keys, queries, beside);
    }
    store_sums<2, kRows>(out + slot * lanes + group * kUnitRows, lanes);
  }
}

// acc[r, d] += sum_s p[s, r] v[s, d] of kRows times 16 rows and kDims times 16 dimensions.
template <bool kHasLow, int kRows, int kDims, class Beside>
static inline void multiply_values(const BlockTiles& tiles, int row_group, int dim_group,
                                   float* acc, int dim, Beside& beside) {
  const int64_t stride = int64_t{dim} * 4;
  float* const to = acc + int64_t{row_group} * kUnitRows * dim + dim_group * 16;
  float* const below = to + int64_t{kUnitRows} * dim;
  tile_load<0>(to, stride);
  if (kDims == 2) tile_load<1>(to + 16, stride);
  if (kRows == 2) tile_load<2>(below, stride);
  if (kRows == 2 && kDims == 2) tile_load<3>(below + 16, stride);
  for (int half = 0; half < 2; ++half) {
    const Factor weights{tiles.weight(row_group, half), tiles.weight_step(), kUnitTileBytes,
                         kUnitBytes};
    const Factor values{tiles.value(half * 16, dim_group), 2 * kUnitBytes, kUnitBytes,
                        tiles.value_stride()};
    dot_parts<kRows, kDims, true, kHasLow>(weights, values, beside);
  }
  store_sums<kRows, kDims>(to, dim);
}

}  // namespace spindlekv::cpu::SKV_ISA
