// Rows of 64 logits: what is visible, and their exponentials.
//
// A slot that a row does not see has logit -inf, and so has every place beyond the tile's count. A
// row that sees nothing has maximum -inf and sum 0; NaN among the visible logits makes the sum NaN.
#pragma once

#include "cpu/simd.h"
#include "cpu/slot_tile.h"

namespace spindlekv::cpu::SKV_ISA {

inline constexpr float kNegativeInfinity = -__builtin_inff();

// The place of each slot in its tile.
alignas(64) inline constexpr int32_t kPlaces[kTileSlots] = {
    0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
    22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
    44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};

struct Extent {
  int32_t least, largest;  // logical positions of a tile's slots
};

static inline Extent position_extent(const SlotTile& tile) {
  Extent extent{tile.position[0], tile.position[0]};
  for (int i = 1; i < tile.count; ++i) {
    const int32_t position = tile.position[i];
    extent.least = position < extent.least ? position : extent.least;
    extent.largest = position > extent.largest ? position : extent.largest;
  }
  return extent;
}

// Which slots of a tile a row sees.
struct Sight {
  bool by_mask, by_position;
  int32_t bit;    // of the tile's mask
  int32_t limit;  // largest visible position
};

static inline Sight row_sight(const SlotTile& tile, const Extent& extent, int head_in_group,
                              bool causal, int32_t query_position) {
  return {tile.has_mask, causal && extent.largest > query_position, int32_t{1} << head_in_group,
          query_position};
}

// True if a slot within the count may be hidden from the row.
static inline bool hides(const Sight& sight) { return sight.by_mask || sight.by_position; }

// The 64 numbers of a row, in registers where there are enough.
inline constexpr int kTileVecs = kTileSlots / kWidth;
struct TileRow {
  Vec part[kTileVecs];
};

static inline TileRow load_tile_row(const float* x) {
  TileRow row;
#pragma GCC unroll 16
  for (int v = 0; v < kTileVecs; ++v) row.part[v] = load(x + v * kWidth);
  return row;
}

static inline void store_tile_row(float* x, const TileRow& row) {
#pragma GCC unroll 16
  for (int v = 0; v < kTileVecs; ++v) store(x + v * kWidth, row.part[v]);
}

// row * scale + beta where visible, -inf elsewhere (the product rounded first: canonical).
static inline TileRow logits_of(const SlotTile& tile, const Sight& sight, float scale,
                                TileRow row) {
  const Vec hidden = splat(kNegativeInfinity);
#pragma GCC unroll 16
  for (int v = 0; v < kTileVecs; ++v) row.part[v] = mul(row.part[v], splat(scale));
  if (tile.has_beta) {
    for (int v = 0; v < kTileVecs; ++v)
      row.part[v] = add(row.part[v], load(tile.beta + v * kWidth));
  }
  if (sight.by_mask) {
    for (int v = 0; v < kTileVecs; ++v) {
      row.part[v] = select(has_bit(tile.mask + v * kWidth, sight.bit), row.part[v], hidden);
    }
  }
  if (sight.by_position) {
    for (int v = 0; v < kTileVecs; ++v) {
      row.part[v] = select(at_most(tile.position + v * kWidth, sight.limit), row.part[v], hidden);
    }
  }
  if (tile.count < kTileSlots) {
    for (int v = 0; v < kTileVecs; ++v) {
      row.part[v] = select(at_most(kPlaces + v * kWidth, tile.count - 1), row.part[v], hidden);
    }
  }
  return row;
}

// Each number times its own factor, [64].
static inline TileRow times(TileRow row, const float* factors) {
#pragma GCC unroll 16
  for (int v = 0; v < kTileVecs; ++v) row.part[v] = mul(row.part[v], load(factors + v * kWidth));
  return row;
}

// exp(x - pivot).
static inline TileRow exp_from(TileRow row, float pivot) {
#pragma GCC unroll 16
  for (int v = 0; v < kTileVecs; ++v) row.part[v] = exp_fast(sub(row.part[v], splat(pivot)));
  return row;
}

static inline Vec lane_max(const TileRow& row) {
  Vec most = row.part[0];
#pragma GCC unroll 16
  for (int v = 1; v < kTileVecs; ++v) most = max(row.part[v], most);
  return most;
}
static inline float row_max(const TileRow& row) { return reduce_max(lane_max(row)); }
static inline float row_max(const float* x) { return row_max(load_tile_row(x)); }

// canonical::halving_sum_64.
static inline float sum_64(TileRow row) {
#pragma GCC unroll 16
  for (int n = kTileVecs / 2; n >= 1; n /= 2) {
#pragma GCC unroll 16
    for (int v = 0; v < n; ++v) row.part[v] = add(row.part[v], row.part[v + n]);
  }
  return halving_sum(row.part[0]);
}
static inline float sum_64(const float* x) { return sum_64(load_tile_row(x)); }

// What to subtract from logits so that a row that sees nothing gives exp(-inf) = 0 and not NaN.
static inline float finite_pivot(float maximum) {
  return maximum == kNegativeInfinity ? 0.0f : maximum;
}

static inline float exp_of(float x) {
  float lanes[kWidth];
  store(lanes, exp_fast(splat(x)));
  return lanes[0];
}

// One step of the running softmax: x becomes exp(x - m) for the new maximum m, l grows by their
// sum, and the factor by which what was summed under the old maximum must shrink is returned. Not
// canonical.
static inline float advance_row(TileRow* x, float* m, float* l) {
  const Vec most = lane_max(*x);
  // Most tiles leave the maximum as it was; their exponentials need not wait for their own.
  float change = 1.0f;
  if (any(less(splat(*m), most))) {
    const float maximum = reduce_max(most);
    change = exp_of(*m - maximum);
    *m = maximum;
  }
  *x = exp_from(*x, finite_pivot(*m));
  *l = *l * change + sum_64(*x);
  return change;
}

}  // namespace spindlekv::cpu::SKV_ISA
