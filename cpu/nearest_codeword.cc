// The codeword with the largest dot product of every row; the matrix of products never exists.
//
//   x [n, D], codewords [c, D] dtype -> index [n] i32, score [n], norm [n] f32
//
// Compute-bound for many rows: n * c * D multiply-adds, nearly all of int16 pairs where that pays
// (cpu/similarity_search.h). A task holds 64 rows as a panel and runs over all codewords, which are
// converted once per problem. A few rows (tokens being decoded) read the codewords once, eight
// chains of products at a time; the problems are then the tasks.
#include <algorithm>
#include <cstdint>
#include <limits>

#include "core/ops.h"
#include "cpu/carve.h"
#include "cpu/convert.h"
#include "cpu/entries.h"
#include "cpu/isa/similarity.h"
#include "cpu/prefetch.h"
#include "cpu/similarity_search.h"

namespace spindlekv::cpu {
namespace {

constexpr int64_t kCodewordsPerTask = 64;
// A panel costs the same however few of its lanes are used: that of about 3 rows done one by one
// (measured: 2000 codewords of 128 dims, AVX-512).
constexpr int32_t kFewRows = 2;

// The codewords of one problem, and what each task of kCodewordsPerTask says about its own.
struct CodewordMemory {
  float* values;       // [most, D]
  int16_t* quantised;  // [most, D]
  float* squares;      // [tasks] the largest sum of squares, NaN or infinity kept
  int32_t* slacks;     // [tasks] the largest slack; kNoSlack if a codeword has none
};

struct LaneScratch {
  float* rows;       // [64, D]
  float* codewords;  // [64, D] for a few rows
  SearchScratch search;
};

size_t element_bytes(const SkvNearestCodewordParams& params) { return dtype_bytes(params.dtype); }

const char* row_at(const void* rows, int64_t index, int64_t stride, size_t bytes) {
  return static_cast<const char*>(rows) + index * stride * static_cast<int64_t>(bytes);
}

int64_t tasks_of(int64_t codewords) {
  return (codewords + kCodewordsPerTask - 1) / kCodewordsPerTask;
}

// Codewords are converted for one problem at a time: room for the largest.
CodewordMemory lay_out(const SkvNearestCodewordParams& params, Carver& carver) {
  int64_t most = 0;
  for (int32_t p = 0; p < params.n_problems; ++p) {
    if (params.problems[p].n > kFewRows) most = std::max<int64_t>(most, params.problems[p].c);
  }
  return {carver.take<float>(most * params.head_dim), carver.take<int16_t>(most * params.head_dim),
          carver.take<float>(tasks_of(most)), carver.take<int32_t>(tasks_of(most))};
}

LaneScratch lay_out_lane(const SkvNearestCodewordParams& params, Carver& carver) {
  const int64_t values = static_cast<int64_t>(kPanelRows) * params.head_dim;
  return {carver.take<float>(values), carver.take<float>(values),
          SearchScratch::carve(params.head_dim, carver)};
}

// What is known of a block of rows: the best codeword so far.
struct Matches {
  float best[kPanelRows];
  int32_t index[kPanelRows];
  float norms[kPanelRows];

