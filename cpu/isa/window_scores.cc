// The canonical arithmetic of window_scores on one tile of 64 slots; slots are the vector lanes, so
// every sum over head_dim or queries is one sequential chain per lane, as core/canonical.h asks.
#include "cpu/window_task.h"

#include "cpu/isa/matmul.h"
#include "cpu/isa/rows.h"
#include "cpu/isa/softmax.h"
#include "cpu/prefetch.h"

namespace spindlekv::cpu::SKV_ISA {
namespace {

static_assert(kRowBlock == kRowMultiple);

inline constexpr int kVecs = kTileSlots / kWidth;

// Visible logits that are NaN or infinite, of a row whose hidden ones are -inf already.
int count_nonfinite(const SlotTile& tile, const Sight& sight, const float* x) {
  int found = 0;
  for (int i = 0; i < tile.count; ++i) {
    const bool visible = (!sight.by_mask || (tile.mask[i] & sight.bit) != 0) &&
                         (!sight.by_position || tile.position[i] <= sight.limit);
    if (visible && !(__builtin_fabsf(x[i]) < __builtin_inff())) ++found;
  }
  return found;
}

// The dots of a row become its logits, -inf where hidden and beyond the count. Every logit times 0
// is added to *probe: NaN from now on if one is not finite, hidden ones included.
template <bool kHides>
void finish_row(const SlotTile& tile, const Sight& sight, float scale, float* row, Vec* probe) {
  Vec x[kVecs];
  for (int v = 0; v < kVecs; ++v) x[v] = mul(load(row + v * kWidth), splat(scale));
  if (tile.has_beta) {
    for (int v = 0; v < kVecs; ++v) x[v] = add(x[v], load(tile.beta + v * kWidth));
  }
  for (int v = 0; v < kVecs; ++v) probe[v] = madd(x[v], zero(), probe[v]);
  if (kHides && sight.by_mask) {
    for (int v = 0; v < kVecs; ++v) {
      x[v] = select(has_bit(tile.mask + v * kWidth, sight.bit), x[v], splat(kNegativeInfinity));
    }
  }
  if (kHides && sight.by_position) {
    for (int v = 0; v < kVecs; ++v) {
      const Mask sees = at_most(tile.position + v * kWidth, sight.limit);
      x[v] = select(sees, x[v], splat(kNegativeInfinity));
    }
  }
  for (int v = 0; v < kVecs; ++v) store(row + v * kWidth, x[v]);
  for (int i = tile.count; kHides && i < kTileSlots; ++i) row[i] = kNegativeInfinity;
}

// The maximum of each row and the halving sum of exp(x - maximum). Each ends in a chain of
// dependent steps, so the rows go through them together.
template <int kRows>
void block_statistics(const float* x, float* maxima, float* sums) {
  for (int r = 0; r < kRows; ++r) maxima[r] = row_max(x + r * kTileSlots);
  Vec sum[kRows];
  for (int r = 0; r < kRows; ++r) {
    const Vec pivot = splat(finite_pivot(maxima[r]));
    Vec part[kVecs];
    for (int v = 0; v < kVecs; ++v) {
      part[v] = exp_canonical(sub(load(x + r * kTileSlots + v * kWidth), pivot));
    }
    for (int n = kVecs / 2; n >= 1; n /= 2) {
      for (int v = 0; v < n; ++v) part[v] = add(part[v], part[v + n]);
    }
    sum[r] = part[0];
  }
  for (int r = 0; r < kRows; ++r) sums[r] = halving_sum(sum[r]);
}

// What finishing the rows of a tile needs to know of it.
struct TileRows {
  const WindowTask& task;
  const SlotTile& tile;
  Extent extent;
  bool all_visible;
  bool is_finite;  // every logit so far, hidden ones included

  Sight sight(int row) const {
    const int query = task.first_query + row % task.n_queries;
    return row_sight(tile, extent, row / task.n_queries, true, task.params->query_position + query);
  }
};

// Asks for the key rows of the next tile, a few at a time, so that they arrive while the present
// one is worked on.
class KeyPrefetcher {
 public:
  KeyPrefetcher(const SlotTile* next, size_t row_bytes) : next_(next), row_bytes_(row_bytes) {}

  void ask(int rows) {
    for (; next_ != nullptr && rows > 0 && row_ < next_->count; --rows, ++row_) {
      prefetch_bytes<kSecondLevel>(next_->k[row_], row_bytes_);
    }
  }

