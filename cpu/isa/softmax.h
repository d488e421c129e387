// Rows of 64 logits: what is visible, and their exponentials.
//
// A slot that a row does not see has logit -inf, and so has every place beyond the tile's count. A
// row that sees nothing has maximum -inf and sum 0; NaN among the visible logits makes the sum NaN.
#pragma once

#include "cpu/simd.h"
#include "cpu/slot_tile.h"

namespace spindlekv::cpu::SKV_ISA {

inline constexpr float kNegativeInfinity = -__builtin_inff();

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

// x = x * scale + beta where visible, -inf elsewhere (the product rounded first: canonical).
static inline void finish_logits(const SlotTile& tile, const Sight& sight, float scale, float* x) {
  for (int i = 0; i < kTileSlots; i += kWidth) {
    Vec logit = mul(load(x + i), splat(scale));
    if (tile.has_beta) logit = add(logit, load(tile.beta + i));
    if (sight.by_mask) {
      logit = select(has_bit(tile.mask + i, sight.bit), logit, splat(kNegativeInfinity));
    }
    if (sight.by_position) {
      logit = select(at_most(tile.position + i, sight.limit), logit, splat(kNegativeInfinity));
    }
    store(x + i, logit);
  }
  for (int i = tile.count; i < kTileSlots; ++i) x[i] = kNegativeInfinity;
}

static inline float row_max(const float* x) {
  Vec most = load(x);
  for (int i = kWidth; i < kTileSlots; i += kWidth) most = max(load(x + i), most);
  return reduce_max(most);
}

// canonical::halving_sum_64.
static inline float sum_64(const float* x) {
  constexpr int kVecs = kTileSlots / kWidth;
  Vec part[kVecs];
  for (int v = 0; v < kVecs; ++v) part[v] = load(x + v * kWidth);
  for (int n = kVecs / 2; n >= 1; n /= 2) {
    for (int v = 0; v < n; ++v) part[v] = add(part[v], part[v + n]);
  }
  return halving_sum(part[0]);
}

// What to subtract from logits so that a row that sees nothing gives exp(-inf) = 0 and not NaN.
static inline float finite_pivot(float maximum) {
  return maximum == kNegativeInfinity ? 0.0f : maximum;
}

// One step of the running softmax: x becomes exp(x - m) for the new maximum m, l grows by their
// sum, and the factor by which what was summed under the old maximum must shrink is returned. Not
// canonical.
static inline float advance_row(float* x, float* m, float* l) {
  const float tile_max = row_max(x);
  const float maximum = tile_max > *m ? tile_max : *m;
  const float pivot = finite_pivot(maximum);
  float change[kWidth] = {*m - pivot};
  store(change, exp_fast(load(change)));
  for (int i = 0; i < kTileSlots; i += kWidth)
    store(x + i, exp_fast(sub(load(x + i), splat(pivot))));
  *l = *l * change[0] + sum_64(x);
  *m = maximum;
  return change[0];
}

}  // namespace spindlekv::cpu::SKV_ISA
