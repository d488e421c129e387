// The integer kernels of cpu/isa/similarity_filter.h: rows to int16, and register tiles of
// products of int16 pairs compared in registers.
//
//   tile: kTileRows rows (a pair broadcast at a time) x kTileVectors * kWidth panel lanes
//
// Compute-bound: D / 2 additions of pair products per pair of rows; a panel is D * 128 bytes.
#include "cpu/isa/similarity_filter.h"

#include <cmath>
#include <cstring>
#include <limits>

#if defined(__x86_64__)
#include "cpu/isa/similarity_ints.h"
#endif

namespace spindlekv::cpu::SKV_ISA {

#if defined(__x86_64__)
namespace {

#if defined(__AVX512F__)
constexpr int kTileRows = 4;
constexpr int kTileVectors = 4;
#elif defined(__AVX2__)
constexpr int kTileRows = 4;
constexpr int kTileVectors = 2;
#else
constexpr int kTileRows = 4;
constexpr int kTileVectors = 2;
#endif
constexpr int kTileLanes = kTileVectors * kWidth;
static_assert(kPanelRows % kTileLanes == 0, "a panel is a whole number of tiles wide");

// Calls use(values, d) for kWidth values at a time; use_8(values, d) for the last 8 of a row that
// is no multiple of kWidth, zeros above them.
template <class Use, class Use8>
inline void each_vector(const float* row, int32_t head_dim, const Use& use, const Use8& use_8) {
  int32_t d = 0;
  for (; d + kWidth <= head_dim; d += kWidth) use(load(row + d), d);
  if (kWidth > 8 && d < head_dim) use_8(load_8(row + d), d);
}

float rough_square(const float* row, int32_t head_dim) {
  Vec sum = zero();
  const auto add_square = [&](Vec x, int32_t) { sum = madd(x, x, sum); };
  each_vector(row, head_dim, add_square, add_square);
  return halving_sum(sum);
}

int32_t quantise_row(const float* row, int32_t head_dim, int32_t exponent, int16_t* out) {
  // The sums below are of at most 128 squares a lane, each rounded twice: relative error < 2^-16.
  constexpr double kSumError = 1.0 + 0x1p-15;
  if (exponent >= kLeastExponent && exponent <= kMostExponent) {
    const Vec factor = splat(float_of_bits(static_cast<uint32_t>(exponent + 127) << 23));
    const Vec most = splat(kMostValue);
    const Vec least = splat(-kMostValue);
    Vec squares = zero();
    Vec errors = zero();
    const auto round = [&](Vec x) {
      const Vec y = mul(x, factor);
      const Vec below = select(less(y, most), y, most);
      const Vec rounded = round_nearest(select(less(least, below), below, least));
      const Vec error = sub(y, rounded);  // exact: a multiple of y's last bit, and no larger than y
      squares = madd(y, y, squares);
      errors = madd(error, error, errors);
      return rounded;
    };
    each_vector(
        row, head_dim, [&](Vec x, int32_t d) { store_shorts(out + d, round(x)); },
        [&](Vec x, int32_t d) { store_shorts_8(out + d, round(x)); });
    const double square = halving_sum(squares) * kSumError;
    // 2^-40 stands for squares that underflow.
    const double error = std::sqrt(halving_sum(errors) * kSumError + 0x1p-40);
    if (square <= kNormLimit * kNormLimit && error <= kErrorLimit) {
      return static_cast<int32_t>((kNormLimit + kErrorLimit) * error) + 1;
    }
  }
  std::memset(out, 0, sizeof(int16_t) * static_cast<size_t>(head_dim));
  return kNoSlack;
}

int32_t pair_at(const int16_t* row, int32_t pair) {
  int32_t both;
  std::memcpy(&both, row + 2 * pair, sizeof(both));
  return both;
}

void pack_pairs(const int16_t* const* rows, int32_t count, int32_t head_dim, int32_t* panel) {
  const int32_t pairs = head_dim / 2;
  for (int32_t p = 0; p < pairs; p += 4) {
    int32_t* const lines = panel + static_cast<int64_t>(p) * kPanelRows;
    for (int32_t i = 0; i < count; ++i) {
      for (int e = 0; e < 4; ++e) lines[e * kPanelRows + i] = pair_at(rows[i], p + e);
    }
    for (int e = 0; e < 4; ++e) {
      for (int32_t i = count; i < kPanelRows; ++i) lines[e * kPanelRows + i] = 0;
    }
  }
}

// acc[r][v] += row r . lanes of the panel
template <int kRows>
inline void accumulate(const int16_t* rows, int32_t head_dim, const int32_t* panel,
                       IntVec (&acc)[kRows][kTileVectors]) {
  const int32_t pairs = head_dim / 2;
  for (int32_t p = 0; p < pairs; ++p) {
    IntVec lane[kTileVectors];
    for (int v = 0; v < kTileVectors; ++v) {
      lane[v] = load_ints(panel + static_cast<int64_t>(p) * kPanelRows + v * kWidth);
    }
    for (int r = 0; r < kRows; ++r) {
      const IntVec both = splat_int(pair_at(rows + static_cast<int64_t>(r) * head_dim, p));
      for (int v = 0; v < kTileVectors; ++v) acc[r][v] = add_products(acc[r][v], both, lane[v]);
    }
  }
}

template <int kRows>
inline void bits_of_rows(const int16_t* rows, int32_t head_dim, const int32_t* panel,
                         const int32_t* start, const int32_t* margin, const int32_t* low,
                         const int32_t* high, uint64_t* maybe, uint64_t* sure) {
  for (int r = 0; r < kRows; ++r) maybe[r] = sure[r] = 0;
  for (int base = 0; base < kPanelRows; base += kTileLanes) {
    IntVec acc[kRows][kTileVectors];
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kTileVectors; ++v) acc[r][v] = splat_int(start[r]);
    }
    accumulate(rows, head_dim, panel + base, acc);
    for (int r = 0; r < kRows; ++r) {
      uint64_t found = 0;
      for (int v = 0; v < kTileVectors; ++v) {
        found |= above(acc[r][v], load_ints(low + base + v * kWidth)) << (v * kWidth);
      }
      if (found == 0) continue;
      maybe[r] |= found << base;
      const IntVec less = splat_int(-margin[r]);
      for (int v = 0; v < kTileVectors; ++v) {
        const int at = base + v * kWidth;
        sure[r] |= above(add(acc[r][v], less), load_ints(high + at)) << at;
      }
    }
  }
}

