// nearest_codeword: the codeword with the largest dot product of every row.
//   index[i] = argmax_c dot(u_i, c), u_i = unit(x_i) if normalize, else x_i; score[i] = the dot
// Canonical (core/canonical.h). x: [n, D], codewords: [c, D] dtype, row strides, element alignment.
//   nearest_tile_kernel  block = 64 rows, walks the codewords 64 at a time; a thread keeps the best
//                        of its columns for its 4 rows. Compute-bound: n * c * D fma.
//   nearest_row_kernel   block = row, for problems of few rows (tokens being decoded); a thread
//                        owns every kThreads-th codeword. Memory-bound: reads the codewords once.
// Units are made while rows are read and never stored; the matrix of products never exists.
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
};

// ---- helpers
// -------------------------------------------------------------------------------------

// The last work that begins at or before the block.
__device__ __forceinline__ const NearestWork& find_work(const NearestArgs& args, int64_t block) {
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
  return args.works[low];
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

// ---- kernels
// -------------------------------------------------------------------------------------

template <typename Elem>
__global__ __launch_bounds__(NearestTraits::kThreads) void nearest_tile_kernel(
    const NearestArgs args) {
  SKV_SHARED(pieces, DotPieces);
  SKV_SHARED(norms, float[DotTraits::kTile]);
  constexpr int kOwn = DotTraits::kOwn;
  const NearestWork& work = find_work(args, blockIdx.x);
  const SkvNearestProblem& problem = work.problem;
  const int64_t first_row = (blockIdx.x - work.first_block) * DotTraits::kTile;
  const int rows = static_cast<int>(
      min(static_cast<int64_t>(DotTraits::kTile), static_cast<int64_t>(problem.n) - first_row));

  const int thread = static_cast<int>(threadIdx.x);
  if (thread < rows && (args.normalize != 0 || problem.norm != nullptr)) {
    const int64_t offset = (first_row + thread) * problem.x_stride;
    norms[thread] = norm_of_row<Elem>(problem.x, offset, args.head_dim);
    if (problem.norm != nullptr) problem.norm[first_row + thread] = norms[thread];
  }
  __syncthreads();

  Candidate best[kOwn];
  float best_dot[kOwn];
#pragma unroll
  for (int i = 0; i < kOwn; ++i) best[i] = no_codeword(), best_dot[i] = 0.0f;
  for (int64_t first = 0; first < problem.c; first += DotTraits::kTile) {
    // load and compute
    const auto load_row = [&](int row, int dim, float (&out)[8]) {
      if (row >= rows) return zero8(out);
      load8_anywhere<Elem>(problem.x, (first_row + row) * problem.x_stride + dim, out);
      if (args.normalize == 0) return;
      const float norm = norms[row];
#pragma unroll
      for (int d = 0; d < 8; ++d) out[d] = unit_of(out[d], norm);
    };
    const auto load_column = [&](int column, int dim, float (&out)[8]) {
      if (first + column >= problem.c) return zero8(out);
      const int64_t offset = (first + column) * problem.codeword_stride + dim;
      load8_anywhere<Elem>(problem.codewords, offset, out);
    };
    DotTile dots;
    dot_tile(pieces, args.head_dim, load_row, load_column, dots);

    // a thread meets its codewords in ascending order, so that the first of equals stays
#pragma unroll
    for (int j = 0; j < kOwn; ++j) {
      const int64_t codeword = first + own_column() + j;
      if (codeword >= problem.c) continue;
#pragma unroll
      for (int i = 0; i < kOwn; ++i) {
        if (!is_better(dots[i][j], best[i])) continue;
        best[i] = {canonical::score_key(dots[i][j]), static_cast<int32_t>(codeword)};
        best_dot[i] = dots[i][j];
      }
    }
  }

  // reduce and store: the thread that holds the best codeword of the row writes
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const Candidate winner = warp_best<DotTraits::kGroups>(best[i]);
    const int row = own_row() + i;
    if (row >= rows) continue;
    if (winner.key == 0) {
      if (own_column() == 0) store_nothing(problem, first_row + row);
    } else if (winner.index == best[i].index) {
      problem.index[first_row + row] = winner.index;
      if (problem.score != nullptr) problem.score[first_row + row] = best_dot[i];
    }
  }
}

template <typename Elem>
__global__ __launch_bounds__(NearestTraits::kThreads) void nearest_row_kernel(
    const NearestArgs args) {
  SKV_SHARED(unit, float[NearestTraits::kMaxDims]);
  SKV_SHARED(row_norm, float);
  const NearestWork& work = find_work(args, blockIdx.x);
  const SkvNearestProblem& problem = work.problem;
  const int64_t row = blockIdx.x - work.first_block;
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
}

// ---- launch
// --------------------------------------------------------------------------------------

template <typename Elem>
Status launch_nearest_tiles(const NearestArgs& args, int64_t blocks, cudaStream_t stream) {
  return launch<nearest_tile_kernel<Elem>>("nearest_codeword", {blocks},
                                           dim3(NearestTraits::kThreads), 0, stream, args);
}

template <typename Elem>
Status launch_nearest_rows(const NearestArgs& args, int64_t blocks, cudaStream_t stream) {
  return launch<nearest_row_kernel<Elem>>("nearest_codeword", {blocks},
                                          dim3(NearestTraits::kThreads), 0, stream, args);
}

}  // namespace spindlekv::cuda
