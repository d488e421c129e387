// Spherical k-means under the guarantee: codewords move towards the mean of their members only as
// far as every member stays above its bound, then rows move to the codeword that reconstructs them
// best.
//
// A round costs a few dot products per row for the codewords, which are independent of each other,
// and n_rows * C * D multiply-adds for the rows, in panels of 64: of int16 pairs where that pays,
// then in f32 for the few codewords that may serve a row better than the one it has. The definition
// is in core/ops.h.
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "cpu/build_codebook.h"
#include "cpu/convert.h"

namespace spindlekv::cpu {
namespace {

constexpr int64_t kCodewordsPerTask = 16;
// A tile with more pairs to compare one by one is compared in f32 as a whole.
constexpr int32_t kMostUndecided = 192;
constexpr float kNoBound = -2.0f;  // of rows that the cover left without a similar codeword
constexpr float kSteps[] = {1.0f, 0.5f, 0.25f, 0.125f};

struct Fit {
  bool is_in_bounds;
  double error;
};

// Rows keep theta as their bound if the cover gave them an adjacent leader.
void set_bounds(const CodebookCall& call, const CodebookWork& work, int64_t block) {
  const SkvCodebookProblem& problem = *work.problem;
  const int32_t head_dim = call.params.head_dim;
  const int64_t first = block * kPanelRows;
  const int64_t count = std::min<int64_t>(kPanelRows, problem.n_rows - first);
  int64_t leaders[kPanelRows];
  const float* units[kPanelRows] = {};
  const float* leader_units[kPanelRows] = {};
  float dots[kPanelRows];
  for (int64_t i = 0; i < count; ++i) {
    leaders[i] = work.loaded_of_x(problem.leaders[problem.labels[first + i]]);
    units[i] = work.units + work.loaded_of(first + i) * head_dim;
    leader_units[i] = work.units + leaders[i] * head_dim;
  }
  call.kernels.paired_dots(units, leader_units, count, head_dim, dots);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t loaded = work.loaded_of(first + i);
    const bool is_adjacent = dots[i] > problem.theta || loaded == leaders[i] ||
                             are_duplicates(call, work, loaded, leaders[i]);
    work.bounds[first + i] = is_adjacent ? problem.theta : kNoBound;
  }
}

void sort_members(const CodebookWork& work) {
  const SkvCodebookProblem& problem = *work.problem;
  const int32_t count = *problem.count;
  std::fill(work.offsets, work.offsets + count + 1, 0);
  for (int32_t p = 0; p < problem.n_rows; ++p) ++work.offsets[problem.labels[p] + 1];
  for (int32_t c = 0; c < count; ++c) work.offsets[c + 1] += work.offsets[c];
  std::copy(work.offsets, work.offsets + count, work.cursor);
  for (int32_t p = 0; p < problem.n_rows; ++p) {
    work.members[work.cursor[problem.labels[p]]++] = p;
  }
}

// How well a codeword serves the members [begin, end) of the sorted rows. Out of bounds ends it
// early if `is_candidate`; the error is then meaningless.
Fit fit_of(const CodebookCall& call, const CodebookWork& work, int32_t begin, int32_t end,
           const float* codeword, bool is_candidate) {
  const int32_t head_dim = call.params.head_dim;
  float square;
  call.kernels.paired_dots(&codeword, &codeword, 1, head_dim, &square);
  const float* units[kPanelRows] = {};
  const float* codewords[kPanelRows] = {};
  std::fill(codewords, codewords + kPanelRows, codeword);
  float dots[kPanelRows];
  double error = 0.0;
  for (int32_t first = begin; first < end; first += kPanelRows) {
    const int32_t count = std::min(kPanelRows, end - first);
    for (int32_t i = 0; i < count; ++i) {
      units[i] = work.units + work.loaded_of(work.members[first + i]) * head_dim;
    }
    call.kernels.paired_dots(units, codewords, count, head_dim, dots);
    for (int32_t i = 0; i < count; ++i) {
      const int32_t member = work.members[first + i];
      if (is_candidate && !(dots[i] > work.bounds[member])) return {false, error};
      const double norm = work.norms[work.loaded_of(member)];
      // norm^2 is exact in float64, so fma rounds the product and sum once.
      const double distance = (1.0 - 2.0 * static_cast<double>(dots[i])) + square;
      error = std::fma(norm * norm, distance, error);
    }
  }
  return {true, error};
}

// The direction of the weighted mean of the members: unit(sum of m_i x_i).
void mean_direction(const CodebookCall& call, const CodebookWork& work, int32_t begin, int32_t end,
                    float* row, float* mean) {
  const int32_t head_dim = call.params.head_dim;
  std::fill(mean, mean + head_dim, 0.0f);
  for (int32_t at = begin; at < end; ++at) {
    const int32_t member = work.members[at];
    const int32_t x_index = work.x_of(member);
    call.kernels.load_rows(call.params.dtype, work.problem->x, work.problem->x_stride, &x_index, 1,
                           head_dim, row);
    call.kernels.add_row(work.norms[work.loaded_of(member)], row, head_dim, mean);
  }
  float norm;
  call.kernels.unit_rows(mean, 1, head_dim, true, &norm);
}

void move_codeword(const CodebookCall& call, CodebookWork& work, int64_t c, float* scratch) {
  const int32_t begin = work.offsets[c];
  const int32_t end = work.offsets[c + 1];
  if (begin == end) return;
  const int32_t head_dim = call.params.head_dim;
  float* const codeword = work.codewords + c * head_dim;
  float* const mean = scratch;
  float* const candidate = scratch + head_dim;
  mean_direction(call, work, begin, end, candidate, mean);
  const double present = fit_of(call, work, begin, end, codeword, false).error;
  for (const float step : kSteps) {
    if (step == 1.0f) {
      std::copy(mean, mean + head_dim, candidate);
    } else {
      for (int32_t d = 0; d < head_dim; ++d) {
        candidate[d] = codeword[d] + step * (mean[d] - codeword[d]);
      }
      float norm;
      call.kernels.unit_rows(candidate, 1, head_dim, true, &norm);
    }
    call.kernels.round_values(call.params.dtype, candidate, head_dim);
    const Fit fit = fit_of(call, work, begin, end, candidate, true);
    if (!fit.is_in_bounds || !(fit.error < present)) continue;
    std::copy(candidate, candidate + head_dim, codeword);
    call.kernels.paired_dots(&codeword, &codeword, 1, head_dim, work.square + c);
    work.changed.store(1, std::memory_order_relaxed);
    return;
  }
}

// A block of rows on its way to better codewords.
class MovingRows {
 public:
  MovingRows(const CodebookCall& call, CodebookWork& work, int64_t block,
             const SearchScratch& scratch)
      : call_(call),
        work_(work),
        first_(block * kPanelRows),
        count_(static_cast<int32_t>(
            std::min<int64_t>(kPanelRows, work.problem->n_rows - block * kPanelRows))),
        scratch_(scratch) {}

