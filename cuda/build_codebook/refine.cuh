// build_codebook, EMIT: rounds of spherical k-means under the guarantee (core/ops.h has the rule).
//   codebook_bounds_kernel    thread = row: the cosine that its codeword must exceed
//   codebook_members_kernel   block = problem: rows by label, ascending inside; opens the round
//   codebook_step_kernel      warp = codeword: towards the mean of its members, as far as every one
//                             of them stays above its bound and the error falls
//   codebook_reassign_kernel  block = 64 rows: to the codeword that reconstructs the row best
// Sums over members run in order, in float64 for errors, so the bits are those of core/canonical.h.
// Compute-bound: n_rows * C * D fma a round. A round of a problem in which the one before changed
// nothing does nothing.
#pragma once

#include "cuda/build_codebook/emit.cuh"
#include "cuda/build_codebook/params.h"
#include "cuda/build_codebook/rows.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/reduce.cuh"
#include "cuda/nearest_codeword/dot_tile.cuh"

#include <cmath>

namespace spindlekv::cuda {

// ---- traits
// --------------------------------------------------------------------------------------

struct RefineTraits {
  static constexpr int kThreads = 256;
  static constexpr int kStepThreads = 128;
  static constexpr int kStepWarps = kStepThreads / kWarpSize;
  static constexpr int kSteps = 4;          // the whole way to the mean, 1/2, 1/4, 1/8
  static constexpr float kNoBound = -2.0f;  // of rows left without a similar leader
  static constexpr int kOwnDims = 4;        // dims that a lane sums at once
};

// What the members of a chunk add to the error, in their order.
struct ErrorTerms {
  double weight[kWarpSize];
  double distance[kWarpSize];
};

struct Fit {
  bool is_in_bounds;
  double error;
};

struct ScoredLabel {
  float value;
  int label;  // INT32_MAX: none
};

// A codeword's members and what its warp works on.
struct StepTask {
  int codeword;
  int begin;  // of its members
  int end;
  float* mean;       // shared, [D]
  float* candidate;  // shared, [D]
  ErrorTerms* terms;
};

// ---- helpers
// -------------------------------------------------------------------------------------

// unit(row) in place, of a row that one warp shares.
__device__ __forceinline__ void make_unit(float* row, int head_dim) {
  const float norm = sqrtf(dot_rows(row, row, head_dim));
  __syncwarp();
  for (int dim = lane_id(); dim < head_dim; dim += kWarpSize) {
    row[dim] = norm == 0.0f ? 0.0f : row[dim] / norm;
  }
  __syncwarp();
}

// task.mean = unit(sum of m_i x_i over the members, ascending).
template <typename Elem>
__device__ __forceinline__ void mean_direction(const CodebookWork& work, int head_dim,
                                               const StepTask& task) {
  constexpr int kOwn = RefineTraits::kOwnDims;
  const Elem* x = static_cast<const Elem*>(work.problem.x);
  for (int first = lane_id(); first < head_dim; first += kOwn * kWarpSize) {
    float sum[kOwn] = {};
    for (int at = task.begin; at < task.end; ++at) {
      const int member = work.members[at];
      const float weight = work.norms[loaded_of(work, member)];
      const int64_t offset = x_of(work, member) * work.problem.x_stride;
#pragma unroll
      for (int i = 0; i < kOwn; ++i) {
        const int dim = first + i * kWarpSize;
        if (dim < head_dim) sum[i] = fmaf(weight, to_float(x[offset + dim]), sum[i]);
      }
    }
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int dim = first + i * kWarpSize;
      if (dim < head_dim) task.mean[dim] = sum[i];
    }
  }
  __syncwarp();
  make_unit(task.mean, head_dim);
}

