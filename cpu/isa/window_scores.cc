// The canonical arithmetic of window_scores on one tile of 64 slots; slots are the vector lanes, so
// every sum over head_dim or queries is one sequential chain per lane, as core/canonical.h asks.
#include "cpu/window_task.h"

#include "cpu/isa/matmul.h"
#include "cpu/isa/rows.h"
#include "cpu/isa/softmax.h"

namespace spindlekv::cpu::SKV_ISA {
namespace {

static_assert(kRowBlock == kRowMultiple);

int count_nonfinite(const SlotTile& tile, const Sight& sight, const float* x) {
  int found = 0;
  for (int i = 0; i < tile.count; ++i) {
    const bool visible = (!sight.by_mask || (tile.mask[i] & sight.bit) != 0) &&
                         (!sight.by_position || tile.position[i] <= sight.limit);
    if (visible && !(__builtin_fabsf(x[i]) < __builtin_inff())) ++found;
  }
  return found;
}

// Logits before the hidden ones become -inf.
void finish_visible(const SlotTile& tile, float scale, float* x) {
  const Sight everything{false, false, 0, 0};
  finish_logits(tile, everything, scale, x);
}

// True if a logit is NaN or infinite, hidden ones included; those beyond the count are -inf.
bool may_be_nonfinite(const float* x, int count) {
  Vec probe = zero();
  int i = 0;
  for (; i + kWidth <= count; i += kWidth) probe = madd(load(x + i), zero(), probe);
  float sum = halving_sum(probe);
  for (; i < count; ++i) sum += x[i] * 0.0f;
  return sum != sum;
}

void hide(const SlotTile& tile, const Sight& sight, float* x) {
  if (!hides(sight)) return;
  for (int i = 0; i < kTileSlots; i += kWidth) {
    Vec logit = load(x + i);
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

// The block's maximum, and the halving sum of exp(x - maximum).
void block_statistics(const float* x, float* maximum, float* sum) {
  *maximum = row_max(x);
  const Vec pivot = splat(finite_pivot(*maximum));
  float exponentials[kTileSlots];
  for (int i = 0; i < kTileSlots; i += kWidth) {
    store(exponentials + i, exp_canonical(sub(load(x + i), pivot)));
  }
  *sum = sum_64(exponentials);
}

float exp_one(float x) {
  float lanes[kWidth] = {x};
  store(lanes, exp_canonical(load(lanes)));
  return lanes[0];
}

template <class Element>
void logits_of(const WindowTask& task) {
  const SkvWindowScoresParams& params = *task.params;
  const int dim = padded_dim(params.head_dim);
  float* const keys = task.scratch;
  float* const staging = keys + int64_t{kTileSlots} * params.head_dim;
  SlotTile tile;
  read_tile(task.source, task.tile, &tile);
  const Extent extent = position_extent(tile);
  load_keys_transposed<Element>(tile, params.rope, params.head_dim, dim, staging, keys);
  multiply_rows<true>(task.queries, dim, keys, kTileSlots, task.padded_rows, params.head_dim,
                      kTileSlots, nullptr, task.logits, kTileSlots);
  int nonfinite = 0;
  const int rows = params.group * task.n_queries;
  for (int r = 0; r < rows; ++r) {
    float* const x = task.logits + int64_t{r} * kTileSlots;
    const Sight sight = row_sight(tile, extent, r / task.n_queries, true,
                                  params.query_position + task.first_query + r % task.n_queries);
    finish_visible(tile, params.scale, x);
    if (may_be_nonfinite(x, tile.count)) nonfinite += count_nonfinite(tile, sight, x);
    hide(tile, sight, x);
    block_statistics(x, task.block_max + r, task.block_sum + r);
  }
  *task.nonfinite = nonfinite;
}

}  // namespace

void window_queries(const WindowTask& task) {
  load_queries(*task.params, task.kv_head, task.first_query, task.n_queries, task.padded_rows,
               padded_dim(task.params->head_dim), task.queries);
}

void window_logits(const WindowTask& task) {
  switch (task.params->dtype) {
    case SKV_F16:
      return logits_of<F16>(task);
    case SKV_BF16:
      return logits_of<Bf16>(task);
    default:
      return logits_of<float>(task);
  }
}

void window_merge(const float* block_max, const float* block_sum, int blocks, int64_t stride,
                  RowSoftmax* out) {
  float maximum = kNegativeInfinity;
  for (int b = 0; b < blocks; ++b) {
    maximum = block_max[b * stride] > maximum ? block_max[b * stride] : maximum;
  }
  const float pivot = finite_pivot(maximum);
  float sum = 0.0f;
  for (int b = 0; b < blocks; ++b) {
    sum = __builtin_fmaf(block_sum[b * stride], exp_one(block_max[b * stride] - pivot), sum);
  }
  // A query that sees nothing: p = exp(-inf) / 1 = 0.
  const bool sees_nothing = sum == 0.0f;
  out->pivot = pivot;
  out->sum = sees_nothing ? 1.0f : sum;
  out->log_sum = __builtin_logf(out->sum);
  out->lse = sees_nothing ? kNegativeInfinity : maximum + out->log_sum;
}

void window_columns(const ColumnTask& task) {
  float buffer[3][kTileSlots];
  float* const outputs[3] = {task.sum, task.sum_sq, task.max};
  for (int o = 0; o < 3; ++o) {
    for (int i = 0; i < kTileSlots; ++i) {
      buffer[o][i] =
          task.is_first || outputs[o] == nullptr || i >= task.count ? 0.0f : outputs[o][i];
    }
  }
  Vec minus_p_ln_p = zero();
  for (int i = 0; i < kTileSlots; i += kWidth) {
    Vec sum = load(buffer[0] + i), sum_sq = load(buffer[1] + i), most = load(buffer[2] + i);
    for (int r = 0; r < task.rows; ++r) {
      const RowSoftmax& row = task.softmax[r];
      const Vec shifted = sub(load(task.logits + int64_t{r} * kTileSlots + i), splat(row.pivot));
      const Vec p = div(exp_canonical(shifted), splat(row.sum));
      sum = add(sum, p);
      sum_sq = fma(p, p, sum_sq);
      most = max(most, p);
      if (task.entropy != nullptr) {
        // ln p = shifted - ln L; where p is 0 the term is 0.
        const Vec term = mul(p, sub(splat(row.log_sum), shifted));
        minus_p_ln_p = add(minus_p_ln_p, select(less(zero(), p), term, zero()));
      }
    }
    store(buffer[0] + i, sum);
    store(buffer[1] + i, sum_sq);
    store(buffer[2] + i, most);
  }
  for (int o = 0; o < 3; ++o) {
    for (int i = 0; outputs[o] != nullptr && i < task.count; ++i) outputs[o][i] = buffer[o][i];
  }
  if (task.entropy != nullptr) *task.entropy = halving_sum(minus_p_ln_p);
}

extern const WindowKernels window_kernels = {window_queries, window_logits, window_merge,
                                             window_columns};

}  // namespace spindlekv::cpu::SKV_ISA
