// nearest_codeword: problems, their rows and norms, and the exact search of one row by a block.
#pragma once

#include "core/canonical.h"
#include "core/ops.h"

#include "cuda/common/convert.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/reduce.cuh"
#include "cuda/nearest_codeword/dot_tile.cuh"
#include "cuda/rope/rotate.cuh"

#include <cmath>

namespace spindlekv::cuda {

// ---- traits
// --------------------------------------------------------------------------------------

struct NearestTraits {
  static constexpr int kThreads = DotTraits::kThreads;
  static constexpr int kFewRows = 8;  // up to here a problem's rows are taken one by one
  static constexpr int kMaxDims = 512;
  static constexpr int kScreenRows = 256;  // of a block of the screen
};

// A problem and the number of its first block.
struct NearestWork {
  SkvNearestProblem problem;
  int64_t first_block;
};

struct NearestArgs {
  const NearestWork* works;
  int32_t n_works;
  int32_t head_dim;
  int32_t normalize;
  float* largest_norms;  // [n_works] of the codewords, for the screen
};

// ---- helpers
// -------------------------------------------------------------------------------------

// Number of the last work that begins at or before the block.
__device__ __forceinline__ int find_work(const NearestArgs& args, int64_t block) {
  int low = 0;
  int high = args.n_works;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (args.works[middle].first_block <= block) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// norm of a row in global memory, by one thread.
template <typename Elem>
__device__ __forceinline__ float norm_of_row(const void* x, int64_t offset, int head_dim) {
  float square = 0.0f;
  for (int dim = 0; dim < head_dim; dim += 8) {
    float value[8];
    load8_anywhere<Elem>(x, offset + dim, value);
#pragma unroll
    for (int i = 0; i < 8; ++i) square = fmaf(value[i], value[i], square);
  }
  return sqrtf(square);
}

__device__ __forceinline__ float unit_of(float value, float norm) {
  return norm == 0.0f ? 0.0f : value / norm;
}

// Candidates start with key 0, which is NaN's: it never wins.
__device__ __forceinline__ Candidate no_codeword() { return {0u, INT32_MAX}; }

__device__ __forceinline__ bool is_better(float dot, const Candidate& best) {
  return canonical::score_key(dot) > best.key;
}

__device__ __forceinline__ void store_nothing(const SkvNearestProblem& problem, int64_t row) {
  problem.index[row] = -1;
  if (problem.score != nullptr) problem.score[row] = problem.c > 0 ? NAN : -INFINITY;
}

// dot(x_row / divisor, codeword) by one thread; divisor 1 leaves the row as it is.
template <typename Elem>
__device__ __forceinline__ float dot_of_rows(const SkvNearestProblem& problem, int64_t row,
                                             int64_t codeword, float divisor, int head_dim) {
  float dot = 0.0f;
  for (int dim = 0; dim < head_dim; dim += 8) {
    float x[8];
    float y[8];
    load8_anywhere<Elem>(problem.x, row * problem.x_stride + dim, x);
    load8_anywhere<Elem>(problem.codewords, codeword * problem.codeword_stride + dim, y);
#pragma unroll
    for (int i = 0; i < 8; ++i) dot = fmaf(unit_of(x[i], divisor), y[i], dot);
  }
  return dot;
}

// The exact search of one row, by the block: a thread owns every kThreads-th codeword.
// unit: [head_dim] in shared memory.
template <typename Elem>
__device__ __forceinline__ void search_row(const NearestArgs& args,
                                           const SkvNearestProblem& problem, int64_t row,
                                           float* unit) {
  SKV_SHARED(row_norm, float);
  const int64_t offset = row * problem.x_stride;

  // load
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0 && (args.normalize != 0 || problem.norm != nullptr)) {
    row_norm = norm_of_row<Elem>(problem.x, offset, args.head_dim);
    if (problem.norm != nullptr) problem.norm[row] = row_norm;
  }
  __syncthreads();
  for (int dim = thread; dim < args.head_dim; dim += NearestTraits::kThreads) {
    const float value = to_float(static_cast<const Elem*>(problem.x)[offset + dim]);
    unit[dim] = args.normalize != 0 ? unit_of(value, row_norm) : value;
  }
  __syncthreads();

  // compute
  Candidate best = no_codeword();
  float best_dot = 0.0f;
  for (int64_t codeword = thread; codeword < problem.c; codeword += NearestTraits::kThreads) {
    float dot = 0.0f;
#pragma unroll 2
    for (int dim = 0; dim < args.head_dim; dim += 8) {
      float value[8];
      load8_anywhere<Elem>(problem.codewords, codeword * problem.codeword_stride + dim, value);
#pragma unroll
      for (int i = 0; i < 8; ++i) dot = fmaf(unit[dim + i], value[i], dot);
    }
    if (!is_better(dot, best)) continue;
    best = {canonical::score_key(dot), static_cast<int32_t>(codeword)};
    best_dot = dot;
  }

  // reduce and store
  const Candidate winner = block_best<NearestTraits::kThreads>(best);
  if (winner.key == 0) {
    if (thread == 0) store_nothing(problem, row);
  } else if (winner.index == best.index) {
    problem.index[row] = winner.index;
    if (problem.score != nullptr) problem.score[row] = best_dot;
  }
  __syncthreads();  // the storage may be used again
}

}  // namespace spindlekv::cuda
