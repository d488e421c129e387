// What the kernels of attend for many rows have in common: products by vectors, the softmax, and
// the tiles of a piece one after the other.
//
//   x[s, r] = sum_d k[s, d] q[d, r];  p = exp(x - m[r]);  acc[r, d] = acc[r, d] f[r] + sum_s p[s,
//   r] v[s, d]
// Both are small matrix products whose left factor is broadcast and whose right one lies in vectors
// as it is, so that nothing of a tile is transposed; maxima and sums over slots go lane by lane, a
// row in every lane. K and V of a tile become floats once for all rows.
#pragma once

#include "cpu/attend_task.h"
#include "cpu/isa/attend_rows.h"
#include "cpu/isa/rows.h"
#include "cpu/isa/softmax.h"
#include "cpu/prefetch.h"

namespace spindlekv::cpu::SKV_ISA {

struct BlockMemory {
  int lanes;       // rows, rounded up
  int dim;         // padded
  float* queries;  // [D, lanes]
  float* keys;     // [kKeySlots, kKeyStride]
  float* values;   // [64, dim]
  float* weights;  // [64, lanes]
  float* scale;    // [lanes], and so on
  float* factor;
  float* pivot;    // what is added to logits in powers of two: -m log2(e)
  int32_t* limit;  // largest visible position
  int32_t* bit;    // of the slots' masks
};

static inline BlockMemory carve_block(const AttendTask& task) {
  BlockMemory memory;
  memory.lanes = block_lanes(task.rows);
  memory.dim = padded_dim(task.parts->params->head_dim);
  memory.queries = task.scratch;
  memory.keys = memory.queries + memory.lanes * memory.dim;
  memory.values = memory.keys + kKeySlots * kKeyStride;
  memory.weights = memory.values + kTileSlots * memory.dim;
  memory.scale = memory.weights + kTileSlots * memory.lanes;
  memory.factor = memory.scale + memory.lanes;
  memory.pivot = memory.factor + memory.lanes;
  memory.limit = reinterpret_cast<int32_t*>(memory.pivot + memory.lanes);
  memory.bit = memory.limit + memory.lanes;
  return memory;
}

// ---- what comes next ------------------------------------------------------------------

// Brings the rows of the next tile to the second-level cache, a few at a time between blocks of
// arithmetic.
class RowsAhead {
 public:
  // tile == NULL: nothing comes next. blocks: how many calls of step() to spread the rows over.
  RowsAhead(const SlotTile* tile, int row_bytes, int blocks)
      : tile_(tile), row_bytes_(row_bytes), per_step_((2 * kTileSlots + blocks - 1) / blocks) {}

  void step() {
    if (tile_ == nullptr) return;
    for (int i = 0; i < per_step_ && row_ < 2 * kTileSlots; ++i, ++row_) {
      const void* const row = row_ < kTileSlots ? tile_->k[row_] : tile_->v[row_ - kTileSlots];
      prefetch_bytes<kSecondLevel>(row, row_bytes_);
    }
  }

