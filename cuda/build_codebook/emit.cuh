// build_codebook, EMIT: from a cover to a codebook (refine.cuh improves it in between).
//   labels [n_rows], leaders [C] -> codewords [C', D] dtype, refs, magnitudes, cosines [n_rows], C'
//   codebook_leaders_kernel  block = 32 codewords: leaders' units, rounded to dtype at once, so
//                            that every similarity is that of what is stored
//   codebook_labels_kernel   block = problem: final labels, without codewords that have no members
//   codebook_store_kernel    thread = element of a codeword
//   codebook_refer_kernel    thread = row: reference, magnitude, cosine
// Memory-bound: units and codewords are read about once. Labels and leaders are trusted.
#pragma once

#include "cuda/build_codebook/params.h"
#include "cuda/build_codebook/rows.cuh"
#include "cuda/common/convert.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/reduce.cuh"

#include <algorithm>

namespace spindlekv::cuda {

// ---- traits
// --------------------------------------------------------------------------------------

struct EmitTraits {
  static constexpr int kThreads = 256;
  static constexpr int kCodewords = 32;  // of a block that walks them one by one
};

// ---- helpers
// -------------------------------------------------------------------------------------

template <typename Elem>
__device__ __forceinline__ float rounded(float value) {
  return to_float(from_float<Elem>(value));
}

__device__ __forceinline__ int64_t global_thread() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

// ---- kernels
// -------------------------------------------------------------------------------------

// Grid: (blocks of 32 codewords, problems).
template <typename Elem>
__global__ __launch_bounds__(EmitTraits::kThreads) void codebook_leaders_kernel(
    const CodebookArgs args) {
  const CodebookWork& work = args.works[blockIdx.y];
  const int thread = static_cast<int>(threadIdx.x);
  if (work.problem.n_rows == 0) {
    if (blockIdx.x == 0 && thread == 0) *work.problem.count = 0;
    return;
  }
  if (blockIdx.x == 0 && thread == 0) work.state->changed = 1;
  const int first = static_cast<int>(blockIdx.x) * EmitTraits::kCodewords;
  const int codewords = min(EmitTraits::kCodewords, *work.problem.count - first);
  if (codewords <= 0) return;
  float* target = work.codewords + static_cast<int64_t>(first) * args.head_dim;
  for (int i = thread; i < codewords * args.head_dim; i += EmitTraits::kThreads) {
    const int codeword = i / args.head_dim;
    const int dim = i - codeword * args.head_dim;
    const int64_t leader = loaded_leader(work, first + codeword);
    target[i] = rounded<Elem>(work.units[leader * args.head_dim + dim]);
  }
  __syncthreads();
  if (thread >= codewords) return;
  const float* codeword = target + thread * args.head_dim;
  work.square[first + thread] = dot_rows(codeword, codeword, args.head_dim);
}

// Grid x: problems.
__global__ __launch_bounds__(EmitTraits::kThreads) void codebook_labels_kernel(
    const CodebookArgs args) {
  const CodebookWork& work = args.works[blockIdx.x];
  if (work.problem.n_rows == 0) return;
  const int count = *work.problem.count;
  const int thread = static_cast<int>(threadIdx.x);
  for (int c = thread; c < count; c += EmitTraits::kThreads) work.final_label[c] = -1;
  __syncthreads();
  for (int row = thread; row < work.problem.n_rows; row += EmitTraits::kThreads) {
    work.final_label[work.problem.labels[row]] = 0;
  }
  __syncthreads();
  int kept = 0;
  for (int first = 0; first < count; first += EmitTraits::kThreads) {
    const int c = first + thread;
    const bool is_kept = c < count && work.final_label[c] == 0;
    const ScanResult<int> place = block_exclusive_sum<EmitTraits::kThreads>(is_kept ? 1 : 0);
    if (is_kept) work.final_label[c] = kept + place.before;
    kept += place.total;
  }
  if (thread != 0) return;
  work.state->count = count;
  *work.problem.count = kept;  // all have read it: a barrier ago
}

// Grid: (blocks of elements of codewords, problems).
template <typename Elem>
__global__ __launch_bounds__(EmitTraits::kThreads) void codebook_store_kernel(
    const CodebookArgs args) {
  const CodebookWork& work = args.works[blockIdx.y];
  const int64_t element = global_thread();
  const int64_t codeword = element / args.head_dim;
  if (work.problem.n_rows == 0 || codeword >= work.state->count) return;
  const int64_t target = work.final_label[codeword];
  if (target < 0) return;
  static_cast<Elem*>(work.problem.codewords)[target * args.head_dim + element % args.head_dim] =
      from_float<Elem>(work.codewords[element]);
}

// Grid: (blocks of rows, problems).
template <typename Elem>
__global__ __launch_bounds__(EmitTraits::kThreads) void codebook_refer_kernel(
    const CodebookArgs args) {
  const CodebookWork& work = args.works[blockIdx.y];
  const SkvCodebookProblem& problem = work.problem;
  const int64_t row = global_thread();
  if (row >= problem.n_rows) return;
  const int64_t loaded = loaded_of(work, row);
  const int64_t codeword = problem.labels[row];
  const int label = work.final_label[codeword];
  problem.labels[row] = label;
  if (problem.refs != nullptr && args.ref_bytes == 2) {
    static_cast<uint16_t*>(problem.refs)[row] = static_cast<uint16_t>(label);
  } else if (problem.refs != nullptr) {
    static_cast<uint32_t*>(problem.refs)[row] = static_cast<uint32_t>(label);
  }
  if (problem.magnitudes != nullptr) {
    static_cast<Elem*>(problem.magnitudes)[row] = from_float<Elem>(work.norms[loaded]);
  }
  if (problem.cosines != nullptr) {
    problem.cosines[row] = dot_rows(work.units + loaded * args.head_dim,
                                    work.codewords + codeword * args.head_dim, args.head_dim);
  }
}

// ---- launch
// --------------------------------------------------------------------------------------

// Also where no problem has a codeword: counts of problems without rows are set here.
template <typename Elem>
Status launch_codebook_leaders(const CodebookArgs& args, int64_t most_codewords,
                               cudaStream_t stream) {
  const int64_t blocks = std::max<int64_t>(1, ceil_div(most_codewords, EmitTraits::kCodewords));
  return launch<codebook_leaders_kernel<Elem>>("build_codebook", {blocks, args.n_works},
                                               dim3(EmitTraits::kThreads), 0, stream, args);
}

inline Status launch_codebook_labels(const CodebookArgs& args, cudaStream_t stream) {
  return launch<codebook_labels_kernel>("build_codebook", {args.n_works},
                                        dim3(EmitTraits::kThreads), 0, stream, args);
}

template <typename Elem>
Status launch_codebook_store(const CodebookArgs& args, int64_t most_codewords,
                             cudaStream_t stream) {
  const int64_t elements = most_codewords * args.head_dim;
  return launch<codebook_store_kernel<Elem>>(
      "build_codebook", {ceil_div(elements, EmitTraits::kThreads), args.n_works},
      dim3(EmitTraits::kThreads), 0, stream, args);
}

template <typename Elem>
Status launch_codebook_refer(const CodebookArgs& args, int64_t most_rows, cudaStream_t stream) {
  return launch<codebook_refer_kernel<Elem>>(
      "build_codebook", {ceil_div(most_rows, EmitTraits::kThreads), args.n_works},
      dim3(EmitTraits::kThreads), 0, stream, args);
}

}  // namespace spindlekv::cuda
