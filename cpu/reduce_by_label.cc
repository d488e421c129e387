// Counting sort of rows by label, and weighted sums of the rows of each label.
//
//   labels [n] -> counts [C], offsets [C + 1], order [n]; x [n, D] -> sums [C, D] f32
//
// The sort is one pass of integers; the sums read x once, labels being independent of each other
// and the rows of a label taken in ascending order (canonical).
#include <algorithm>
#include <cstdint>

#include "core/ops.h"
#include "cpu/carve.h"
#include "cpu/convert.h"
#include "cpu/entries.h"
#include "cpu/isa/similarity.h"
#include "cpu/prefetch.h"

namespace spindlekv::cpu {
namespace {

constexpr int64_t kLabelsPerTask = 16;
constexpr int32_t kRowsAhead = 8;  // rows of a label lie anywhere: they are asked for this early

struct Scratch {
  int32_t* offsets;  // [C + 1]
  int32_t* order;    // [n]
  int32_t* next;     // [C] where the next row of a label goes
  float* rows;       // [lanes, D]
};

// What one problem needs; the next one has the same place.
Scratch lay_out(SkvDevice& device, int32_t head_dim, const SkvLabelProblem& problem,
                Carver& carver) {
  Scratch scratch{};
  scratch.offsets = problem.offsets != nullptr
                        ? problem.offsets
                        : carver.take<int32_t>(static_cast<int64_t>(problem.n_labels) + 1);
  const bool needs_order = problem.order != nullptr || problem.sums != nullptr;
  scratch.order = problem.order;
  if (needs_order && problem.order == nullptr) scratch.order = carver.take<int32_t>(problem.n);
  if (needs_order) scratch.next = carver.take<int32_t>(problem.n_labels);
  if (problem.sums != nullptr) {
    scratch.rows = carver.take<float>(static_cast<int64_t>(device.pool.lanes()) * head_dim);
  }
  return scratch;
}

// Asks for a row of x before it is needed.
SKV_PREFETCH void prefetch_row(const SkvReduceByLabelParams& params, const SkvLabelProblem& problem,
                               int32_t row) {
  const size_t bytes = dtype_bytes(params.dtype);
  const int64_t offset = row * problem.x_stride * static_cast<int64_t>(bytes);
  prefetch_bytes(static_cast<const char*>(problem.x) + offset, params.head_dim * bytes);
}

void sort_labels(const SkvLabelProblem& problem, const Scratch& scratch) {
  const int32_t n_labels = problem.n_labels;
  const auto is_label = [n_labels](int32_t label) { return label >= 0 && label < n_labels; };
  int32_t* const offsets = scratch.offsets;
  std::fill(offsets, offsets + n_labels + 1, 0);
  for (int32_t i = 0; i < problem.n; ++i) {
    if (is_label(problem.labels[i])) ++offsets[problem.labels[i] + 1];
  }
  if (problem.counts != nullptr) std::copy(offsets + 1, offsets + n_labels + 1, problem.counts);
  for (int32_t c = 0; c < n_labels; ++c) offsets[c + 1] += offsets[c];
  if (scratch.order == nullptr) return;
  std::copy(offsets, offsets + n_labels, scratch.next);
  for (int32_t i = 0; i < problem.n; ++i) {
    const int32_t label = problem.labels[i];
    if (is_label(label)) scratch.order[scratch.next[label]++] = i;
  }
}

// The sums of each label, the labels shared among the threads.
void add_rows(SkvDevice& device, const SkvReduceByLabelParams& params,
              const SkvLabelProblem& problem, const Scratch& scratch) {
  const SimilarityKernels& kernels = similarity_kernels_for(device.isa);
  const int64_t head_dim = params.head_dim;
  const int32_t total = scratch.offsets[problem.n_labels];
  const int64_t tasks = (problem.n_labels + kLabelsPerTask - 1) / kLabelsPerTask;
  device.pool.parallel_for(tasks, [&](int64_t task, int lane) {
    float* const row = scratch.rows + lane * head_dim;
    const int64_t end = std::min<int64_t>(problem.n_labels, (task + 1) * kLabelsPerTask);
    for (int64_t label = task * kLabelsPerTask; label < end; ++label) {
      float* const sum = problem.sums + label * head_dim;
      std::fill(sum, sum + head_dim, 0.0f);
      for (int32_t at = scratch.offsets[label]; at < scratch.offsets[label + 1]; ++at) {
        const int32_t i = scratch.order[at];
        if (at + kRowsAhead < total) prefetch_row(params, problem, scratch.order[at + kRowsAhead]);
        kernels.load_rows(params.dtype, problem.x, problem.x_stride, &i, 1, params.head_dim, row);
        kernels.add_row(problem.weights != nullptr ? problem.weights[i] : 1.0f, row,
                        params.head_dim, sum);
      }
    }
  });
}

}  // namespace

Status reduce_by_label(SkvDevice& device, const SkvExec& exec,
                       const SkvReduceByLabelParams& params) {
  for (int32_t i = 0; i < params.n_problems && !is_cancelled(exec); ++i) {
    const SkvLabelProblem& problem = params.problems[i];
    Carver carver(exec.workspace);
    const Scratch scratch = lay_out(device, params.head_dim, problem, carver);
    sort_labels(problem, scratch);
    if (problem.sums != nullptr) add_rows(device, params, problem, scratch);
  }
  return is_cancelled(exec) ? aborted_status("reduce_by_label") : ok_status();
}

size_t reduce_by_label_workspace(SkvDevice& device, const SkvReduceByLabelParams& params) {
  size_t bytes = 0;
  for (int32_t i = 0; i < params.n_problems; ++i) {
    Carver carver(nullptr);
    lay_out(device, params.head_dim, params.problems[i], carver);
    bytes = std::max(bytes, carver.used());
  }
  return bytes;
}

}  // namespace spindlekv::cpu