  void run() {
    start_from_present();
    const bool is_filtered = call_.filter.pays && prepare_filter();
    const int32_t codewords = *work_.problem->count;
    for (int32_t c = 0; c < codewords; c += kPanelRows) {
      const int32_t some = std::min(kPanelRows, codewords - c);
      if (!is_filtered || !filter_codewords(c, some)) compare_codewords(c, some);
    }
    int32_t* const labels = work_.problem->labels + first_;
    if (std::equal(label_, label_ + count_, labels)) return;
    std::copy(label_, label_ + count_, labels);
    work_.changed.store(1, std::memory_order_relaxed);
  }

 private:
  void start_from_present() {
    const int32_t head_dim = call_.params.head_dim;
    const float* codewords[kPanelRows] = {};
    float dots[kPanelRows];
    for (int32_t i = 0; i < count_; ++i) {
      label_[i] = work_.problem->labels[first_ + i];
      bounds_[i] = work_.bounds[first_ + i];
      units_[i] = work_.units + work_.loaded_of(first_ + i) * head_dim;
      codewords[i] = work_.codewords + static_cast<int64_t>(label_[i]) * head_dim;
    }
    call_.kernels.paired_dots(units_, codewords, count_, head_dim, dots);
    for (int32_t i = 0; i < count_; ++i) best_[i] = 2.0f * dots[i] - work_.square[label_[i]];
  }

  // False if a row has no integer form.
  bool prepare_filter() {
    const int32_t head_dim = call_.params.head_dim;
    const int16_t* rows[kPanelRows] = {};
    for (int32_t i = 0; i < count_; ++i) {
      int16_t* const own = scratch_.quantised + static_cast<int64_t>(i) * head_dim;
      slack_[i] = call_.filter.quantise_row(units_[i], head_dim, kUnitExponent, own);
      if (slack_[i] == kNoSlack) return false;
      rows[i] = own;
    }
    call_.filter.pack_pairs(rows, count_, head_dim, scratch_.pairs);
    return true;
  }

