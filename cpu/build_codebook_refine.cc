// Spherical k-means under the guarantee: codewords move towards the mean of their members only as
// far as every member stays above its bound, then rows move to the codeword that reconstructs them
// best.
//
// A round costs a few dot products per row for the codewords, which are independent of each other,
// and n_rows * C * D fused multiply-adds for the rows, in panels of 64. The definition is in
// core/ops.h.
#include <cmath>
#include <cstdint>

#include "cpu/build_codebook.h"
#include "cpu/convert.h"

namespace spindlekv::cpu {
namespace {

constexpr int64_t kCodewordsPerTask = 16;
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

void move_rows(const CodebookCall& call, CodebookWork& work, int64_t block, float* panel) {
  const SkvCodebookProblem& problem = *work.problem;
  const int32_t head_dim = call.params.head_dim;
  const int64_t first = block * kPanelRows;
  const int32_t count = static_cast<int32_t>(std::min<int64_t>(kPanelRows, problem.n_rows - first));
  const float* units[kPanelRows] = {};
  const float* codewords[kPanelRows] = {};
  float dots[kPanelRows];
  float best[kPanelRows] = {};
  float bounds[kPanelRows] = {};
  int32_t label[kPanelRows] = {};
  for (int32_t i = 0; i < count; ++i) {
    label[i] = problem.labels[first + i];
    bounds[i] = work.bounds[first + i];
    units[i] = work.units + work.loaded_of(first + i) * head_dim;
    codewords[i] = work.codewords + static_cast<int64_t>(label[i]) * head_dim;
  }
  call.kernels.paired_dots(units, codewords, count, head_dim, dots);
  for (int32_t i = 0; i < count; ++i) best[i] = 2.0f * dots[i] - work.square[label[i]];
  call.kernels.pack_panel(units, count, head_dim, panel);
  call.kernels.nearest_in_bound(work.codewords, work.square, 0, *problem.count, head_dim, panel,
                                bounds, best, label);
  for (int32_t i = 0; i < count; ++i) {
    if (problem.labels[first + i] == label[i]) continue;
    problem.labels[first + i] = label[i];
    work.changed.store(1, std::memory_order_relaxed);
  }
}

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
            move_codeword(call, work, c, call.scratch(lane));
          }
        });
    wave.each_block(
        call.device,
        [&](const CodebookWork& work) { return moves(work) ? row_blocks(work) : int64_t{0}; },
        [&](CodebookWork& work, int64_t block, int lane) {
          if (!call.is_stopped()) move_rows(call, work, block, call.scratch(lane));
        });
  }
}

}  // namespace spindlekv::cpu
