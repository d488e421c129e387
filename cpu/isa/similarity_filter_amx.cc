// The similarity graph's comparisons on a processor with AMX: the integers of similarity_filter.cc
// by the matrix unit, which multiplies signed bytes.
//
// A value is two signed bytes, q = 256 h + l with -128 <= l < 128. The products of the high ones
// alone tell most rows apart: with |l| <= 128 sqrt(D) and |q| <= Q = kNormLimit + kErrorLimit
//
//   | qa . qb - 65536 ha . hb | <= |la| |qb| + |qa - la| |lb| <= 2 Q 128 sqrt(D) + (128 sqrt(D))^2
//
// which at D = 128 is a cosine of 0.09. Where it leaves a pair of 16 x 16 rows in doubt, the other
// products are added, and the integers are those of the vectors, bit for bit. int32 suffices:
// |h| <= (Q + |l|) / 256, so 65536 ha . hb is below 2^31 with the bound and the start.
//
// Bound by arithmetic: D multiply-adds of bytes a pair of rows, 1024 a cycle, 4 D where the low
// parts are needed.
#if defined(__AVX512F__)

#include <cmath>
#include <cstring>

#include "cpu/isa/amx.h"
#include "cpu/isa/similarity_filter.h"
#include "cpu/isa/similarity_ints.h"

namespace spindlekv::cpu::SKV_ISA {
namespace {

constexpr int kGroups = kPanelRows / kUnitRows;  // tiles across a block, either way

// Whether rows are a whole number of tiles long; the vectors compare others.
bool fits_tiles(int32_t head_dim) { return head_dim % kUnitBytes == 0; }

int8_t high_byte(int16_t value) { return static_cast<int8_t>((value + 128) >> 8); }
int8_t low_byte(int16_t value) { return static_cast<int8_t>(value - 256 * high_byte(value)); }

// What the low parts add to a product, at most.
int32_t low_bound(int32_t head_dim) {
  const double low = 128.0 * std::sqrt(static_cast<double>(head_dim));
  return static_cast<int32_t>((2.0 * (kNormLimit + kErrorLimit) + low) * low) + 1;
}

enum Part { kHigh, kLow };

// One block against another. A row's bytes are its high parts, then its low ones; the panel is
// [part][D / 64][4 groups of 16 rows] tiles of 16 fours of dims by 16 rows.
class BlockPair {
 public:
  BlockPair(const int16_t* rows, int32_t count, int32_t head_dim, const int32_t* panel)
      : rows_(reinterpret_cast<const char*>(rows)),
        panel_(reinterpret_cast<const char*>(panel)),
        count_(count),
        head_dim_(head_dim),
        steps_(head_dim / kUnitBytes) {}

  void compare(const int32_t* start, const int32_t* margin, const int32_t* low, const int32_t* high,
               uint64_t* maybe, uint64_t* sure) const {
    const IntVec bound = splat_int(low_bound(head_dim_));
    for (int row = 0; row < kGroups && row * kUnitRows < count_; row += 2) {
      const IntVec own[2] = {splat_int(largest_start(start, row)),
                             splat_int(largest_start(start, row + 1))};
      for (int column = 0; column < kGroups; column += 2) {
        alignas(64) int32_t sums[2][2][kUnitRows * kUnitRows];
        multiply_high(row, column, sums);
        for (int i = 0; i < 2; ++i) {
          for (int j = 0; j < 2; ++j) {
            const IntVec limit = load_ints(low + (column + j) * kUnitRows);
            const IntVec least = sub(sub(limit, bound), own[i]);
            if (above(largest_column(sums[i][j]), shift_right_16(least)) == 0) continue;
            decide({row + i, column + j}, sums[i][j], start, margin, low, high, maybe, sure);
          }
        }
      }
    }
  }

 private:
  struct Place {
    int row, column;  // groups
  };

  static IntVec sub(IntVec a, IntVec b) { return {_mm512_sub_epi32(a.v, b.v)}; }
  static IntVec shift_right_16(IntVec a) { return {_mm512_srai_epi32(a.v, 16)}; }
  template <int kBits>
  static IntVec shift_left(IntVec a) {
    return {_mm512_slli_epi32(a.v, kBits)};
  }

  const char* row_tile(int group, Part part, int step) const {
    return rows_ + int64_t{group} * kUnitRows * row_bytes() + part * head_dim_ + step * kUnitBytes;
  }
  int64_t row_bytes() const { return 2 * int64_t{head_dim_}; }
  const char* panel_tile(int group, Part part, int step) const {
    return panel_ + ((part * steps_ + step) * kGroups + group) * kUnitTileBytes;
  }

  // Of the rows of a group that are there.
  int32_t largest_start(const int32_t* start, int group) const {
    const int first = group * kUnitRows;
    int32_t largest = 0;
    for (int r = first; r < first + kUnitRows && r < count_; ++r) {
      largest = start[r] > largest ? start[r] : largest;
    }
    return largest;
  }

  static IntVec largest_column(const int32_t* sums) {
    IntVec largest = load_ints(sums);
    for (int r = 1; r < kUnitRows; ++r) {
      largest = larger(largest, load_ints(sums + r * kUnitRows));
    }
    return largest;
  }

