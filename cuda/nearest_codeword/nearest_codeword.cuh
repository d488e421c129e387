// nearest_codeword: the codeword with the largest dot product of every row.
//   index[i] = argmax_c dot(u_i, c), u_i = unit(x_i) if normalize, else x_i; score[i] = the dot
// Canonical (core/canonical.h). x: [n, D], codewords: [c, D] dtype, row strides, element alignment.
//   nearest_screen_kernel  f16 and bf16, 64 or 128 dims, rows at 16-byte addresses: screen.cuh
//   nearest_tile_kernel  block = 64 rows, walks the codewords 64 at a time; a thread keeps the best
//                        of its columns for its 4 rows. Compute-bound: n * c * D fma.
//   nearest_row_kernel   block = row, for problems of few rows (tokens being decoded); a thread
//                        owns every kThreads-th codeword. Memory-bound: reads the codewords once.
// Units are made while rows are read and never stored; the matrix of products never exists.
#pragma once

#include "core/canonical.h"
#include "core/ops.h"

#include "cuda/common/launch.h"
#include "cuda/common/reduce.cuh"
#include "cuda/nearest_codeword/dot_tile.cuh"
#include "cuda/nearest_codeword/rows.cuh"

#include <cmath>

namespace spindlekv::cuda {

// ---- kernels
// -------------------------------------------------------------------------------------

template <typename Elem>
__global__ __launch_bounds__(NearestTraits::kThreads) void nearest_tile_kernel(
    const NearestArgs args) {
  SKV_SHARED(pieces, DotPieces);
  SKV_SHARED(norms, float[DotTraits::kTile]);
  constexpr int kOwn = DotTraits::kOwn;
  const NearestWork& work = args.works[find_work(args, blockIdx.x)];
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
  const NearestWork& work = args.works[find_work(args, blockIdx.x)];
  search_row<Elem>(args, work.problem, blockIdx.x - work.first_block, unit);
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
