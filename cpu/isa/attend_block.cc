// attend for many rows (prompts, and slots that several items share): a row in every lane.
//
//   x[s, r] = sum_d k[s, d] q[d, r];  p = exp(x - m[r]);  acc[r, d] = acc[r, d] f[r] + sum_s p[s,
//   r] v[s, d]
// Both are small matrix products whose left factor is broadcast and whose right one lies in vectors
// as it is, so that nothing of a tile is transposed; maxima and sums over slots go lane by lane. K
// and V of a tile become floats once for all rows, and the next tile's are prefetched meanwhile.
// Compute-bound: 4 D flops per row and slot. Tiles in the future of every query are skipped.
#include "cpu/attend_task.h"
#include "cpu/isa/attend_rows.h"
#include "cpu/isa/rows.h"
#include "cpu/isa/softmax.h"
#include "cpu/prefetch.h"

namespace spindlekv::cpu::SKV_ISA {
namespace {

struct Memory {
  int lanes;       // rows, rounded up
  int dim;         // padded
  float* queries;  // [D, lanes]
  float* keys;     // [kKeySlots, kKeyStride]
  float* values;   // [64, dim]
  float* weights;  // [64, lanes]
  float* scale;    // [lanes], and so on
  float* factor;
  int32_t* limit;  // largest visible position
  int32_t* bit;    // of the slots' masks
};

Memory carve(const AttendTask& task) {
  Memory memory;
  memory.lanes = block_lanes(task.rows);
  memory.dim = padded_dim(task.parts->params->head_dim);
  memory.queries = task.scratch;
  memory.keys = memory.queries + memory.lanes * memory.dim;
  memory.values = memory.keys + kKeySlots * kKeyStride;
  memory.weights = memory.values + kTileSlots * memory.dim;
  memory.scale = memory.weights + kTileSlots * memory.lanes;
  memory.factor = memory.scale + memory.lanes;
  memory.limit = reinterpret_cast<int32_t*>(memory.factor + memory.lanes);
  memory.bit = memory.limit + memory.lanes;
  return memory;
}

// ---- what comes next ------------------------------------------------------------------

// Brings the rows of the next tile to the second-level cache, a few at a time between blocks of
// arithmetic.
class Ahead {
 public:
  // tile == NULL: nothing comes next. blocks: how many calls of step() to spread the rows over.
  Ahead(const SlotTile* tile, int row_bytes, int blocks)
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
constexpr int kMostVecs = kHasManyRegisters ? 4 : 2;
constexpr int block_height(int vecs) {
  if (!kHasManyRegisters) return 6;
  constexpr int kHeights[] = {0, 16, 8, 8, 6};
  return kHeights[vecs];
}

// out[r][n] = (out[r][n] factor[r], or 0) + sum_k a[r kRowStep + k a_step] b[k][n], k ascending.
template <int kRows, int kVecs, int kRowStep, bool kAdds>
inline void multiply_block(const float* a, int64_t a_step, const float* b, int64_t b_step,
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
void multiply_columns(const float* a, int64_t a_step, const float* b, int64_t b_step, int depth,
                      const float* factor, int rows, float* out, int64_t out_step, Ahead* ahead) {
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
void multiply(const float* a, int64_t a_step, const float* b, int64_t b_step, int depth,
              const float* factor, int rows, int columns, float* out, int64_t out_step,
              Ahead* ahead) {
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

int blocks_of(int rows, int columns) {
  const int groups = (columns + kMostVecs * kWidth - 1) / (kMostVecs * kWidth);
  return groups * (rows / block_height(kMostVecs));
}

// ---- one tile -------------------------------------------------------------------------

// weights[s, r] = <k[s], q[r]>, some slots at a time so that their keys stay in the first-level
// cache, as many as make whole blocks. Slots beyond the count repeat the last one.
template <class Element>
void score(const AttendTask& task, const Memory& memory, const SlotTile& tile, Ahead* ahead) {
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
Vec finish_rows(const SlotTile& tile, const Memory& memory, int lane, Hiding hiding) {
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

// Logits of kWidth rows become exp(x - m) for their new maxima; l grows by the sums.
void weigh_rows(const AttendTask& task, const Memory& memory, int count, int lane, Vec most) {
  const Vec before = load(task.m + lane);
  const Vec maximum = max(most, before);
  const Vec pivot = select(less(splat(kNegativeInfinity), maximum), maximum, zero());
  const Vec factor = exp_fast(sub(before, pivot));
  Vec sum[2] = {zero(), zero()};
  float* x = memory.weights + lane;
  for (int s = 0; s < count; ++s, x += memory.lanes) {
    const Vec weight = exp_fast(sub(load(x), pivot));
    store(x, weight);
    sum[s % 2] = add(sum[s % 2], weight);
  }
  store(memory.factor + lane, factor);
  store(task.l + lane, add(mul(load(task.l + lane), factor), add(sum[0], sum[1])));
  store(task.m + lane, maximum);
}

// kept[r, s] = weights[s, r], -inf beyond the count.
void keep_logits(const Memory& memory, int rows, int count, float* kept) {
  float block[8 * kTileSlots];
  for (int r = 0; r < rows; r += 8) {
    for (int s = 0; s < kTileSlots; s += 8) {
      transpose_8x8(memory.weights + s * memory.lanes + r, memory.lanes, block + s, kTileSlots);
    }
    for (int i = 0; i < 8 && r + i < rows; ++i) {
      float* const out = kept + (r + i) * kTileSlots;
      for (int s = 0; s < kTileSlots; ++s) {
        out[s] = s < count ? block[i * kTileSlots + s] : kNegativeInfinity;
      }
    }
  }
}

// Dot products to weights for all rows; true if a slot is hidden from some row.
bool weigh(const AttendTask& task, const Memory& memory, const SlotTile& tile, const Extent& extent,
           float* kept) {
  bool hidden = tile.has_mask;
  for (int lane = 0; lane < memory.lanes; lane += kWidth) {
    int32_t least = INT32_MAX;
    for (int i = 0; i < kWidth; ++i) {
      least = memory.limit[lane + i] < least ? memory.limit[lane + i] : least;
    }
    const Hiding hiding{tile.has_mask, extent.largest > least};
    hidden = hidden || hiding.by_position;
    store(memory.factor + lane, finish_rows(tile, memory, lane, hiding));
  }
  if (kept != nullptr) keep_logits(memory, task.rows, tile.count, kept);
  for (int lane = 0; lane < memory.lanes; lane += kWidth) {
    weigh_rows(task, memory, tile.count, lane, load(memory.factor + lane));
  }
  return hidden;
}

template <class Element>
void load_values(const SlotTile& tile, const Memory& memory, int head_dim) {
  for (int slot = 0; slot < tile.count; ++slot) {
    float* const row = memory.values + slot * memory.dim;
    load_row<Element>(tile.v[slot], row, head_dim, memory.dim);
    if (tile.has_v_magnitude) scale_row(row, tile.v_magnitude[slot], memory.dim);
  }
}

// Infinity or NaN in a value that is hidden from a row must not reach it as 0 * infinity.
bool has_nonfinite(const float* values, int n) {
  Vec probe = zero();
  for (int i = 0; i < n; i += kWidth) probe = madd(load(values + i), zero(), probe);
  const float sum = halving_sum(probe);
  return sum != sum;
}

// acc += p . values, one value at a time, leaving out those of weight 0.
void add_values_apart(const Memory& memory, int rows, int count, float* acc) {
  const int dim = memory.dim;
  for (int r = 0; r < rows; ++r) {
    float* const row = acc + int64_t{r} * dim;
    scale_row(row, memory.factor[r], dim);
    for (int slot = 0; slot < count; ++slot) {
      const float weight = memory.weights[slot * memory.lanes + r];
      if (weight == 0.0f) continue;
      const float* const value = memory.values + slot * dim;
      for (int d = 0; d < dim; d += kWidth) {
        store(row + d, madd(splat(weight), load(value + d), load(row + d)));
      }
    }
  }
}

template <class Element>
void add_tile(const AttendTask& task, const Memory& memory, const SlotTile& tile,
              const Extent& extent, float* kept, const SlotTile* next) {
  const int head_dim = task.parts->params->head_dim;
  Ahead ahead(next, head_dim * static_cast<int>(sizeof(Element)),
              (kTileSlots / kKeySlots) * blocks_of(kKeySlots, memory.lanes) +
                  blocks_of(memory.lanes, memory.dim));
  score<Element>(task, memory, tile, &ahead);
  const bool hidden = weigh(task, memory, tile, extent, kept);
  load_values<Element>(tile, memory, head_dim);
  if (hidden && has_nonfinite(memory.values, tile.count * memory.dim)) {
    add_values_apart(memory, task.rows, tile.count, task.acc);
    return;
  }
  multiply<1, true>(memory.weights, memory.lanes, memory.values, memory.dim, tile.count,
                    memory.factor, memory.lanes, memory.dim, task.acc, memory.dim, &ahead);
}

// ---- a piece --------------------------------------------------------------------------

// What belongs to rows, and their queries as columns.
void load_rows(const AttendTask& task, const Memory& memory) {
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
  for (int i = 0; i < memory.lanes * memory.dim; i += kWidth) store(task.acc + i, zero());
  for (int r = 0; r < memory.lanes; ++r) {
    task.m[r] = kNegativeInfinity;
    task.l[r] = 0.0f;
  }
}

// The tiles that some row sees, one after the other.
class TileReader {
 public:
  TileReader(const AttendTask& task, const Memory& memory)
      : task_(task), n_tiles_(tiles_of(task.n_slots)) {
    for (int r = 0; r < task.rows; ++r) {
      last_ = memory.limit[r] > last_ ? memory.limit[r] : last_;
    }
  }

  struct Place {
    SlotTile tile;
    Extent extent;
    float* kept;
  };

  // False if there is no further one. Those that no row sees have logits of -inf.
  bool read(Place* place) {
    const int64_t logits = int64_t{task_.rows} * kTileSlots;
    for (; index_ < n_tiles_; ++index_) {
      place->kept = task_.logits == nullptr ? nullptr : task_.logits + index_ * logits;
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

template <class Element>
void attend(const AttendTask& task) {
  const Memory memory = carve(task);
  load_rows(task, memory);
  TileReader reader(task, memory);
  TileReader::Place places[2];
  bool has_tile = reader.read(&places[0]);
  for (int i = 0; has_tile; ++i) {
    const TileReader::Place& place = places[i % 2];
    TileReader::Place& next = places[(i + 1) % 2];
    has_tile = reader.read(&next);
    add_tile<Element>(task, memory, place.tile, place.extent, place.kept,
                      has_tile ? &next.tile : nullptr);
  }
}

}  // namespace

void attend_block(const AttendTask& task) {
  switch (task.parts->params->dtype) {
    case SKV_F16:
      return attend<F16>(task);
    case SKV_BF16:
      return attend<Bf16>(task);
    default:
      return attend<float>(task);
  }
}

}  // namespace spindlekv::cpu::SKV_ISA