// How well a codeword serves the members; every lane gets the result. Out of bounds ends it early
// for a candidate, and the error then means nothing.
__device__ __forceinline__ Fit fit_of(const CodebookWork& work, int head_dim, const StepTask& task,
                                      const float* codeword, bool is_candidate) {
  const double square = dot_rows(codeword, codeword, head_dim);
  double error = 0.0;
  for (int first = task.begin; first < task.end; first += kWarpSize) {
    const int at = first + lane_id();
    bool is_in_bounds = true;
    if (at < task.end) {
      const int member = work.members[at];
      const int64_t loaded = loaded_of(work, member);
      const float dot = dot_rows(work.units + loaded * head_dim, codeword, head_dim);
      is_in_bounds = dot > work.bounds[member];
      const double norm = work.norms[loaded];
      task.terms->weight[lane_id()] = norm * norm;  // exact in float64
      task.terms->distance[lane_id()] = (1.0 - 2.0 * static_cast<double>(dot)) + square;
    }
    if (is_candidate && !__all_sync(kAllLanes, is_in_bounds)) return {false, error};
    __syncwarp();
    const int members = min(kWarpSize, task.end - first);
    for (int i = 0; i < members; ++i) {
      error = fma(task.terms->weight[i], task.terms->distance[i], error);
    }
    __syncwarp();
  }
  return {true, error};
}

// task.candidate = the codeword moved by `step` of the way to the mean, rounded to dtype.
template <typename Elem>
__device__ __forceinline__ void make_candidate(int head_dim, const StepTask& task, float step,
                                               const float* codeword) {
  for (int dim = lane_id(); dim < head_dim; dim += kWarpSize) {
    const float mean = task.mean[dim];
    const float present = codeword[dim];
    task.candidate[dim] = step == 1.0f ? mean : present + step * (mean - present);
  }
  __syncwarp();
  if (step != 1.0f) make_unit(task.candidate, head_dim);
  for (int dim = lane_id(); dim < head_dim; dim += kWarpSize) {
    task.candidate[dim] = rounded<Elem>(task.candidate[dim]);
  }
  __syncwarp();
}

// Moves the codeword by the first step that keeps the bounds and lowers the error, if one does.
template <typename Elem>
__device__ __forceinline__ void step_codeword(const CodebookWork& work, int head_dim,
                                              const StepTask& task) {
  float* codeword = work.codewords + static_cast<int64_t>(task.codeword) * head_dim;
  mean_direction<Elem>(work, head_dim, task);
  const double present = fit_of(work, head_dim, task, codeword, false).error;
  float step = 1.0f;
  for (int attempt = 0; attempt < RefineTraits::kSteps; ++attempt, step *= 0.5f) {
    make_candidate<Elem>(head_dim, task, step, codeword);
    const Fit fit = fit_of(work, head_dim, task, task.candidate, true);
    const bool is_better = fit.is_in_bounds && fit.error < present;
    if (is_better) {
      for (int dim = lane_id(); dim < head_dim; dim += kWarpSize) {
        codeword[dim] = task.candidate[dim];
      }
      if (lane_id() != 0) return;
      work.square[task.codeword] = dot_rows(task.candidate, task.candidate, head_dim);
      atomicOr(&work.state->changed, 1);
      return;
    }
    __syncwarp();
  }
}

// Rows by label: members[offsets[c] .. offsets[c + 1]) are the positions of label c, ascending.
__device__ __forceinline__ void sort_members(const CodebookWork& work, int count) {
  const int thread = static_cast<int>(threadIdx.x);
  const int rows = work.problem.n_rows;
  for (int c = thread; c < count; c += RefineTraits::kThreads) work.next[c] = 0;
  __syncthreads();
  for (int row = thread; row < rows; row += RefineTraits::kThreads) {
    atomicAdd(&work.next[work.problem.labels[row]], 1);
  }
  __syncthreads();
  int before = 0;
  for (int first = 0; first < count; first += RefineTraits::kThreads) {
    const int c = first + thread;
    const int own = c < count ? work.next[c] : 0;
    const ScanResult<int> place = block_exclusive_sum<RefineTraits::kThreads>(own);
    if (c < count) work.next[c] = work.offsets[c] = before + place.before;
    before += place.total;
  }
  if (thread == 0) work.offsets[count] = rows;
  __syncthreads();
  if (warp_id() != 0) return;
  for (int first = 0; first < rows; first += kWarpSize) {
    const int row = first + lane_id();
    const int label = row < rows ? work.problem.labels[row] : -1;
    const unsigned equal = __match_any_sync(kAllLanes, label);
    const int rank = __popc(equal & ((1u << lane_id()) - 1u));
    int place = 0;
    if (label >= 0 && rank == 0) {
      place = work.next[label];
      work.next[label] = place + __popc(equal);
    }
    place = __shfl_sync(kAllLanes, place, __ffs(static_cast<int>(equal)) - 1);
    if (label >= 0) work.members[place + rank] = row;
    __syncwarp();
  }
}

