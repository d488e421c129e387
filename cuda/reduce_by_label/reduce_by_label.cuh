// reduce_by_label: counting sort of rows by label, and weighted sums of the rows of each label.
//   sums[c][d] = fma(weights[i] or 1, x[i][d], sums[c][d]) over rows i of label c, ascending
//   counts[c], offsets = exclusive sum of counts, order = rows by label, ascending inside
// Canonical (core/canonical.h). x: [n, D] dtype, row stride, element alignment. All problems of a
// call share each launch.
// sort.cuh sorts the rows; a thread then owns one label's offset (binary search), and after that
// one (label, dim) of the sums, whose rows it walks alone. Memory-bound: x is read once; a label
// that has most of the rows makes one long chain.
#pragma once

#include "core/ops.h"

#include "cuda/common/convert.cuh"
#include "cuda/common/launch.h"
#include "cuda/reduce_by_label/sort.cuh"

#include <cmath>

namespace spindlekv::cuda {

// ---- traits
// --------------------------------------------------------------------------------------

struct LabelSumTraits {
  static constexpr int kThreads = 128;
  static constexpr int kRowsAhead = 4;  // rows loaded before they are added
};

struct LabelSumArgs {
  const LabelWork* works;  // of the problems at hand
  int32_t n_works;
  int32_t most_labels;
  int32_t head_dim;
  int32_t passes;  // of the sort
};

// ---- helpers
// -------------------------------------------------------------------------------------

__device__ __forceinline__ const LabelledRow* sorted_rows(const LabelSumArgs& args,
                                                          const LabelWork& work) {
  return work.rows[(args.passes - 1) % 2];
}

// The first sorted row whose key is `label` or above.
__device__ __forceinline__ int first_of_label(const LabelledRow* sorted, int rows, int64_t label) {
  int low = 0;
  int high = rows;
  while (low < high) {
    const int middle = low + (high - low) / 2;
    if (sorted[middle].key < label) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// ---- kernels
// -------------------------------------------------------------------------------------

__global__ __launch_bounds__(LabelSumTraits::kThreads) void label_offsets_kernel(
    const LabelSumArgs args) {
  const LabelWork& work = args.works[blockIdx.y];
  const SkvLabelProblem& problem = work.problem;
  const LabelledRow* const sorted = sorted_rows(args, work);
  const int64_t label = static_cast<int64_t>(blockIdx.x) * LabelSumTraits::kThreads + threadIdx.x;
  if (label > problem.n_labels) return;
  const int first = first_of_label(sorted, problem.n, label);
  work.offsets[label] = first;
  if (problem.counts != nullptr && label < problem.n_labels) {
    problem.counts[label] = first_of_label(sorted, problem.n, label + 1) - first;
  }
}

template <typename Elem>
__global__ __launch_bounds__(LabelSumTraits::kThreads) void label_sums_kernel(
    const LabelSumArgs args) {
  constexpr int kAhead = LabelSumTraits::kRowsAhead;
  const LabelWork& work = args.works[blockIdx.y];
  const SkvLabelProblem& problem = work.problem;
  const int64_t element = static_cast<int64_t>(blockIdx.x) * LabelSumTraits::kThreads + threadIdx.x;
  const int64_t label = element / args.head_dim;
  const int64_t dim = element % args.head_dim;
  if (problem.sums == nullptr || label >= problem.n_labels) return;
  const LabelledRow* const sorted = sorted_rows(args, work);
  const Elem* x = static_cast<const Elem*>(problem.x);
  const int end = work.offsets[label + 1];
  float sum = 0.0f;
  int at = work.offsets[label];
  for (; at + kAhead <= end; at += kAhead) {
    float value[kAhead];
    float weight[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int64_t row = sorted[at + i].row;
      value[i] = to_float(x[row * problem.x_stride + dim]);
      weight[i] = problem.weights != nullptr ? problem.weights[row] : 1.0f;
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) sum = fmaf(weight[i], value[i], sum);
  }
  for (; at < end; ++at) {
    const int64_t row = sorted[at].row;
    const float weight = problem.weights != nullptr ? problem.weights[row] : 1.0f;
    sum = fmaf(weight, to_float(x[row * problem.x_stride + dim]), sum);
  }
  problem.sums[element] = sum;
}

// ---- launch
// --------------------------------------------------------------------------------------

inline Status launch_label_offsets(const LabelSumArgs& args, cudaStream_t stream) {
  const int64_t labels = static_cast<int64_t>(args.most_labels) + 1;
  return launch<label_offsets_kernel>("reduce_by_label",
                                      {ceil_div(labels, LabelSumTraits::kThreads), args.n_works},
                                      dim3(LabelSumTraits::kThreads), 0, stream, args);
}

template <typename Elem>
Status launch_label_sums(const LabelSumArgs& args, cudaStream_t stream) {
  const int64_t elements = static_cast<int64_t>(args.most_labels) * args.head_dim;
  return launch<label_sums_kernel<Elem>>(
      "reduce_by_label", {ceil_div(elements, LabelSumTraits::kThreads), args.n_works},
      dim3(LabelSumTraits::kThreads), 0, stream, args);
}

}  // namespace spindlekv::cuda