 private:
  const SlotTile* const next_;  // NULL: there is none
  const size_t row_bytes_;
  int row_ = 0;
};

// The dots of kRows rows with all slots of the tile, and what follows from them while they are in
// L1.
template <int kRows>
void do_rows(const float* keys, int first_row, int dim, TileRows* rows) {
  const WindowTask& task = rows->task;
  const float scale = task.params->scale;
  const float* const queries = task.queries + int64_t{first_row} * dim;
  float* const logits = task.logits + int64_t{first_row} * kTileSlots;
  for (int n = 0; n < kTileSlots; n += kColumnVecs * kWidth) {
    multiply_block<kRows>(queries, dim, keys + n, kTileSlots, task.params->head_dim, logits + n,
                          kTileSlots);
  }
  Vec probe[kVecs];
  for (int v = 0; v < kVecs; ++v) probe[v] = zero();
  for (int r = 0; r < kRows; ++r) {
    float* const row = logits + r * kTileSlots;
    if (rows->all_visible) {
      finish_row<false>(rows->tile, {}, scale, row, probe);
    } else {
      finish_row<true>(rows->tile, rows->sight(first_row + r), scale, row, probe);
    }
  }
  for (int v = 1; v < kVecs; ++v) probe[0] = add(probe[0], probe[v]);
  const float sum = halving_sum(probe[0]);
  rows->is_finite = rows->is_finite && sum == sum;
  block_statistics<kRows>(logits, task.block_max + first_row, task.block_sum + first_row);
}

template <class Element>
void logits_of_tile(const WindowTask& task, const SlotTile& tile, const SlotTile* next) {
  const SkvWindowScoresParams& params = *task.params;
  const int dim = padded_dim(params.head_dim);
  float* const keys = task.scratch;
  float* const staging = keys + int64_t{kTileSlots} * params.head_dim;
  load_keys_transposed<Element, kWindowStagingRows>(tile, params.rope, params.head_dim, dim,
                                                    staging, keys);

  TileRows tile_rows{task, tile, position_extent(tile), false, true};
  const int rows = params.group * task.n_queries;
  const int32_t first_position = params.query_position + task.first_query;
  tile_rows.all_visible =
      !tile.has_mask && tile.count == kTileSlots && tile_rows.extent.largest <= first_position;
  KeyPrefetcher prefetcher(next, params.head_dim * sizeof(Element));
  const int keys_per_block = (kTileSlots * kRowBlock + rows - 1) / rows;
  int row = 0;
  for (; row + kRowBlock <= rows; row += kRowBlock) {
    prefetcher.ask(keys_per_block);
    do_rows<kRowBlock>(keys, row, dim, &tile_rows);
  }
  for (; row + 2 <= rows; row += 2) do_rows<2>(keys, row, dim, &tile_rows);
  if (row < rows) do_rows<1>(keys, row, dim, &tile_rows);

  *task.nonfinite = 0;
  for (int r = 0; !tile_rows.is_finite && r < rows; ++r) {
    *task.nonfinite +=
        count_nonfinite(tile, tile_rows.sight(r), task.logits + int64_t{r} * kTileSlots);
  }
}

template <class Element>
void logits_of(const WindowTask& first) {
  SlotTile tiles[2];
  read_tile(first.source, first.tile, &tiles[0]);
  WindowTask task = first;
  for (int i = 0; i < first.n_tiles; ++i) {
    SlotTile* const next = i + 1 < first.n_tiles ? &tiles[(i + 1) % 2] : nullptr;
    if (next != nullptr) read_tile(task.source, task.tile + 1, next);
    logits_of_tile<Element>(task, tiles[i % 2], next);
    ++task.tile;
    ++task.nonfinite;
    task.logits += first.logits_stride;
    task.block_max += first.statistics_stride;
    task.block_sum += first.statistics_stride;
  }
}

// Rows of logits asked for ahead of their use: 4 KB, a little more than memory's latency.
constexpr int kRowsAhead = 16;

// Below this a remainder of a division by a sum, at least 1 and at most the slots there are, may
// have no exact place among the subnormal numbers.
constexpr float kLeastExact = 0x1p-90f;

// p / sum, rounded once: the quotient by the rounded reciprocal is off by an ulp at most, its
// remainder is exact, and adding that once more rounds right (Markstein, IBM Journal of Research
// and Development 34, 1990). A division occupies its unit for as long as five times the
// instructions. Where there is no fused multiply-add in hardware the vectors divide.
inline void divide_by_sum(const RowSoftmax& row, Vec* p) {
  bool is_exact = kHasFma;
  if (kHasFma) {
    Mask exact = less(splat(kLeastExact), p[0]);
    for (int v = 1; v < kColumnVecs; ++v) exact = both(exact, less(splat(kLeastExact), p[v]));
    is_exact = all(exact);
  }
  const Vec sum = splat(row.sum);
  if (!is_exact) {
    for (int v = 0; v < kColumnVecs; ++v) p[v] = div(p[v], sum);
    return;
  }
  const Vec reciprocal = splat(row.reciprocal);
  for (int v = 0; v < kColumnVecs; ++v) {
    const Vec quotient = mul(p[v], reciprocal);
    p[v] = fma(neg_fma(quotient, sum, p[v]), reciprocal, quotient);
  }
}

// Adds the rows of the task to kColumnVecs vectors of columns from `slot` on; rows are the outer
// loop, so that the logits are read in the order they lie in. kAll: squares, maxima and entropy
// too. kWeighs: the sum is of weights times p.
template <bool kAll, bool kWeighs>
Vec add_rows(const ColumnTask& task, int slot, float* sums, float* squares, float* maxima) {
  Vec sum[kColumnVecs], sum_sq[kColumnVecs], most[kColumnVecs];
  for (int v = 0; v < kColumnVecs; ++v) {
    sum[v] = load(sums + slot + v * kWidth);
    sum_sq[v] = load(squares + slot + v * kWidth);
    most[v] = load(maxima + slot + v * kWidth);
  }
  Vec minus_p_ln_p = zero();
  for (int r = 0; r < task.rows; ++r) {
    const RowSoftmax& row = task.softmax[r];
    const float* const logits = task.logits + int64_t{r} * kTileSlots + slot;
    Vec shifted[kColumnVecs], p[kColumnVecs];
#pragma GCC unroll 4
    for (int v = 0; v < kColumnVecs; ++v) {
      prefetch_line(logits + kRowsAhead * kTileSlots + v * kWidth);
      shifted[v] = sub(load(logits + v * kWidth), splat(row.pivot));
      p[v] = exp_canonical(shifted[v]);
    }
    divide_by_sum(row, p);
#pragma GCC unroll 4
    for (int v = 0; v < kColumnVecs; ++v) {
      sum[v] = kWeighs ? fma(splat(task.weights[r]), p[v], sum[v]) : add(sum[v], p[v]);
      if (!kAll) continue;
      sum_sq[v] = fma(p[v], p[v], sum_sq[v]);
      most[v] = max(most[v], p[v]);
      if (task.entropy == nullptr) continue;
      // ln p = shifted - ln L; where p is 0 the term is 0.
      const Vec term = mul(p[v], sub(splat(row.log_sum), shifted[v]));
      Mask has_term = less(zero(), p[v]);
      if (task.counts != nullptr) {
        has_term = both(has_term, less(zero(), load(task.counts + slot + v * kWidth)));
      }
      minus_p_ln_p = add(minus_p_ln_p, select(has_term, term, zero()));
    }
  }
  for (int v = 0; v < kColumnVecs; ++v) {
    store(sums + slot + v * kWidth, sum[v]);
    store(squares + slot + v * kWidth, sum_sq[v]);
    store(maxima + slot + v * kWidth, most[v]);
  }
  return minus_p_ln_p;
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

void window_merge(const MergeRows& task) {
  for (int first = 0; first < task.rows; first += kWidth) {
    Vec maximum = splat(kNegativeInfinity);
    for (int b = 0; b < task.blocks; ++b) {
      maximum = max(load(task.block_max + b * task.stride + first), maximum);
    }
    const Vec pivot = select(less(splat(kNegativeInfinity), maximum), maximum, zero());
    Vec sum = zero();
    for (int b = 0; b < task.blocks; ++b) {
      const int64_t at = b * task.stride + first;
      sum =
          fma(load(task.block_sum + at), exp_canonical(sub(load(task.block_max + at), pivot)), sum);
    }
    float maxima[kWidth], pivots[kWidth], sums[kWidth];
    store(maxima, maximum);
    store(pivots, pivot);
    store(sums, sum);
    for (int i = 0; i < kWidth && first + i < task.rows; ++i) {
      // A query that sees nothing: p = exp(-inf) / 1 = 0.
      const bool sees_nothing = sums[i] == 0.0f;
      RowSoftmax& out = task.softmax[first + i];
      out.pivot = pivots[i];
      out.sum = sees_nothing ? 1.0f : sums[i];
      out.reciprocal = 1.0f / out.sum;
      out.log_sum = __builtin_logf(out.sum);
      out.lse = sees_nothing ? kNegativeInfinity : maxima[i] + out.log_sum;
    }
  }
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
  const bool all = task.sum_sq != nullptr || task.max != nullptr || task.entropy != nullptr;
  const bool weighs = task.weights != nullptr;
  const auto add_all = weighs ? add_rows<true, true> : add_rows<true, false>;
  const auto add_sums = weighs ? add_rows<false, true> : add_rows<false, false>;
  Vec minus_p_ln_p = zero();
  for (int slot = 0; slot < kTileSlots; slot += kColumnVecs * kWidth) {
    const Vec terms = (all ? add_all : add_sums)(task, slot, buffer[0], buffer[1], buffer[2]);
    minus_p_ln_p = add(minus_p_ln_p, terms);
  }
  for (int o = 0; o < 3; ++o) {
    for (int i = 0; outputs[o] != nullptr && i < task.count; ++i) outputs[o][i] = buffer[o][i];
  }
  if (task.entropy != nullptr) *task.entropy = halving_sum(minus_p_ln_p);
}

extern const WindowKernels window_kernels = {window_queries, window_logits, window_merge,
                                             window_columns};

}  // namespace spindlekv::cpu::SKV_ISA