__device__ __forceinline__ ScoredLabel better(ScoredLabel a, ScoredLabel b) {
  return a.value > b.value || (a.value == b.value && a.label < b.label) ? a : b;
}

// The best over half a warp, which shares its rows in a tile.
__device__ __forceinline__ ScoredLabel group_best(ScoredLabel own) {
#pragma unroll
  for (int n = DotTraits::kGroups / 2; n >= 1; n /= 2) {
    ScoredLabel other;
    other.value = __shfl_xor_sync(kAllLanes, own.value, n);
    other.label = __shfl_xor_sync(kAllLanes, own.label, n);
    own = better(own, other);
  }
  return own;
}

// ---- kernels
// -------------------------------------------------------------------------------------

// Grid: (blocks of rows, problems).
template <typename Elem>
__global__ __launch_bounds__(RefineTraits::kThreads) void codebook_bounds_kernel(
    const CodebookArgs args) {
  const CodebookWork& work = args.works[blockIdx.y];
  const int64_t row = global_thread();
  if (row >= work.problem.n_rows) return;
  const int64_t loaded = loaded_of(work, row);
  const int64_t leader = loaded_leader(work, work.problem.labels[row]);
  const float dot = dot_rows(work.units + loaded * args.head_dim,
                             work.units + leader * args.head_dim, args.head_dim);
  const bool is_adjacent = dot > work.problem.theta || loaded == leader ||
                           are_duplicates<Elem>(work, args.head_dim, loaded, leader);
  work.bounds[row] = is_adjacent ? work.problem.theta : RefineTraits::kNoBound;
}

// Grid x: problems.
__global__ __launch_bounds__(RefineTraits::kThreads) void codebook_members_kernel(
    const CodebookArgs args) {
  const CodebookWork& work = args.works[blockIdx.x];
  if (work.problem.n_rows == 0) return;
  const int moves = work.state->changed;
  __syncthreads();  // all have read it
  if (threadIdx.x == 0) {
    work.state->moves = moves;
    work.state->changed = 0;
  }
  if (moves != 0) sort_members(work, *work.problem.count);
}

// Grid: (blocks of codewords, problems). Dynamic shared memory: two rows of f32 a warp.
template <typename Elem>
__global__ __launch_bounds__(RefineTraits::kStepThreads,
                             4) void codebook_step_kernel(const CodebookArgs args) {
  SKV_SHARED(terms, ErrorTerms[RefineTraits::kStepWarps]);
  SKV_DYNAMIC_SHARED(rows, float);
  const CodebookWork& work = args.works[blockIdx.y];
  if (work.problem.n_rows == 0 || work.state->moves == 0) return;
  StepTask task;
  task.codeword = static_cast<int>(blockIdx.x) * RefineTraits::kStepWarps + warp_id();
  if (task.codeword >= *work.problem.count) return;  // by whole warps; no block barrier follows
  task.begin = work.offsets[task.codeword];
  task.end = work.offsets[task.codeword + 1];
  if (task.begin == task.end) return;
  task.mean = rows + 2 * warp_id() * args.head_dim;
  task.candidate = task.mean + args.head_dim;
  task.terms = &terms[warp_id()];
  step_codeword<Elem>(work, args.head_dim, task);
}