  // High by high, two groups by two.
  void multiply_high(int row, int column, int32_t (&sums)[2][2][kUnitRows * kUnitRows]) const {
    tile_zero<0>();
    tile_zero<1>();
    tile_zero<2>();
    tile_zero<3>();
    for (int step = 0; step < steps_; ++step) {
      tile_load<4>(row_tile(row, kHigh, step), row_bytes());
      tile_load<6>(panel_tile(column, kHigh, step));
      tile_load<7>(panel_tile(column + 1, kHigh, step));
      tile_dot_bytes<0, 4, 6>();
      tile_load<5>(row_tile(row + 1, kHigh, step), row_bytes());
      tile_dot_bytes<1, 4, 7>();
      tile_dot_bytes<2, 5, 6>();
      tile_dot_bytes<3, 5, 7>();
    }
    tile_store<0>(sums[0][0]);
    tile_store<1>(sums[0][1]);
    tile_store<2>(sums[1][0]);
    tile_store<3>(sums[1][1]);
  }

  // The products with a low part: 256 of `mixed` and 1 of `low`.
  void multiply_low(Place place, int32_t* mixed, int32_t* low) const {
    tile_zero<0>();
    tile_zero<1>();
    for (int step = 0; step < steps_; ++step) {
      tile_load<4>(row_tile(place.row, kHigh, step), row_bytes());
      tile_load<5>(row_tile(place.row, kLow, step), row_bytes());
      tile_load<6>(panel_tile(place.column, kHigh, step));
      tile_load<7>(panel_tile(place.column, kLow, step));
      tile_dot_bytes<0, 4, 7>();
      tile_dot_bytes<1, 5, 7>();
      tile_dot_bytes<0, 5, 6>();
    }
    tile_store<0>(mixed);
    tile_store<1>(low);
  }

  // The whole products of 16 x 16 rows, as filter_bits compares them.
  void decide(Place place, const int32_t* high_sums, const int32_t* start, const int32_t* margin,
              const int32_t* low, const int32_t* high, uint64_t* maybe, uint64_t* sure) const {
    alignas(64) int32_t mixed[kUnitRows * kUnitRows], low_sums[kUnitRows * kUnitRows];
    multiply_low(place, mixed, low_sums);
    const int at = place.column * kUnitRows;
    const IntVec least = load_ints(low + at);
    const IntVec most = load_ints(high + at);
    const int first = place.row * kUnitRows;
    for (int r = first; r < first + kUnitRows && r < count_; ++r) {
      const int line = (r - first) * kUnitRows;
      const IntVec upper =
          add(shift_left<16>(load_ints(high_sums + line)), shift_left<8>(load_ints(mixed + line)));
      const IntVec sum = add(add(upper, load_ints(low_sums + line)), splat_int(start[r]));
      const uint64_t found = above(sum, least);
      if (found == 0) continue;
      maybe[r] |= found << at;
      sure[r] |= above(sub(sum, splat_int(margin[r])), most) << at;
    }
  }

  const char* rows_;
  const char* panel_;
  int32_t count_, head_dim_, steps_;
};

}  // namespace

void lay_block_amx(int16_t* rows, int32_t count, int32_t head_dim, int32_t* panel) {
  if (!fits_tiles(head_dim)) return filter_kernels_vnni.lay_block(rows, count, head_dim, panel);
  const int64_t values = int64_t{head_dim} * kPanelRows;
  std::memset(panel, 0, sizeof(int16_t) * static_cast<size_t>(values));
  std::memset(rows + int64_t{count} * head_dim, 0,
              sizeof(int16_t) * static_cast<size_t>(values - int64_t{count} * head_dim));
  constexpr int kFour = 4;  // bytes of a row that lie together in the panel
  const int32_t group_bytes = kUnitTileBytes, step_bytes = kGroups * group_bytes;
  const int32_t part_bytes = head_dim / kUnitBytes * step_bytes;
  for (int32_t i = 0; i < count; ++i) {
    int16_t* const row = rows + int64_t{i} * head_dim;
    int8_t bytes[2][512];
    for (int32_t d = 0; d < head_dim; ++d) {
      bytes[kHigh][d] = high_byte(row[d]);
      bytes[kLow][d] = low_byte(row[d]);
    }
    char* const column =
        reinterpret_cast<char*>(panel) + i / kUnitRows * group_bytes + i % kUnitRows * kFour;
    for (int part = kHigh; part <= kLow; ++part) {
      std::memcpy(reinterpret_cast<char*>(row) + part * head_dim, bytes[part],
                  static_cast<size_t>(head_dim));
      for (int32_t d = 0; d < head_dim; d += kFour) {
        const int32_t at =
            part * part_bytes + d / kUnitBytes * step_bytes + d % kUnitBytes / kFour * kUnitBytes;
        std::memcpy(column + at, bytes[part] + d, kFour);
      }
    }
  }
}

void block_bits_amx(const int16_t* rows, int32_t count, int32_t head_dim, const int32_t* panel,
                    const int32_t* start, const int32_t* margin, const int32_t* low,
                    const int32_t* high, uint64_t* maybe, uint64_t* sure) {
  if (!fits_tiles(head_dim)) {
    return filter_kernels_vnni.block_bits(rows, count, head_dim, panel, start, margin, low, high,
                                          maybe, sure);
  }
  for (int32_t r = 0; r < count; ++r) maybe[r] = sure[r] = 0;
  const TileUnit unit;
  BlockPair(rows, count, head_dim, panel).compare(start, margin, low, high, maybe, sure);
}

}  // namespace spindlekv::cpu::SKV_ISA

#endif