 private:
  const SlotTile* tile_;
  int row_bytes_, per_step_, row_ = 0;
};

// ---- products -------------------------------------------------------------------------

// Vectors of the right factor that a block holds, and the rows that then fill the registers.
inline constexpr int kMostVecs = kHasManyRegisters ? 4 : 2;
static inline constexpr int block_height(int vecs) {
  if (!kHasManyRegisters) return 6;
  constexpr int kHeights[] = {0, 16, 8, 8, 6};
  return kHeights[vecs];
}

// out[r][n] = (out[r][n] factor[r], or 0) + sum_k a[r kRowStep + k a_step] b[k][n], k ascending.
template <int kRows, int kVecs, int kRowStep, bool kAdds>
static inline void multiply_block(const float* a, int64_t a_step, const float* b, int64_t b_step,
                                  int depth, const float* factor, float* out, int64_t out_step) {
  Vec sum[kRows][kVecs];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) {
      sum[r][v] = kAdds ? mul(load(out + r * out_step + v * kWidth), splat(factor[r])) : zero();
    }
  }
  for (int k = 0; k < depth; ++k, a += a_step, b += b_step) {
    Vec column[kVecs];
    for (int v = 0; v < kVecs; ++v) column[v] = load(b + v * kWidth);
    for (int r = 0; r < kRows; ++r) {
      const Vec left = splat(a[r * kRowStep]);
      for (int v = 0; v < kVecs; ++v) sum[r][v] = madd(left, column[v], sum[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) store(out + r * out_step + v * kWidth, sum[r][v]);
  }
}

// All rows, an even number, by kVecs vectors.
template <int kVecs, int kRowStep, bool kAdds>
static void multiply_columns(const float* a, int64_t a_step, const float* b, int64_t b_step,
                             int depth, const float* factor, int rows, float* out, int64_t out_step,
                             RowsAhead* ahead) {
  constexpr int kHeight = block_height(kVecs);
  int r = 0;
  for (; r + kHeight <= rows; r += kHeight) {
    ahead->step();
    multiply_block<kHeight, kVecs, kRowStep, kAdds>(a + r * kRowStep, a_step, b, b_step, depth,
                                                    factor + r, out + r * out_step, out_step);
  }
  for (; r + 4 <= rows; r += 4) {
    multiply_block<4, kVecs, kRowStep, kAdds>(a + r * kRowStep, a_step, b, b_step, depth,
                                              factor + r, out + r * out_step, out_step);
  }
  for (; r < rows; r += 2) {
    multiply_block<2, kVecs, kRowStep, kAdds>(a + r * kRowStep, a_step, b, b_step, depth,
                                              factor + r, out + r * out_step, out_step);
  }
}

// All rows by all columns, a multiple of 16.
template <int kRowStep, bool kAdds>
static void multiply(const float* a, int64_t a_step, const float* b, int64_t b_step, int depth,
                     const float* factor, int rows, int columns, float* out, int64_t out_step,
                     RowsAhead* ahead) {
  for (int n = 0; n < columns;) {
    const auto run = [&]<int kVecs>() {
      multiply_columns<kVecs, kRowStep, kAdds>(a, a_step, b + n, b_step, depth, factor, rows,
                                               out + n, out_step, ahead);
      n += kVecs * kWidth;
    };
    const int vecs = (columns - n) / kWidth;
    if (vecs >= kMostVecs) {
      run.template operator()<kMostVecs>();
    } else if (kMostVecs > 2 && vecs == 3) {
      run.template operator()<3>();
    } else if (kMostVecs > 2 && vecs == 1) {
      run.template operator()<1>();
    } else {
      run.template operator()<2>();
    }
  }
}

static inline int blocks_of(int rows, int columns) {
  const int groups = (columns + kMostVecs * kWidth - 1) / (kMostVecs * kWidth);
  return groups * (rows / block_height(kMostVecs));
}

// ---- one tile -------------------------------------------------------------------------

// weights[s, r] = <k[s], q[r]>, some slots at a time so that their keys stay in the first-level
// cache, as many as make whole blocks. Slots beyond the count repeat the last one.
template <class Element>
static inline void score(const AttendTask& task, const BlockMemory& memory, const SlotTile& tile,
                         RowsAhead* ahead) {
  const SkvAttendParams& params = *task.parts->params;
  const int vecs = memory.lanes / kWidth;
  const int height = block_height(vecs < kMostVecs ? vecs : kMostVecs);
  const int most = kKeySlots / height * height;
  for (int slot = 0; slot < tile.count; slot += most) {
    const int keys = kTileSlots - slot < most ? kTileSlots - slot : most;
    for (int i = 0; i < keys; ++i) {
      const int last = tile.count - 1;
      load_key<Element>(tile, slot + i < last ? slot + i : last, params.rope,
                        memory.keys + i * kKeyStride, params.head_dim, params.head_dim);
    }
    multiply<kKeyStride, false>(memory.keys, 1, memory.queries, memory.lanes, params.head_dim,
                                memory.factor, keys, memory.lanes,
                                memory.weights + slot * memory.lanes, memory.lanes, ahead);
  }
}

// What hides slots of a tile from some row.
struct Hiding {
  bool by_mask, by_position;
};

// Logits of kWidth rows from their dot products; returns their maxima.
static inline Vec logits_of_rows(const SlotTile& tile, const BlockMemory& memory, int lane,
                                 Hiding hiding) {
  float* x = memory.weights + lane;
  const Vec scale = load(memory.scale + lane);
  Vec most = splat(kNegativeInfinity);
  if (!tile.has_beta && !hiding.by_mask && !hiding.by_position) {
    for (int s = 0; s < tile.count; ++s, x += memory.lanes) {
      const Vec logit = mul(load(x), scale);
      store(x, logit);
      most = max(logit, most);
    }
    return most;
  }
  for (int s = 0; s < tile.count; ++s, x += memory.lanes) {
    Vec logit = mul(load(x), scale);
    if (tile.has_beta) logit = add(logit, splat(tile.beta[s]));
    if (hiding.by_mask) {
      logit = select(has_bit(memory.bit + lane, tile.mask[s]), logit, splat(kNegativeInfinity));
    }
    if (hiding.by_position) {
      // The query came before the slot.
      logit = select(at_most(memory.limit + lane, tile.position[s] - 1), splat(kNegativeInfinity),
                     logit);
    }
    store(x, logit);
    most = max(logit, most);
  }
  return most;
}

// The running maxima of kWidth rows reach `most`; what was summed under the old ones shrinks.
static inline void advance_rows(const AttendTask& task, const BlockMemory& memory, int lane,
                                Vec most) {
  const Vec before = load(task.m + lane);
  const Vec maximum = max(most, before);
  const Vec pivot = select(less(splat(kNegativeInfinity), maximum), maximum, zero());
  const Vec factor = exp_fast(sub(before, pivot));
  store(memory.factor + lane, factor);
  store(memory.pivot + lane, mul(pivot, splat(-canonical::kLog2e)));
  store(task.l + lane, mul(load(task.l + lane), factor));
  store(task.m + lane, maximum);
}

// exp(x - m) of kWidth rows' logits, with the pivot that advance_rows left.
static inline Vec weight_of(const float* x, Vec pivot) {
  return exp2_fast(madd(load(x), splat(canonical::kLog2e), pivot));
}

// Logits of kWidth rows become weights; l grows by their sums.
static inline void weigh_rows(const AttendTask& task, const BlockMemory& memory, int count,
                              int lane) {
  const Vec pivot = load(memory.pivot + lane);
  Vec sum[2] = {zero(), zero()};
  float* x = memory.weights + lane;
  for (int s = 0; s < count; ++s, x += memory.lanes) {
    const Vec weight = weight_of(x, pivot);
    store(x, weight);
    sum[s % 2] = add(sum[s % 2], weight);
  }
  store(task.l + lane, add(load(task.l + lane), add(sum[0], sum[1])));
}

// kept[r, s] = weights[s, r] of rows [begin, end), -inf beyond the count; begin is a multiple of 8.
static inline void keep_logits(const BlockMemory& memory, int begin, int end, int count,
                               float* kept) {
  float block[8 * kTileSlots];
  for (int r = begin; r < end; r += 8) {
    for (int s = 0; s < kTileSlots; s += 8) {
      transpose_8x8(memory.weights + s * memory.lanes + r, memory.lanes, block + s, kTileSlots);
    }
    for (int i = 0; i < 8 && r + i < end; ++i) {
      float* const out = kept + (r + i) * kTileSlots;
      for (int s = 0; s < kTileSlots; ++s) {
        out[s] = s < count ? block[i * kTileSlots + s] : kNegativeInfinity;
      }
    }
  }
}

static inline bool hides_by_position(const BlockMemory& memory, const Extent& extent, int lane) {
  return any(at_most(memory.limit + lane, extent.largest - 1));
}

// True if a slot of the tile is hidden from some row.
static inline bool hides(const BlockMemory& memory, const SlotTile& tile, const Extent& extent) {
  bool hidden = tile.has_mask;
  for (int lane = 0; lane < memory.lanes && !hidden; lane += kWidth) {
    hidden = hides_by_position(memory, extent, lane);
  }
  return hidden;
}

// Dot products of kWidth rows to logits; their running maxima follow.
static inline void finish_rows(const AttendTask& task, const BlockMemory& memory,
                               const SlotTile& tile, const Extent& extent, int lane) {
  const Hiding hiding{tile.has_mask, hides_by_position(memory, extent, lane)};
  advance_rows(task, memory, lane, logits_of_rows(tile, memory, lane, hiding));
}

// The value of one slot, with zeros up to padded_dim.
template <class Element>
static inline void load_value(const SlotTile& tile, int slot, float* row, int head_dim) {
  load_row<Element>(tile.v[slot], row, head_dim, padded_dim(head_dim));
  if (tile.has_v_magnitude) scale_row(row, tile.v_magnitude[slot], padded_dim(head_dim));
}

template <class Element>
static inline void load_values(const SlotTile& tile, const BlockMemory& memory, int head_dim) {
  for (int slot = 0; slot < tile.count; ++slot) {
    load_value<Element>(tile, slot, memory.values + slot * memory.dim, head_dim);
  }
}

// Infinity or NaN in a value that is hidden from a row must not reach it as 0 * infinity.
static inline bool has_nonfinite(const float* values, int n) {
  Vec probe = zero();
  for (int i = 0; i < n; i += kWidth) probe = madd(load(values + i), zero(), probe);
  const float sum = halving_sum(probe);
  return sum != sum;
}

// acc += p . values, one value at a time, leaving out those of weight 0.
static inline void add_values_apart(const BlockMemory& memory, int rows, int count, float* acc) {
  const int dim = memory.dim;
  for (int r = 0; r < rows; ++r) {
    float* const row = acc + int64_t{r} * dim;
    scale_row(row, memory.factor[r], dim);
    for (int slot = 0; slot < count; ++slot) {
      const float weight = memory.weights[slot * memory.lanes + r];
      if (weight != 0.0f) add_scaled_row(memory.values + slot * dim, weight, row, dim);
    }
  }
}

// acc = acc f + p . values, those that load_values left.
static inline void add_loaded_values(const AttendTask& task, const BlockMemory& memory,
                                     const SlotTile& tile, const Extent& extent, RowsAhead* ahead) {
  if (hides(memory, tile, extent) && has_nonfinite(memory.values, tile.count * memory.dim)) {
    add_values_apart(memory, task.rows, tile.count, task.acc);
    return;
  }
  multiply<1, true>(memory.weights, memory.lanes, memory.values, memory.dim, tile.count,
                    memory.factor, memory.lanes, memory.dim, task.acc, memory.dim, ahead);
}

// ---- a piece --------------------------------------------------------------------------

// What belongs to rows, and their queries: as rows in acc, and as columns.
static inline void load_rows(const AttendTask& task, const BlockMemory& memory) {
  for (int r = task.rows; r < memory.lanes; ++r) {
    memory.scale[r] = 0.0f;
    memory.limit[r] = INT32_MAX;
    memory.bit[r] = -1;
  }
  for_each_row(task, [&](int r, const SkvAttendParams& params, int head, int32_t position) {
    memory.scale[r] = params.scale;
    memory.limit[r] = params.causal != 0 ? position : INT32_MAX;
    memory.bit[r] = int32_t{1} << head;
  });
  load_all_queries(task, memory.lanes, memory.dim, task.acc);
  for (int r = 0; r < memory.lanes; r += 8) {
    for (int d = 0; d < memory.dim; d += 8) {
      transpose_8x8(task.acc + r * memory.dim + d, memory.dim,
                    memory.queries + d * memory.lanes + r, memory.lanes);
    }
  }
}

static inline void clear_sums(const AttendTask& task, const BlockMemory& memory) {
  for (int i = 0; i < memory.lanes * memory.dim; i += kWidth) store(task.acc + i, zero());
  for (int r = 0; r < memory.lanes; ++r) {
    task.m[r] = kNegativeInfinity;
    task.l[r] = 0.0f;
  }
}

// A tile of a piece, and where its logits are kept, if they are.
struct BlockTile {
  SlotTile tile;
  Extent extent;
  float* kept;
};

// The tiles that some row sees, one after the other.
class BlockReader {
 public:
  BlockReader(const AttendTask& task, const BlockMemory& memory)
      : task_(task), n_tiles_(tiles_of(task.n_slots)) {
    for (int r = 0; r < task.rows; ++r) {
      last_ = memory.limit[r] > last_ ? memory.limit[r] : last_;
    }
  }

  // False if there is no further one. Those that no row sees have logits of -inf.
  bool read(BlockTile* place) {
    const int64_t logits = int64_t{task_.rows} * kTileSlots;
    for (; index_ < n_tiles_; ++index_) {
      place->kept = task_.kept == nullptr ? nullptr : task_.kept + index_ * logits;
      read_tile_of(task_, index_, &place->tile);
      place->extent = position_extent(place->tile);
      if (place->extent.least <= last_) {
        ++index_;
        return true;
      }
      for (int64_t i = 0; place->kept != nullptr && i < logits; ++i) {
        place->kept[i] = kNegativeInfinity;
      }
    }
    return false;
  }

 private:
  const AttendTask& task_;
  int n_tiles_, index_ = 0;
  int32_t last_ = 0;  // position that some row sees
};

}  // namespace spindlekv::cpu::SKV_ISA