// Grid: (blocks of 64 rows, problems).
__global__ __launch_bounds__(DotTraits::kThreads) void codebook_reassign_kernel(
    const CodebookArgs args) {
  SKV_SHARED(pieces, DotPieces);
  SKV_SHARED(labels, int[DotTraits::kTile]);
  SKV_SHARED(bounds, float[DotTraits::kTile]);
  SKV_SHARED(present, float[DotTraits::kTile]);  // the value of the row's own codeword
  constexpr int kOwn = DotTraits::kOwn;
  const CodebookWork& work = args.works[blockIdx.y];
  const SkvCodebookProblem& problem = work.problem;
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * DotTraits::kTile;
  if (first_row >= problem.n_rows || work.state->moves == 0) return;
  const int line = static_cast<int>(threadIdx.x);
  if (line < DotTraits::kTile) {
    const bool is_row = first_row + line < problem.n_rows;
    labels[line] = is_row ? problem.labels[first_row + line] : -1;
    bounds[line] = is_row ? work.bounds[first_row + line] : INFINITY;
  }
  __syncthreads();

  ScoredLabel best[kOwn];
#pragma unroll
  for (int i = 0; i < kOwn; ++i) best[i] = {-INFINITY, INT32_MAX};
  const int count = *problem.count;
  for (int first = 0; first < count; first += DotTraits::kTile) {
    const auto load_row = [&](int row, int dim, float (&out)[8]) {
      if (first_row + row >= problem.n_rows) return zero8(out);
      load8(work.units + loaded_of(work, first_row + row) * args.head_dim + dim, out);
    };
    const auto load_codeword = [&](int column, int dim, float (&out)[8]) {
      if (first + column >= count) return zero8(out);
      load8(work.codewords + static_cast<int64_t>(first + column) * args.head_dim + dim, out);
    };
    DotTile dots;
    dot_tile(pieces, args.head_dim, load_row, load_codeword, dots);
#pragma unroll
    for (int j = 0; j < kOwn; ++j) {
      const int label = first + own_column() + j;
      if (label >= count) continue;
      const float square = work.square[label];
#pragma unroll
      for (int i = 0; i < kOwn; ++i) {
        const float value = 2.0f * dots[i][j] - square;
        const int row = own_row() + i;
        if (labels[row] == label) present[row] = value;
        if (dots[i][j] > bounds[row] && value > best[i].value) best[i] = {value, label};
      }
    }
  }
  __syncthreads();

#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const ScoredLabel winner = group_best(best[i]);
    const int row = own_row() + i;
    if (own_column() != 0 || first_row + row >= problem.n_rows) continue;
    if (winner.label == INT32_MAX || !(winner.value > present[row])) continue;
    problem.labels[first_row + row] = winner.label;
    atomicOr(&work.state->changed, 1);
  }
}

// ---- launch
// --------------------------------------------------------------------------------------

template <typename Elem>
Status launch_codebook_bounds(const CodebookArgs& args, int64_t most_rows, cudaStream_t stream) {
  return launch<codebook_bounds_kernel<Elem>>(
      "build_codebook", {ceil_div(most_rows, RefineTraits::kThreads), args.n_works},
      dim3(RefineTraits::kThreads), 0, stream, args);
}

inline Status launch_codebook_members(const CodebookArgs& args, cudaStream_t stream) {
  return launch<codebook_members_kernel>("build_codebook", {args.n_works},
                                         dim3(RefineTraits::kThreads), 0, stream, args);
}

template <typename Elem>
Status launch_codebook_step(const CodebookArgs& args, int64_t most_codewords, cudaStream_t stream) {
  const size_t bytes = sizeof(float) * 2 * RefineTraits::kStepWarps * args.head_dim;
  return launch<codebook_step_kernel<Elem>>(
      "build_codebook", {ceil_div(most_codewords, RefineTraits::kStepWarps), args.n_works},
      dim3(RefineTraits::kStepThreads), bytes, stream, args);
}

inline Status launch_codebook_reassign(const CodebookArgs& args, int64_t most_rows,
                                       cudaStream_t stream) {
  return launch<codebook_reassign_kernel>("build_codebook",
                                          {ceil_div(most_rows, DotTraits::kTile), args.n_works},
                                          dim3(DotTraits::kThreads), 0, stream, args);
}

}  // namespace spindlekv::cuda
