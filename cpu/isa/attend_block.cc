// attend for many rows (prefill): both products as small matrix multiplications.
//
//   x[r, 64] = q[r, D] . keys[D, 64];  p = exp(x - m);  acc[r, D] += p[r, 64] . values[64, D]
// K (turned, transposed) and V of a tile become floats once and serve all rows of the block; tiles
// that lie in the future of every query are skipped. Compute-bound: 4 D flops per row and slot.
#include "cpu/attend_task.h"
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
  const SkvAttendParams& params = *task.params;
  const int rows = params.group * task.n_queries;
  bool hidden = false;
  for (int r = 0; r < rows; ++r) {
    float* const x = memory.scores + r * kTileSlots;
    const Sight sight = row_sight(tile, extent, r / task.n_queries, params.causal != 0,
                                  params.query_position + task.first_query + r % task.n_queries);
    hidden = hidden || hides(sight);
    finish_logits(tile, sight, params.scale, x);
    if (kept != nullptr) {
      for (int i = 0; i < kTileSlots; i += kWidth) store(kept + r * kTileSlots + i, load(x + i));
    }
    memory.factor[r] = advance_row(x, task.m + r, task.l + r);
  }
  return hidden;
}

template <class Element>
void add_tile(const AttendTask& task, const Memory& memory, const SlotTile& tile,
              const Extent& extent, float* kept, int dim) {
  const SkvAttendParams& params = *task.params;
  const int rows = params.group * task.n_queries;
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

template <class Element>
void attend(const AttendTask& task) {
  const SkvAttendParams& params = *task.params;
  const int dim = padded_dim(params.head_dim);
  const int rows = params.group * task.n_queries;
  const int all_rows = padded_rows(rows);
  Memory memory;
  memory.q = task.scratch;
  memory.keys = memory.q + all_rows * dim;
  memory.values = memory.keys + kTileSlots * dim;
  memory.staging = memory.values + kTileSlots * dim;
  memory.scores = memory.staging + 8 * dim;
  memory.factor = memory.scores + all_rows * kTileSlots;

  load_queries(params, task.kv_head, task.first_query, task.n_queries, all_rows, dim, memory.q);
  for (int r = 0; r < rows; ++r) {
    task.m[r] = kNegativeInfinity;
    task.l[r] = 0.0f;
  }
  for (int r = rows; r < all_rows; ++r) memory.factor[r] = 0.0f;
  for (int i = 0; i < all_rows * dim; i += kWidth) store(task.acc + i, zero());

  const int32_t last_query = params.query_position + task.first_query + task.n_queries - 1;
  SlotTile tile;
  for (int i = 0; i < task.n_tiles; ++i) {
    read_tile(task.source, task.first_tile + i, &tile);
    const Extent extent = position_extent(tile);
    float* const kept =
        task.logits == nullptr ? nullptr : task.logits + int64_t{i} * rows * kTileSlots;
    if (params.causal != 0 && extent.least > last_query) {
      for (int x = 0; kept != nullptr && x < rows * kTileSlots; ++x) kept[x] = kNegativeInfinity;
      continue;
    }
    add_tile<Element>(task, memory, tile, extent, kept, dim);
  }
}

}  // namespace

void attend_block(const AttendTask& task) {
  switch (task.params->dtype) {
    case SKV_F16:
      return attend<F16>(task);
    case SKV_BF16:
      return attend<Bf16>(task);
    default:
      return attend<float>(task);
  }
}

}  // namespace spindlekv::cpu::SKV_ISA
