// build_codebook, COVER: greedy maximum-degree cover of a similarity graph.
//   graph [n, ceil(n/64)] u64, rows -> labels [n_rows], leaders [codewords], count
//   codebook_cover_kernel     block = problem: each pick depends on the one before. Degrees are
//                             counted once, then lowered only by the rows that a pick covers
//   codebook_leftover_kernel  block = 64 rows: rows that max_codewords left to the nearest leader
// Memory-bound: n^2 / 64 words in all, and n degrees a pick, from cache. Degrees are integers that
// atomics lower, in any order. Source: SpindleKV (arXiv 2507.06517), eq. 10 to 13.
#pragma once

#include "core/canonical.h"

#include "cuda/build_codebook/params.h"
#include "cuda/build_codebook/rows.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/reduce.cuh"
#include "cuda/nearest_codeword/dot_tile.cuh"

#include <cmath>

namespace spindlekv::cuda {

// ---- traits
// --------------------------------------------------------------------------------------

struct CoverTraits {
  static constexpr int kThreads = 512;
  static constexpr int kWarps = kThreads / kWarpSize;
};

// ---- helpers
// -------------------------------------------------------------------------------------

__device__ __forceinline__ int thread_id() { return static_cast<int>(threadIdx.x); }

// Marks the rows as uncovered and counts the neighbours of each; a warp takes a row.
__device__ __forceinline__ void count_degrees(const CodebookWork& work, int64_t words) {
  for (int64_t w = thread_id(); w < words; w += CoverTraits::kThreads) work.active[w] = 0;
  for (int i = thread_id(); i < work.graph_rows; i += CoverTraits::kThreads) {
    work.degree[i] = 0;
    work.label_of[i] = -1;
  }
  __syncthreads();
  const int rows = work.problem.n_rows;
  for (int position = thread_id(); position < rows; position += CoverTraits::kThreads) {
    const int64_t index = graph_of(work, position);
    auto* word = reinterpret_cast<unsigned long long*>(work.active + index / 64);
    atomicOr(word, 1ull << (index % 64));
  }
  __syncthreads();
  for (int position = warp_id(); position < rows; position += CoverTraits::kWarps) {
    const int64_t index = graph_of(work, position);
    int degree = 0;
    for (int64_t w = lane_id(); w < words; w += kWarpSize) {
      degree += __popcll(work.graph[index * words + w] & work.active[w]);
    }
    degree = warp_sum(degree);
    if (lane_id() == 0) work.degree[index] = degree;
  }
  __syncthreads();
}

// The uncovered row with the most uncovered neighbours, key 0 when none is left.
__device__ __forceinline__ Candidate best_leader(const CodebookWork& work) {
  Candidate best{0u, INT32_MAX};
  for (int i = thread_id(); i < work.graph_rows; i += CoverTraits::kThreads) {
    best = better(best, {static_cast<uint32_t>(work.degree[i]), i});
  }
  return block_best<CoverTraits::kThreads>(best);
}

// Gives the uncovered neighbours of a leader its label; `removed_count` is 0 before and after.
__device__ __forceinline__ void cover_neighbours(const CodebookWork& work, int64_t words,
                                                 int leader, int label, int& removed_count) {
  for (int64_t w = thread_id(); w < words; w += CoverTraits::kThreads) {
    uint64_t covered = work.graph[leader * words + w] & work.active[w];
    work.active[w] &= ~covered;
    for (; covered != 0; covered &= covered - 1) {
      const int index = static_cast<int>(w * 64) + __ffsll(static_cast<long long>(covered)) - 1;
      work.label_of[index] = label;
      work.degree[index] = 0;
      work.removed[atomicAdd(&removed_count, 1)] = index;
    }
  }
  __syncthreads();
  for (int i = warp_id(); i < removed_count; i += CoverTraits::kWarps) {
    const uint64_t* neighbours = work.graph + work.removed[i] * words;
    for (int64_t w = lane_id(); w < words; w += kWarpSize) {
      uint64_t common = neighbours[w] & work.active[w];
      for (; common != 0; common &= common - 1) {
        const int bit = __ffsll(static_cast<long long>(common)) - 1;
        atomicSub(&work.degree[w * 64 + bit], 1);
      }
    }
  }
  __syncthreads();
  if (thread_id() == 0) removed_count = 0;
  __syncthreads();
}

__device__ __forceinline__ void add_leader(const CodebookWork& work, int pick, int index) {
  work.problem.leaders[pick] = work.graph_is_full != 0 ? index : x_of(work, index);
}

// No uncovered row has an uncovered neighbour but itself: they follow in order, up to `limit`.
// Returns the number of codewords.
__device__ __forceinline__ int take_single_rows(const CodebookWork& work, int64_t words, int picks,
                                                int limit) {
  for (int64_t first = 0; first < words; first += CoverTraits::kThreads) {
    const int64_t w = first + thread_id();
    uint64_t rows = w < words ? work.active[w] : 0;
    const ScanResult<int> place = block_exclusive_sum<CoverTraits::kThreads>(__popcll(rows));
    for (int label = picks + place.before; rows != 0 && label < limit; rows &= rows - 1, ++label) {
      const int index = static_cast<int>(w * 64) + __ffsll(static_cast<long long>(rows)) - 1;
      work.label_of[index] = label;
      add_leader(work, label, index);
    }
    picks += place.total;
  }
  __syncthreads();
  return min(picks, limit);
}

// ---- kernels
// -------------------------------------------------------------------------------------

// Grid x: problems.
__global__ __launch_bounds__(CoverTraits::kThreads,
                             2) void codebook_cover_kernel(const CodebookArgs args) {
  SKV_SHARED(removed_count, int);
  const CodebookWork& work = args.works[blockIdx.x];
  const SkvCodebookProblem& problem = work.problem;
  const int limit =
      args.max_codewords > 0 ? min(args.max_codewords, problem.n_rows) : problem.n_rows;
  const int64_t words = codebook_words(work.graph_rows);
  int picks = 0;
  if (problem.n_rows > 0) {
    if (thread_id() == 0) removed_count = 0;
    count_degrees(work, words);
    while (picks < limit) {
      const Candidate leader = best_leader(work);
      if (leader.key == 0) break;
      if (leader.key == 1) {
        picks = take_single_rows(work, words, picks, limit);
        break;
      }
      cover_neighbours(work, words, leader.index, picks, removed_count);
      if (thread_id() == 0) add_leader(work, picks, leader.index);
      ++picks;
    }
  }

  int left_over = 0;
  for (int position = thread_id(); position < problem.n_rows; position += CoverTraits::kThreads) {
    const int label = work.label_of[graph_of(work, position)];
    problem.labels[position] = label;
    left_over += label < 0 ? 1 : 0;
  }
  left_over = block_sum<CoverTraits::kThreads>(left_over);
  if (thread_id() != 0) return;
  *problem.count = picks;
  work.state->left_over = left_over;
}

// Grid: (blocks of 64 rows, problems).
__global__ __launch_bounds__(DotTraits::kThreads) void codebook_leftover_kernel(
    const CodebookArgs args) {
  SKV_SHARED(pieces, DotPieces);
  SKV_SHARED(leaders, int64_t[DotTraits::kTile]);
  constexpr int kOwn = DotTraits::kOwn;
  const CodebookWork& work = args.works[blockIdx.y];
  const SkvCodebookProblem& problem = work.problem;
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * DotTraits::kTile;
  if (first_row >= problem.n_rows || work.state->left_over == 0) return;
  const int64_t line = first_row + thread_id();
  const bool is_left =
      thread_id() < DotTraits::kTile && line < problem.n_rows && problem.labels[line] < 0;
  if (__syncthreads_or(is_left ? 1 : 0) == 0) return;

  Candidate best[kOwn];
#pragma unroll
  for (int i = 0; i < kOwn; ++i) best[i] = Candidate{0u, INT32_MAX};
  const int count = *problem.count;
  for (int first = 0; first < count; first += DotTraits::kTile) {
    if (thread_id() < DotTraits::kTile && first + thread_id() < count) {
      leaders[thread_id()] = loaded_leader(work, first + thread_id());
    }
    __syncthreads();
    const auto load_row = [&](int row, int dim, float (&out)[8]) {
      if (first_row + row >= problem.n_rows) return zero8(out);
      load8(work.units + loaded_of(work, first_row + row) * args.head_dim + dim, out);
    };
    const auto load_leader = [&](int column, int dim, float (&out)[8]) {
      if (first + column >= count) return zero8(out);
      load8(work.units + leaders[column] * args.head_dim + dim, out);
    };
    DotTile dots;
    dot_tile(pieces, args.head_dim, load_row, load_leader, dots);
#pragma unroll
    for (int j = 0; j < kOwn; ++j) {
      const int label = first + own_column() + j;
      if (label >= count) continue;
#pragma unroll
      for (int i = 0; i < kOwn; ++i) {
        best[i] = better(best[i], {canonical::score_key(dots[i][j]), label});
      }
    }
  }

  // A row of NaN is like none of them; its label means nothing but is a label.
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const Candidate winner = warp_best<DotTraits::kGroups>(best[i]);
    const int64_t row = first_row + own_row() + i;
    if (own_column() != 0 || row >= problem.n_rows || problem.labels[row] >= 0) continue;
    problem.labels[row] = winner.key == 0 ? 0 : winner.index;
  }
}

// ---- launch
// --------------------------------------------------------------------------------------

inline Status launch_codebook_cover(const CodebookArgs& args, cudaStream_t stream) {
  return launch<codebook_cover_kernel>("build_codebook", {args.n_works},
                                       dim3(CoverTraits::kThreads), 0, stream, args);
}

inline Status launch_codebook_leftover(const CodebookArgs& args, int64_t most_rows,
                                       cudaStream_t stream) {
  return launch<codebook_leftover_kernel>("build_codebook",
                                          {ceil_div(most_rows, DotTraits::kTile), args.n_works},
                                          dim3(DotTraits::kThreads), 0, stream, args);
}

}  // namespace spindlekv::cuda
