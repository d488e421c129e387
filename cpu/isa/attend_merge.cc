// What attend does once the partials of its pieces are there.
//
//   w_i = exp(m_i - max m);  out = sum acc_i w_i / sum l_i w_i;  lse = max m + ln(sum l_i w_i)
//   score_sum[s] += sum_r exp(logit[r, s] - lse[r])
// Pieces i and rows r are taken in ascending order.
#include <algorithm>

#include "cpu/attend_plan.h"
#include "cpu/attend_task.h"
#include "cpu/isa/rows.h"
#include "cpu/isa/softmax.h"
#include "cpu/prefetch.h"

namespace spindlekv::cpu::SKV_ISA {
namespace {

// What is kept and sums, that add_scores asks for ahead of their use: 4 KiB.
constexpr int kKeptAhead = 1024;
constexpr int kSumsAhead = 512;

void write_output(const MergeTask& task, const float* row) {
  const SkvAttendParams& params = *task.params;
  const int64_t at =
      task.query_head * params.out_stride_head + task.query * params.out_stride_token;
  const int64_t bytes = params.q_dtype == SKV_F32 ? 4 : 2;
  store_row_of(params.q_dtype, row, static_cast<char*>(params.out) + at * bytes, params.head_dim);
}

// What merge_partials gives for one partial, whose weight is 1: most of what a small call takes.
void finish_partial(const MergeTask& task) {
  const AttendPiece& piece = *task.partials->piece;
  const int row = task.partials->first_row + task.row;
  const int dim = padded_dim(task.params->head_dim);
  const float l = piece.l[row];
  const float* const acc = piece.acc + int64_t{row} * dim;
  float* const out = task.acc_scratch;
  const bool saw_nothing = l == 0.0f;
  *task.lse = saw_nothing ? kNegativeInfinity : piece.m[row] + __builtin_logf(l);
  for (int d = 0; d < dim; d += kWidth) {
    store(out + d, saw_nothing ? zero() : div(load(acc + d), splat(l)));
  }
  write_output(task, out);
}

// exp(logit - lse) of rows that kept logits.
struct FromLogits {
  explicit FromLogits(const ScoreTask& task) : lse(task.lse) {}
  void begin_tile(const float*) {}
  // A row that saw nothing has lse = -inf and logits -inf: exp(-inf - 0) = 0.
  void add_row(int row, const float* logits, TileRow* total) const {
    const TileRow p = exp_from(load_tile_row(logits), finite_pivot(lse[row]));
#pragma GCC unroll 16
    for (int v = 0; v < kTileVecs; ++v) total->part[v] = add(total->part[v], p.part[v]);
  }
  const float* const lse;
};

// The same of rows that kept weights: exp(logit - m) exp(m - lse).
struct FromWeights {
  explicit FromWeights(const ScoreTask& task) : lse(task.lse) {}
  // Where m is -inf all weights are 0.
  void begin_tile(const float* maxima) {
    for (int r = 0; r < kKeptMaxima; r += kWidth) {
      const Vec m = load(maxima + r);
      const Vec shrinks = exp_fast(sub(m, load(lse + r)));
      store(factor + r, select(less(splat(kNegativeInfinity), m), shrinks, zero()));
    }
  }
  void add_row(int row, const float* weights, TileRow* total) const {
    const TileRow p = load_tile_row(weights);
#pragma GCC unroll 16
    for (int v = 0; v < kTileVecs; ++v) {
      total->part[v] = madd(p.part[v], splat(factor[row]), total->part[v]);
    }
  }
  const float* const lse;
  alignas(64) float factor[kKeptMaxima];
};

template <class Probabilities>
void add_scores_from(const ScoreTask& task) {
  Probabilities probabilities(task);
  const int64_t tile_floats = kept_tile_floats(task.keeps_weights, task.rows);
  const float* kept = task.kept;
  for (int first = 0; first < task.n_slots; first += kTileSlots, kept += tile_floats) {
    const int count = std::min(kTileSlots, task.n_slots - first);
    float* sum = task.sum + first;
    probabilities.begin_tile(kept + int64_t{task.rows} * kTileSlots);
    for (int r = 0; r < task.rows; r += task.rows_per_sum, sum += task.sum_stride) {
      prefetch_bytes(sum + kSumsAhead, kTileSlots * sizeof(float));
      TileRow total;
      for (int v = 0; v < kTileVecs; ++v) total.part[v] = zero();
      for (int i = r; i < r + task.rows_per_sum; ++i) {
        const float* const row = kept + int64_t{i} * kTileSlots;
        prefetch_bytes(row + kKeptAhead, kTileSlots * sizeof(float));
        probabilities.add_row(i, row, &total);
      }
      if (count == kTileSlots) {
#pragma GCC unroll 16
        for (int v = 0; v < kTileVecs; ++v) {
          store(sum + v * kWidth, add(load(sum + v * kWidth), total.part[v]));
        }
      } else {
        float sums[kTileSlots];
        store_tile_row(sums, total);
        for (int i = 0; i < count; ++i) sum[i] += sums[i];
      }
    }
  }
}

}  // namespace

void merge_partials(const MergeTask& task) {
  if (task.n_partials == 1) return finish_partial(task);
  const int dim = padded_dim(task.params->head_dim);
  float maximum = kNegativeInfinity;
  for (int i = 0; i < task.n_partials; ++i) {
    const AttendPartial& partial = task.partials[i];
    const float m = partial.piece->m[partial.first_row + task.row];
    maximum = m > maximum ? m : maximum;
  }
  const float pivot = finite_pivot(maximum);

  float total = 0.0f;
  float* const sum = task.acc_scratch;
  for (int d = 0; d < dim; d += kWidth) store(sum + d, zero());
  for (int i = 0; i < task.n_partials; ++i) {
    const AttendPiece& piece = *task.partials[i].piece;
    const int row = task.partials[i].first_row + task.row;
    const float l = piece.l[row];
    if (l == 0.0f) continue;  // saw nothing
    const float weight = exp_of(piece.m[row] - pivot);
    const float* const acc = piece.acc + int64_t{row} * dim;
    total += l * weight;
    add_scaled_row(acc, weight, sum, dim);
  }

  *task.lse = total == 0.0f ? kNegativeInfinity : maximum + __builtin_logf(total);
  if (total != 0.0f) {
    for (int d = 0; d < dim; d += kWidth) store(sum + d, div(load(sum + d), splat(total)));
  }
  write_output(task, sum);
}

void add_scores(const ScoreTask& task) {
  (task.keeps_weights ? add_scores_from<FromWeights> : add_scores_from<FromLogits>)(task);
}

extern const AttendKernels attend_kernels = {attend_stream, attend_block, attend_codebook,
                                             merge_partials, add_scores};
#if defined(__AVX512F__)
extern const AttendKernels attend_kernels_amx = {attend_stream, attend_block_amx, attend_codebook,
                                                 merge_partials, add_scores};
#endif

}  // namespace spindlekv::cpu::SKV_ISA
