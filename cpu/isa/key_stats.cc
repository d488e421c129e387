// The canonical arithmetic of key_stats on one tile of 64 slots. For norms and cosines the slots
// are the vector lanes, so that each has one sequential chain over head_dim; for the sum of
// directions the lanes are dims and the slots are added in order.
#include "cpu/isa/matmul.h"
#include "cpu/isa/rows.h"
#include "cpu/simd.h"
#include "cpu/simd_transpose.h"
#include "cpu/stats_task.h"

namespace spindlekv::cpu::SKV_ISA {
namespace {

constexpr int kPanel = kColumnVecs * kWidth;  // slots that are measured at once

struct Rows {
  const void* const* rows;
  const float* magnitude;  // NULL: 1
  int count;
};

// The tile's rows as floats, [64, dim], and as columns, [D, 64]; slots beyond the count are 0.
template <class Element>
void load_tile(const Rows& source, int head_dim, int dim, float* rows, float* columns) {
  for (int slot = 0; slot < kTileSlots; ++slot) {
    float* const row = rows + slot * dim;
    if (slot < source.count) {
      load_row<Element>(source.rows[slot], row, head_dim, dim);
      if (source.magnitude != nullptr) scale_row(row, source.magnitude[slot], dim);
    } else {
      for (int d = 0; d < dim; d += kWidth) store(row + d, zero());
    }
  }
  transpose_rows<kTileSlots>(rows, dim, head_dim, columns, kTileSlots);
}

void measure_norms(const float* columns, int head_dim, float* norms) {
  for (int slot = 0; slot < kTileSlots; slot += kPanel) {
    Vec squares[kColumnVecs];
    for (int v = 0; v < kColumnVecs; ++v) squares[v] = zero();
    for (int d = 0; d < head_dim; ++d) {
      for (int v = 0; v < kColumnVecs; ++v) {
        const Vec x = load(columns + d * kTileSlots + slot + v * kWidth);
        squares[v] = fma(x, x, squares[v]);
      }
    }
    for (int v = 0; v < kColumnVecs; ++v) store(norms + slot + v * kWidth, squares[v]);
  }
  for (int i = 0; i < kTileSlots; ++i) norms[i] = __builtin_sqrtf(norms[i]);
}

void measure_l1(const float* columns, int head_dim, float* sums) {
  for (int slot = 0; slot < kTileSlots; slot += kPanel) {
    Vec sum[kColumnVecs];
    for (int v = 0; v < kColumnVecs; ++v) sum[v] = zero();
    for (int d = 0; d < head_dim; ++d) {
      for (int v = 0; v < kColumnVecs; ++v) {
        const Vec x = load(columns + d * kTileSlots + slot + v * kWidth);
        sum[v] = add(sum[v], max(x, sub(zero(), x)));
      }
    }
    for (int v = 0; v < kColumnVecs; ++v) store(sums + slot + v * kWidth, sum[v]);
  }
}

// Turns the rows and adds them up, each divided by its norm.
void add_directions(const StatsTask& task, int dim, float* rows) {
  const SlotTile& tile = *task.tile;
  const SkvRope& rope = task.params->rope;
  float weight[kTileSlots];
  for (int slot = 0; slot < tile.count; ++slot) {
    const float norm = task.k_norm[slot];
    weight[slot] = norm == 0.0f ? 0.0f : 1.0f / norm;
    if (!tile.has_turn || tile.turn[slot] < 0) continue;
    rotate_row(rows + slot * dim, table_row(rope, tile.turn[slot]), rope.n_rot, rope.style, 1.0f);
  }
  for (int d = 0; d < dim; d += kWidth) {
    Vec sum = zero();
    for (int slot = 0; slot < tile.count; ++slot) {
      sum = fma(splat(weight[slot]), load(rows + slot * dim + d), sum);
    }
    // The last vector may reach beyond D, where rows are 0.
    float part[kWidth];
    store(part, sum);
    for (int i = 0; i < kWidth && d + i < task.params->head_dim; ++i) {
      task.direction[d + i] = part[i];
    }
  }
}

template <class Element>
void rows_of(const StatsTask& task) {
  const SlotTile& tile = *task.tile;
  const int head_dim = task.params->head_dim;
  const int dim = padded_dim(head_dim);
  float* const rows = task.scratch;
  float* const columns = rows + int64_t{kTileSlots} * dim;
  if (task.k_norm != nullptr) {
    load_tile<Element>({tile.k, tile.has_k_magnitude ? tile.k_magnitude : nullptr, tile.count},
                       head_dim, dim, rows, columns);
    measure_norms(columns, head_dim, task.k_norm);
    if (task.direction != nullptr) add_directions(task, dim, rows);
  }
  if (task.v_norm == nullptr && task.v_l1 == nullptr) return;
  load_tile<Element>({tile.v, tile.has_v_magnitude ? tile.v_magnitude : nullptr, tile.count},
                     head_dim, dim, rows, columns);
  if (task.v_norm != nullptr) measure_norms(columns, head_dim, task.v_norm);
  if (task.v_l1 != nullptr) measure_l1(columns, head_dim, task.v_l1);
}

template <class Element>
void cosines_of(const CosineTask& task) {
  constexpr int kStagingRows = 16;
  const SkvKeyStatsParams& params = *task.params;
  const int dim = padded_dim(params.head_dim);
  float* const staging = task.scratch;
  float* const keys = staging + int64_t{kTileSlots} * dim;
  load_keys_transposed<Element, kStagingRows>(*task.tile, params.rope, params.head_dim, dim,
                                              staging, keys);
  float dots[kTileSlots];
  for (int slot = 0; slot < kTileSlots; slot += kPanel) {
    multiply_block<1>(task.mean, 0, keys + slot, kTileSlots, params.head_dim, dots + slot, 0);
  }
  for (int i = 0; i < task.tile->count; ++i) {
    const bool has_none = task.k_norm[i] == 0.0f || task.mean_norm == 0.0f;
    task.cosine[i] = has_none ? 0.0f : dots[i] / task.k_norm[i] / task.mean_norm;
  }
}

void stats_rows(const StatsTask& task) {
  switch (task.params->dtype) {
    case SKV_F16:
      return rows_of<F16>(task);
    case SKV_BF16:
      return rows_of<Bf16>(task);
    default:
      return rows_of<float>(task);
  }
}

void stats_cosines(const CosineTask& task) {
  switch (task.params->dtype) {
    case SKV_F16:
      return cosines_of<F16>(task);
    case SKV_BF16:
      return cosines_of<Bf16>(task);
    default:
      return cosines_of<float>(task);
  }
}

}  // namespace

extern const StatsKernels stats_kernels = {stats_rows, stats_cosines};

}  // namespace spindlekv::cpu::SKV_ISA