  Matches() {
    std::fill(best, best + kPanelRows, -std::numeric_limits<float>::infinity());
    std::fill(index, index + kPanelRows, -1);
  }
};

// Rows [first, first + count) as f32, unit if asked for; rows[i] points at each.
void load_block(const SimilarityKernels& kernels, const SkvNearestCodewordParams& params,
                const SkvNearestProblem& problem, int64_t first, int32_t count, float* values,
                const float** rows, float* norms) {
  kernels.load_rows(params.dtype, row_at(problem.x, first, problem.x_stride, element_bytes(params)),
                    problem.x_stride, nullptr, count, params.head_dim, values);
  if (params.normalize != 0 || problem.norm != nullptr) {
    kernels.unit_rows(values, count, params.head_dim, params.normalize != 0, norms);
  }
  for (int32_t i = 0; i < count; ++i) rows[i] = values + static_cast<int64_t>(i) * params.head_dim;
}

void store_block(const SkvNearestProblem& problem, int64_t first, int32_t count,
                 const Matches& found) {
  for (int32_t i = 0; i < count; ++i) {
    problem.index[first + i] = found.index[i];
    if (problem.norm != nullptr) problem.norm[first + i] = found.norms[i];
    if (problem.score == nullptr) continue;
    const bool is_all_nan = found.index[i] < 0 && problem.c > 0;
    problem.score[first + i] = is_all_nan ? std::numeric_limits<float>::quiet_NaN() : found.best[i];
  }
}

// Asks for a block of rows before it is needed.
SKV_PREFETCH void prefetch_block(const SkvNearestCodewordParams& params,
                                 const SkvNearestProblem& problem, int64_t first) {
  const size_t bytes = element_bytes(params);
  for (int64_t row = first; row < std::min<int64_t>(problem.n, first + kPanelRows); ++row) {
    prefetch_bytes(row_at(problem.x, row, problem.x_stride, bytes), params.head_dim * bytes);
  }
}

// 64 rows against all codewords. The rows that this thread is likely to take next are `ahead`.
void match_panel(const SimilaritySearch& search, const SkvNearestCodewordParams& params,
                 const SkvNearestProblem& problem, const CodewordList& codewords, int64_t first,
                 int64_t ahead, const LaneScratch& scratch) {
  const int32_t count = static_cast<int32_t>(std::min<int64_t>(kPanelRows, problem.n - first));
  const float* rows[kPanelRows] = {};
  Matches found;
  load_block(search.kernels, params, problem, first, count, scratch.rows, rows, found.norms);
  prefetch_block(params, problem, ahead);
  search.largest_dots(codewords, rows, count, scratch.search, found.best, found.index);
  store_block(problem, first, count, found);
}

// The codewords of a problem in f32 and, if all of them have one, in their integer form.
CodewordList prepare_codewords(SkvDevice& device, const SimilaritySearch& search,
                               const SkvNearestCodewordParams& params,
                               const SkvNearestProblem& problem, const CodewordMemory& memory) {
  const int32_t head_dim = params.head_dim;
  const int64_t tasks = tasks_of(problem.c);
  const auto each_codeword = [&](int64_t task, const auto& use) {
    const int64_t end = std::min<int64_t>(problem.c, (task + 1) * kCodewordsPerTask);
    for (int64_t c = task * kCodewordsPerTask; c < end; ++c) use(c, memory.values + c * head_dim);
  };
  device.pool.parallel_for(tasks, [&](int64_t task, int) {
    const int64_t first = task * kCodewordsPerTask;
    search.kernels.load_rows(
        params.dtype,
        row_at(problem.codewords, first, problem.codeword_stride, element_bytes(params)),
        problem.codeword_stride, nullptr, std::min<int64_t>(kCodewordsPerTask, problem.c - first),
        head_dim, memory.values + first * head_dim);
    if (!search.filter.pays) return;
    float largest = 0.0f;
    each_codeword(task, [&](int64_t, const float* values) {
      const float square = search.filter.rough_square(values, head_dim);
      if (!(square <= largest)) largest = square;
    });
    memory.squares[task] = largest;
  });
  CodewordList list{.values = memory.values, .count = problem.c, .head_dim = head_dim};
  if (!search.filter.pays) return list;

  float largest = 0.0f;
  for (int64_t task = 0; task < tasks; ++task) {
    if (!(memory.squares[task] <= largest)) largest = memory.squares[task];
  }
  const int32_t exponent = exponent_for(largest);
  device.pool.parallel_for(tasks, [&](int64_t task, int) {
    int32_t slack = 0;
    each_codeword(task, [&](int64_t c, const float* values) {
      const int32_t own =
          search.filter.quantise_row(values, head_dim, exponent, memory.quantised + c * head_dim);
      slack = own == kNoSlack || slack == kNoSlack ? kNoSlack : std::max(slack, own);
    });
    memory.slacks[task] = slack;
  });
  list.quantised = memory.quantised;
  for (int64_t task = 0; task < tasks; ++task) {
    if (memory.slacks[task] == kNoSlack) list.quantised = nullptr;
    list.slack = std::max(list.slack, memory.slacks[task]);
  }
  return list;
}

// All rows of a problem that has few.
void match_few(const SimilarityKernels& kernels, const SkvNearestCodewordParams& params,
               const SkvNearestProblem& problem, const LaneScratch& scratch) {
  const float* rows[kPanelRows] = {};
  Matches found;
  load_block(kernels, params, problem, 0, problem.n, scratch.rows, rows, found.norms);
  const float* row[kPanelRows] = {};
  const float* codewords[kPanelRows] = {};
  float dots[kPanelRows];
  for (int32_t j = 0; j < kPanelRows; ++j) {
    codewords[j] = scratch.codewords + static_cast<int64_t>(j) * params.head_dim;
  }
  for (int64_t base = 0; base < problem.c; base += kPanelRows) {
    const int32_t count = static_cast<int32_t>(std::min<int64_t>(kPanelRows, problem.c - base));
    kernels.load_rows(
        params.dtype,
        row_at(problem.codewords, base, problem.codeword_stride, element_bytes(params)),
        problem.codeword_stride, nullptr, count, params.head_dim, scratch.codewords);
    for (int32_t i = 0; i < problem.n; ++i) {
      std::fill(row, row + kPanelRows, rows[i]);
      kernels.paired_dots(row, codewords, count, params.head_dim, dots);
      for (int32_t j = 0; j < count; ++j) {
        // A row without a codeword yet takes anything but NaN, -inf included.
        const bool is_first = found.index[i] < 0 && dots[j] == dots[j];
        if (!is_first && !(dots[j] > found.best[i])) continue;
        found.best[i] = dots[j];
        found.index[i] = static_cast<int32_t>(base + j);
      }
    }
  }
  store_block(problem, 0, problem.n, found);
}

}  // namespace

Status nearest_codeword(SkvDevice& device, const SkvExec& exec,
                        const SkvNearestCodewordParams& params) {
  const SimilaritySearch search{similarity_kernels_for(device.isa), filter_for(device.isa),
                                params.normalize != 0};
  Carver carver(exec.workspace);
  const CodewordMemory memory = lay_out(params, carver);
  Carver measure(nullptr);
  lay_out_lane(params, measure);
  char* const lanes = carver.take<char>(static_cast<int64_t>(measure.used()) * device.pool.lanes());
  const auto scratch_of = [&](int lane) {
    Carver own(lanes + static_cast<int64_t>(measure.used()) * lane);
    return lay_out_lane(params, own);
  };

  device.pool.parallel_for(params.n_problems, [&](int64_t p, int lane) {
    const SkvNearestProblem& problem = params.problems[p];
    if (problem.n > 0 && problem.n <= kFewRows) {
      match_few(search.kernels, params, problem, scratch_of(lane));
    }
  });
  for (int32_t p = 0; p < params.n_problems; ++p) {
    const SkvNearestProblem& problem = params.problems[p];
    if (problem.n <= kFewRows) continue;
    const CodewordList codewords = prepare_codewords(device, search, params, problem, memory);
    const int64_t panels = (static_cast<int64_t>(problem.n) + kPanelRows - 1) / kPanelRows;
    device.pool.parallel_for(panels, [&](int64_t panel, int lane) {
      match_panel(search, params, problem, codewords, panel * kPanelRows,
                  (panel + device.pool.lanes()) * kPanelRows, scratch_of(lane));
    });
  }
  return ok_status();
}

size_t nearest_codeword_workspace(SkvDevice& device, const SkvNearestCodewordParams& params) {
  Carver carver(nullptr);
  lay_out(params, carver);
  Carver lane(nullptr);
  lay_out_lane(params, lane);
  carver.take<char>(static_cast<int64_t>(lane.used()) * device.pool.lanes());
  return carver.used();
}

}  // namespace spindlekv::cpu