  // Codewords [first, first + some). A row moves only if 2 dot - square > best, which takes
  // 2^30 dot > 2^29 best + 2^29 square, where the left side is known but for the slacks. False if a
  // codeword has no integer form or too many pairs are left: then nothing was done.
  bool filter_codewords(int32_t first, int32_t some) {
    const int32_t head_dim = call_.params.head_dim;
    int32_t start[kPanelRows];
    for (int32_t r = 0; r < some; ++r) {
      const int32_t slack = work_.codeword_slacks[first + r];
      if (slack == kNoSlack) return false;
      start[r] = slack - scaled_half(work_.square[first + r]);
    }
    int32_t low[kPanelRows];
    int32_t high[kPanelRows];
    std::fill(low, low + kPanelRows, std::numeric_limits<int32_t>::max());
    std::fill(high, high + kPanelRows, std::numeric_limits<int32_t>::max());
    for (int32_t i = 0; i < count_; ++i) {
      low[i] = scaled_half(best_[i]) - slack_[i] - rounding_slack(head_dim);
    }
    const int32_t margin[kPanelRows] = {};
    uint64_t maybe[kPanelRows];
    uint64_t sure[kPanelRows];
    call_.filter.filter_bits(work_.codewords_quantised + static_cast<int64_t>(first) * head_dim,
                             some, head_dim, scratch_.pairs, start, margin, low, high, maybe, sure);
    const float* rows[kMostUndecided];
    const float* codewords[kMostUndecided];
    float dots[kMostUndecided];
    int32_t count = 0;
    for (int32_t r = 0; r < some; ++r) {
      if (count + std::popcount(maybe[r]) > kMostUndecided) return false;
      for (uint64_t word = maybe[r]; word != 0; word &= word - 1) {
        rows[count] = units_[std::countr_zero(word)];
        codewords[count++] = work_.codewords + static_cast<int64_t>(first + r) * head_dim;
      }
    }
    call_.kernels.paired_dots(rows, codewords, count, head_dim, dots);
    int32_t at = 0;
    for (int32_t r = 0; r < some; ++r) {
      for (uint64_t word = maybe[r]; word != 0; word &= word - 1) {
        const int i = std::countr_zero(word);
        const float dot = dots[at++];
        const float value = 2.0f * dot - work_.square[first + r];
        if (!(dot > bounds_[i]) || !(value > best_[i])) continue;
        best_[i] = value;
        label_[i] = first + r;
      }
    }
    return true;
  }

  void compare_codewords(int32_t first, int32_t some) {
    const int32_t head_dim = call_.params.head_dim;
    if (!is_packed_) call_.kernels.pack_panel(units_, count_, head_dim, scratch_.panel);
    is_packed_ = true;
    call_.kernels.nearest_in_bound(work_.codewords, work_.square, first, some, head_dim,
                                   scratch_.panel, bounds_, best_, label_);
  }

  // floor(2^29 value), for values between -3.5 and 3.5.
  static int32_t scaled_half(float value) {
    const double inside = std::fmin(std::fmax(double{value}, -3.5), 3.5);
    return static_cast<int32_t>(std::floor(std::ldexp(inside, 29)));
  }

  const CodebookCall& call_;
  CodebookWork& work_;
  const int64_t first_;
  const int32_t count_;
  const SearchScratch scratch_;
  bool is_packed_ = false;
  const float* units_[kPanelRows] = {};
  float best_[kPanelRows] = {};
  float bounds_[kPanelRows] = {};
  int32_t label_[kPanelRows] = {};
  int32_t slack_[kPanelRows] = {};
};

}  // namespace

void refine_codebooks(const CodebookCall& call, const CodebookWave& wave) {
  const auto row_blocks = [](const CodebookWork& work) { return words_of(work.problem->n_rows); };
  wave.each_block(call.device, row_blocks,
                  [&](CodebookWork& work, int64_t block, int) { set_bounds(call, work, block); });
  for (int64_t i = 0; i < wave.count; ++i) wave.works[i].changed = row_blocks(wave.works[i]) > 0;

  // A problem takes part in a round if the one before changed something.
  std::vector<char> is_moving(static_cast<size_t>(wave.count));
  const auto moves = [&](const CodebookWork& work) {
    return is_moving[static_cast<size_t>(&work - wave.works)] != 0;
  };
  for (int32_t round = 0; round < call.params.refine && !call.is_stopped(); ++round) {
    for (int64_t i = 0; i < wave.count; ++i) {
      is_moving[static_cast<size_t>(i)] = wave.works[i].changed.exchange(0) != 0;
    }
    wave.each_problem(call.device, [&](CodebookWork& work, int) {
      if (moves(work)) sort_members(work);
    });
    wave.each_block(
        call.device,
        [&](const CodebookWork& work) {
          return moves(work) ? (*work.problem->count + kCodewordsPerTask - 1) / kCodewordsPerTask
                             : int64_t{0};
        },
        [&](CodebookWork& work, int64_t block, int lane) {
          const int64_t end =
              std::min<int64_t>(*work.problem->count, (block + 1) * kCodewordsPerTask);
          for (int64_t c = block * kCodewordsPerTask; c < end && !call.is_stopped(); ++c) {
            move_codeword(call, work, c, call.scratch(lane).panel);
            quantise_codeword(call, work, c);
          }
        });
    wave.each_block(
        call.device,
        [&](const CodebookWork& work) { return moves(work) ? row_blocks(work) : int64_t{0}; },
        [&](CodebookWork& work, int64_t block, int lane) {
          if (!call.is_stopped()) MovingRows(call, work, block, call.scratch(lane)).run();
        });
  }
}

}  // namespace spindlekv::cpu