void filter_bits(const int16_t* rows, int32_t count, int32_t head_dim, const int32_t* panel,
                 const int32_t* start, const int32_t* margin, const int32_t* low,
                 const int32_t* high, uint64_t* maybe, uint64_t* sure) {
  int32_t r = 0;
  for (; r + kTileRows <= count; r += kTileRows) {
    bits_of_rows<kTileRows>(rows + static_cast<int64_t>(r) * head_dim, head_dim, panel, start + r,
                            margin + r, low, high, maybe + r, sure + r);
  }
  for (; r < count; ++r) {
    bits_of_rows<1>(rows + static_cast<int64_t>(r) * head_dim, head_dim, panel, start + r,
                    margin + r, low, high, maybe + r, sure + r);
  }
}

void lay_block(int16_t* rows, int32_t count, int32_t head_dim, int32_t* panel) {
  const int16_t* each[kPanelRows] = {};
  for (int32_t i = 0; i < count; ++i) each[i] = rows + static_cast<int64_t>(i) * head_dim;
  pack_pairs(each, count, head_dim, panel);
}

template <int kRows>
inline void rank_rows(const int16_t* rows, int32_t first, int32_t head_dim, const int32_t* panel,
                      int32_t mask, int base, int32_t (*keys)[kPanelRows]) {
  IntVec acc[kRows][kTileVectors] = {};
  accumulate(rows + static_cast<int64_t>(first) * head_dim, head_dim, panel + base, acc);
  for (int v = 0; v < kTileVectors; ++v) {
    const int at = base + v * kWidth;
    IntVec ranks[kRanks];
    for (int k = 0; k < kRanks; ++k) ranks[k] = load_ints(keys[k] + at);
    for (int r = 0; r < kRows; ++r) {
      IntVec key = merge_bits(splat_int(mask), splat_int(first + r), acc[r][v]);
      for (int k = 0; k + 1 < kRanks; ++k) {
        const IntVec passed_on = smaller(ranks[k], key);
        ranks[k] = larger(ranks[k], key);
        key = passed_on;
      }
      ranks[kRanks - 1] = larger(ranks[kRanks - 1], key);
    }
    for (int k = 0; k < kRanks; ++k) store_ints(keys[k] + at, ranks[k]);
  }
}

void filter_largest(const int16_t* rows, int32_t count, int32_t head_dim, const int32_t* panel,
                    int32_t mask, int32_t (*keys)[kPanelRows]) {
  for (int k = 0; k < kRanks; ++k) {
    for (int i = 0; i < kPanelRows; ++i) keys[k][i] = std::numeric_limits<int32_t>::min();
  }
  for (int base = 0; base < kPanelRows; base += kTileLanes) {
    int32_t r = 0;
    for (; r + kTileRows <= count; r += kTileRows) {
      rank_rows<kTileRows>(rows, r, head_dim, panel, mask, base, keys);
    }
    for (; r < count; ++r) {
      rank_rows<1>(rows, r, head_dim, panel, mask, base, keys);
    }
  }
}

constexpr FilterKernels kKernels = {.pays = true,
                                    .rough_square = rough_square,
                                    .quantise_row = quantise_row,
                                    .pack_pairs = pack_pairs,
                                    .filter_bits = filter_bits,
                                    .lay_block = lay_block,
                                    .block_bits = filter_bits,
                                    .filter_largest = filter_largest};

}  // namespace

#if defined(__AVX512F__)
// Without VNNI two instructions add 32 products, as many as two of f32 fma: the filter would save
// nothing.
extern const FilterKernels filter_kernels = {};
extern const FilterKernels filter_kernels_vnni = kKernels;

void lay_block_amx(int16_t* rows, int32_t count, int32_t head_dim, int32_t* panel);
void block_bits_amx(const int16_t* rows, int32_t count, int32_t head_dim, const int32_t* panel,
                    const int32_t* start, const int32_t* margin, const int32_t* low,
                    const int32_t* high, uint64_t* maybe, uint64_t* sure);

constexpr FilterKernels with_matrix_unit(FilterKernels kernels) {
  kernels.lay_block = lay_block_amx;
  kernels.block_bits = block_bits_amx;
  return kernels;
}
extern const FilterKernels filter_kernels_amx = with_matrix_unit(kKernels);
#else
extern const FilterKernels filter_kernels = kKernels;
#endif

#else

// NEON multiplies four int16 or four f32 an instruction: the filter would save nothing.
extern const FilterKernels filter_kernels = {};

#endif

}  // namespace spindlekv::cpu::SKV_ISA
