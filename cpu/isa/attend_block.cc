// attend for many rows (prefill): both products as small matrix multiplications.
//
//   x[r, 64] = q[r, D] . keys[D, 64];  p = exp(x - m);  acc[r, D] += p[r, 64] . values[64, D]
// K (turned, transposed) and V of a tile become floats once and serve all rows of the block; tiles
// that lie in the future of every query are skipped. Compute-bound: 4 D flops per row and slot.
#include "cpu/attend_task.h"
#include "cpu/isa/attend_rows.h"
#include "cpu/isa/matmul.h"
#include "cpu/isa/rows.h"
#include "cpu/isa/softmax.h"

namespace spindlekv::cpu::SKV_ISA {
namespace {

struct Memory {
  float* q;        // [padded_rows, dim]
  float* keys;     // [D, 64]
  float* values;   // [64, dim]
  float* staging;  // [8, dim]
  float* scores;   // [padded_rows, 64]
  float* factor;   // [padded_rows]
};

static_assert(kRowBlock == kRowMultiple);

template <class Element>
void load_values(const SlotTile& tile, int head_dim, int dim, float* values) {
  for (int slot = 0; slot < tile.count; ++slot) {
    float* const row = values + slot * dim;
    load_row<Element>(tile.v[slot], row, head_dim, dim);
    if (tile.has_v_magnitude) scale_row(row, tile.v_magnitude[slot], dim);
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
void add_values_apart(const Memory& memory, int rows, int count, int dim, float* acc) {
  for (int r = 0; r < rows; ++r) {
    float* const row = acc + int64_t{r} * dim;
    scale_row(row, memory.factor[r], dim);
    for (int slot = 0; slot < count; ++slot) {
      const float weight = memory.scores[r * kTileSlots + slot];
      if (weight == 0.0f) continue;
      const float* const value = memory.values + slot * dim;
      for (int d = 0; d < dim; d += kWidth) {
        store(row + d, madd(splat(weight), load(value + d), load(row + d)));
      }
    }
  }
}

// Logits to weights for all rows; true if a slot is hidden from some row.
bool weigh(const AttendTask& task, const Memory& memory, const SlotTile& tile, const Extent& extent,
           float* kept) {
  bool hidden = false;
  for_each_row(task, [&](int r, const SkvAttendParams& params, int head, int32_t position) {
    float* const x = memory.scores + r * kTileSlots;
    const Sight sight = row_sight(tile, extent, head, params.causal != 0, position);
    hidden = hidden || hides(sight);
    finish_logits(tile, sight, params.scale, x);
    if (kept != nullptr) {
      for (int i = 0; i < kTileSlots; i += kWidth) store(kept + r * kTileSlots + i, load(x + i));
    }
    memory.factor[r] = advance_row(x, task.m + r, task.l + r);
  });
  return hidden;
}

template <class Element>
void add_tile(const AttendTask& task, const Memory& memory, const SlotTile& tile,
              const Extent& extent, float* kept, int dim) {
  const SkvAttendParams& params = *task.parts->params;
  const int rows = task.rows;
  const int all_rows = padded_rows(rows);
  load_keys_transposed<Element>(tile, params.rope, params.head_dim, dim, memory.staging,
                                memory.keys);
  multiply_rows<false>(memory.q, dim, memory.keys, kTileSlots, all_rows, params.head_dim,
                       kTileSlots, nullptr, memory.scores, kTileSlots);
  const bool hidden = weigh(task, memory, tile, extent, kept);
  load_values<Element>(tile, params.head_dim, dim, memory.values);
  if (hidden && has_nonfinite(memory.values, tile.count * dim)) {
    add_values_apart(memory, rows, tile.count, dim, task.acc);
    return;
  }
  multiply_rows<false>(memory.scores, kTileSlots, memory.values, dim, all_rows, tile.count, dim,
                       memory.factor, task.acc, dim);
}

// The largest position that some row sees.
int32_t last_visible(const AttendTask& task) {
  int32_t last = 0;
  for (int i = 0; i < task.n_parts; ++i) {
    const AttendPart& part = task.parts[i];
    const int32_t query = part.params->query_position + part.first_query + part.n_queries - 1;
    const int32_t limit = part.params->causal != 0 ? query : INT32_MAX;
    last = limit > last ? limit : last;
  }
  return last;
}

template <class Element>
void attend(const AttendTask& task) {
  const int dim = padded_dim(task.parts->params->head_dim);
  const int rows = task.rows;
  const int all_rows = padded_rows(rows);
  Memory memory;
  memory.q = task.scratch;
  memory.keys = memory.q + all_rows * dim;
  memory.values = memory.keys + kTileSlots * dim;
  memory.staging = memory.values + kTileSlots * dim;
  memory.scores = memory.staging + 8 * dim;
  memory.factor = memory.scores + all_rows * kTileSlots;

  load_all_queries(task, all_rows, dim, memory.q);
  for (int r = 0; r < rows; ++r) {
    task.m[r] = kNegativeInfinity;
    task.l[r] = 0.0f;
  }
  for (int r = rows; r < all_rows; ++r) memory.factor[r] = 0.0f;
  for (int i = 0; i < all_rows * dim; i += kWidth) store(task.acc + i, zero());

  const int32_t last_position = last_visible(task);
  SlotTile tile;
  for (int i = 0; i < tiles_of(task.n_slots); ++i) {
    read_tile_of(task, i, &tile);
    const Extent extent = position_extent(tile);
    float* const kept =
        task.logits == nullptr ? nullptr : task.logits + int64_t{i} * rows * kTileSlots;
    if (extent.least > last_position) {
      for (int x = 0; kept != nullptr && x < rows * kTileSlots; ++x) kept[x] = kNegativeInfinity;
      continue;
    }
    add_tile<Element>(task, memory, tile, extent, kept, dim);
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
