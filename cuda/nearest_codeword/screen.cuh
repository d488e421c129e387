// nearest_codeword on tensor cores: products of f16 and bf16 rows, inexact, choose the codeword; a
// row whose best two products are nearer than their error is searched again, exactly.
//   a[i][c] = x_i . c by mma; winner_i = argmax_c a[i][c] if best - second > 2 * error_i
//   error_i = kErrorPerDim * D * |x_i| * max_c |c|
//   codeword_norm_kernel   block = problem: the largest norm of its codewords
//   nearest_screen_kernel  block = 256 rows, a warp 32 of them, held in registers; codewords pass
//                          through shared memory 64 at a time, copied while the last are used
//   nearest_finish_kernel  block = 256 rows: scores, and the search of undecided rows
// Compute-bound: n * c * D products on tensor cores, about 5 instructions for each one's
// comparison.
//
// What |a - canonical| can be, in units of |x| |c| (S = sum |x_d c_d| <= |x| |c|, u = 2^-24):
//   mma        products of two 16-bit elements are exact in f32; a step of 16 adds 17 terms, each
//              cut off at no less than 23 bits below the largest: 17 * 2 u * S, for D / 16 steps
//              D * 2.2 u (Fasi et al., Numerical behavior of NVIDIA tensor cores, 2021)
//   canonical  a chain of D fma: D u / (1 - D u); of units, scaled by |x|: one more u for the
//              division and (D + 4) u for the rounded norm, which is common to all codewords
// together below D * 5 u; kErrorPerDim is 16 u. Rows and codewords that are not finite, or so large
// or small that sums over- or underflow, count as near. The winner's score is the canonical one.
#pragma once

#include "core/canonical.h"

#include "cuda/common/async_copy.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/mma.cuh"
#include "cuda/common/reduce.cuh"
#include "cuda/nearest_codeword/rows.cuh"

#include <cmath>

namespace spindlekv::cuda {

// ---- traits
// --------------------------------------------------------------------------------------

template <typename ElemType, int kHeadDim>
struct ScreenTraits {
  using Elem = ElemType;
  static constexpr int kDims = kHeadDim;
  static constexpr int kThreads = NearestTraits::kThreads;
  static constexpr int kWarps = kThreads / kWarpSize;
  static constexpr int kBands = 2;  // of 16 rows, of a warp
  static constexpr int kRows = kWarps * kBands * 16;
  static constexpr int kSteps = kDims / 16;
  static constexpr int kTile = 64;             // codewords in shared memory at once
  static constexpr int kPitch = kDims + 8;     // elements; eight rows at one dim meet all banks
  static constexpr int kRowWords = kDims / 8;  // 16-byte words of a codeword
  static_assert(kRows == kThreads, "a thread finishes a row");
  static_assert(kRows == NearestTraits::kScreenRows);
  static_assert(kDims % 32 == 0, "a ldmatrix takes 32 dims of eight codewords");
};

template <typename Traits>
struct ScreenShared {
  alignas(128) typename Traits::Elem codewords[2][Traits::kTile][Traits::kPitch];
  int32_t winner[Traits::kRows];
  float gap[Traits::kRows];
};

// The index that the screen leaves where two products are too near to choose.
inline constexpr int32_t kNear = -2;

inline constexpr float kErrorPerDim = 9.5367431640625e-7f;  // 2^-20 = 16 u
// Between these norms nothing overflows, or underflows by more than the error counts.
inline constexpr float kLeastScreenedNorm = 1e-15f;
inline constexpr float kMostScreenedNorm = 1e15f;

// The two best products of a row, as one thread has seen them.
struct Leading {
  float best;
  float second;
  int32_t index;

  __device__ void meet(float value, int32_t codeword) {
    second = fmaxf(second, fminf(best, value));
    index = value > best ? codeword : index;
    best = fmaxf(best, value);
  }
};

// ---- helpers
// -------------------------------------------------------------------------------------

// What the four lanes of a row have seen, in all of them. Of equal ones any: their gap is 0.
__device__ __forceinline__ Leading merge_leading(Leading own) {
#pragma unroll
  for (int n = 2; n >= 1; n /= 2) {
    const float best = __shfl_xor_sync(kAllLanes, own.best, n);
    const float second = __shfl_xor_sync(kAllLanes, own.second, n);
    const int32_t index = __shfl_xor_sync(kAllLanes, own.index, n);
    own.second = fmaxf(fminf(own.best, best), fmaxf(own.second, second));
    own.index = best > own.best ? index : own.index;
    own.best = fmaxf(own.best, best);
  }
  return own;
}

// Starts the copy of kTile codewords from `first` on; zeros behind the last.
template <typename Traits>
__device__ __forceinline__ void copy_codewords(const SkvNearestProblem& problem, int64_t first,
                                               typename Traits::Elem (*tile)[Traits::kPitch]) {
  using Elem = typename Traits::Elem;
  constexpr int kWords = Traits::kTile * Traits::kRowWords;
  static_assert(kWords % Traits::kThreads == 0);
  const Elem* codewords = static_cast<const Elem*>(problem.codewords);
#pragma unroll
  for (int i = 0; i < kWords / Traits::kThreads; ++i) {
    const int word = i * Traits::kThreads + static_cast<int>(threadIdx.x);
    const int row = word / Traits::kRowWords;
    const int dim = word % Traits::kRowWords * 8;
    const bool is_there = first + row < problem.c;
    const int64_t source = is_there ? (first + row) * problem.codeword_stride + dim : 0;
    copy_async_16_or_zero(&tile[row][dim], codewords + source, is_there);
  }
  copy_async_commit();
}

// Two neighbouring elements of a row, or zeros.
template <typename Elem>
__device__ __forceinline__ uint32_t load_pair(const SkvNearestProblem& problem, int64_t row,
                                              int dim) {
  if (row >= problem.n) return 0;
  const Elem* x = static_cast<const Elem*>(problem.x) + row * problem.x_stride + dim;
  return *reinterpret_cast<const uint32_t*>(x);
}

__device__ __forceinline__ bool is_screened(float norm) {
  return norm >= kLeastScreenedNorm && norm <= kMostScreenedNorm;  // false for NaN
}

// True: the best product of the row is the best canonical one.
template <typename Traits>
__device__ __forceinline__ bool is_apart(float gap, float row_norm, float codeword_norm) {
  if (!is_screened(row_norm) || !is_screened(codeword_norm)) return false;
  return gap > 2.0f * kErrorPerDim * Traits::kDims * row_norm * codeword_norm;
}

// ---- kernels
// -------------------------------------------------------------------------------------

template <typename Elem>
__global__ __launch_bounds__(NearestTraits::kThreads) void codeword_norm_kernel(
    const NearestArgs args) {
  const SkvNearestProblem& problem = args.works[blockIdx.x].problem;
  float largest = 0.0f;
  for (int64_t codeword = threadIdx.x; codeword < problem.c; codeword += NearestTraits::kThreads) {
    const int64_t offset = codeword * problem.codeword_stride;
    const float norm = norm_of_row<Elem>(problem.codewords, offset, args.head_dim);
    largest = norm <= largest ? largest : (norm < INFINITY ? norm : INFINITY);
  }
  largest = block_max<NearestTraits::kThreads>(largest, 0.0f);
  if (threadIdx.x == 0) args.largest_norms[blockIdx.x] = largest;
}

template <typename Traits>
__global__ __launch_bounds__(Traits::kThreads) void nearest_screen_kernel(const NearestArgs args) {
  using Elem = typename Traits::Elem;
  SKV_DYNAMIC_SHARED(shared, ScreenShared<Traits>);
  const int work_index = find_work(args, blockIdx.x);
  const NearestWork& work = args.works[work_index];
  const SkvNearestProblem& problem = work.problem;
  const int64_t first_row = (blockIdx.x - work.first_block) * Traits::kRows;

  // load: the warp's rows as fragments
  copy_codewords<Traits>(problem, 0, shared->codewords[0]);
  const int band_row = lane_id() / 4;
  const int pair = lane_id() % 4 * 2;
  uint32_t rows[Traits::kBands][Traits::kSteps][4];
#pragma unroll
  for (int band = 0; band < Traits::kBands; ++band) {
    const int64_t row = first_row + (warp_id() * Traits::kBands + band) * 16 + band_row;
#pragma unroll
    for (int step = 0; step < Traits::kSteps; ++step) {
#pragma unroll
      for (int part = 0; part < 4; ++part) {
        rows[band][step][part] =
            load_pair<Elem>(problem, row + part % 2 * 8, step * 16 + part / 2 * 8 + pair);
      }
    }
  }
  Leading leading[Traits::kBands][2];
#pragma unroll
  for (int band = 0; band < Traits::kBands; ++band) {
#pragma unroll
    for (int half = 0; half < 2; ++half) leading[band][half] = {-INFINITY, -INFINITY, 0};
  }

  // compute
  int stage = 0;
  for (int64_t first = 0; first < problem.c; first += Traits::kTile, stage ^= 1) {
    copy_async_wait<0>();
    __syncthreads();  // the tile is there, and the other one has been used
    const int64_t following = first + Traits::kTile;
    if (following < problem.c) {
      copy_codewords<Traits>(problem, following, shared->codewords[stage ^ 1]);
    }
    const int there = static_cast<int>(min(problem.c - first, static_cast<int64_t>(Traits::kTile)));
#pragma unroll 1
    for (int column = 0; column < Traits::kTile; column += 8) {
      const Elem* own_line = &shared->codewords[stage][column + lane_id() % 8][lane_id() / 8 * 8];
      // A column behind the last codeword starts, and ends, below all.
      const int own_column = column + pair;
      const float start[2] = {own_column < there ? 0.0f : -INFINITY,
                              own_column + 1 < there ? 0.0f : -INFINITY};
      float product[Traits::kBands][4];
#pragma unroll
      for (int band = 0; band < Traits::kBands; ++band) {
#pragma unroll
        for (int part = 0; part < 4; ++part) product[band][part] = start[part % 2];
      }
#pragma unroll
      for (int step = 0; step < Traits::kSteps; step += 2) {
        uint32_t line[4];
        ldmatrix_x4(line, own_line + step * 16);
        const uint32_t even[2] = {line[0], line[1]};
        const uint32_t odd[2] = {line[2], line[3]};
#pragma unroll
        for (int band = 0; band < Traits::kBands; ++band) {
          mma_m16n8k16<Elem>(product[band], rows[band][step], even);
        }
#pragma unroll
        for (int band = 0; band < Traits::kBands; ++band) {
          mma_m16n8k16<Elem>(product[band], rows[band][step + 1], odd);
        }
      }
      const auto codeword = static_cast<int32_t>(first + own_column);
#pragma unroll
      for (int band = 0; band < Traits::kBands; ++band) {
#pragma unroll
        for (int part = 0; part < 4; ++part) {
          leading[band][part / 2].meet(product[band][part], codeword + part % 2);
        }
      }
    }
  }

  // reduce
#pragma unroll
  for (int band = 0; band < Traits::kBands; ++band) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Leading merged = merge_leading(leading[band][half]);
      const int row = (warp_id() * Traits::kBands + band) * 16 + half * 8 + band_row;
      if (lane_id() % 4 != 0) continue;
      shared->winner[row] = merged.index;
      shared->gap[row] = merged.best - merged.second;  // NaN or infinity where there is no second
    }
  }
  __syncthreads();

  // store
  const int own = static_cast<int>(threadIdx.x);
  const int64_t row = first_row + own;
  if (row >= problem.n) return;
  const float norm = norm_of_row<Elem>(problem.x, row * problem.x_stride, args.head_dim);
  const bool is_sure = is_apart<Traits>(shared->gap[own], norm, args.largest_norms[work_index]);
  if (problem.norm != nullptr) problem.norm[row] = norm;
  problem.index[row] = is_sure ? shared->winner[own] : kNear;
}

// Scores of the rows that the screen has decided, and the search of those that it has not.
template <typename Elem>
__global__ __launch_bounds__(NearestTraits::kThreads) void nearest_finish_kernel(
    const NearestArgs args) {
  SKV_SHARED(unit, float[NearestTraits::kMaxDims]);
  SKV_SHARED(is_near, bool[NearestTraits::kScreenRows]);
  const NearestWork& work = args.works[find_work(args, blockIdx.x)];
  const SkvNearestProblem& problem = work.problem;
  const int64_t first_row = (blockIdx.x - work.first_block) * NearestTraits::kScreenRows;
  const int own = static_cast<int>(threadIdx.x);
  const int64_t row = first_row + own;
  const int32_t winner = row < problem.n ? problem.index[row] : 0;
  is_near[own] = winner == kNear;
  if (row < problem.n && winner != kNear && problem.score != nullptr) {
    float norm = 1.0f;
    if (args.normalize != 0) {
      norm = norm_of_row<Elem>(problem.x, row * problem.x_stride, args.head_dim);
    }
    problem.score[row] = dot_of_rows<Elem>(problem, row, winner, norm, args.head_dim);
  }
  if (__syncthreads_count(winner == kNear ? 1 : 0) == 0) return;
  for (int i = 0; i < NearestTraits::kScreenRows; ++i) {
    if (is_near[i]) search_row<Elem>(args, problem, first_row + i, unit);
  }
}

// ---- launch
// --------------------------------------------------------------------------------------

template <typename Elem>
Status launch_codeword_norms(const NearestArgs& args, cudaStream_t stream) {
  return launch<codeword_norm_kernel<Elem>>("nearest_codeword", {args.n_works},
                                            dim3(NearestTraits::kThreads), 0, stream, args);
}

template <typename Elem, int kHeadDim>
Status launch_nearest_screen(const NearestArgs& args, int64_t blocks, cudaStream_t stream) {
  using Traits = ScreenTraits<Elem, kHeadDim>;
  SKV_RETURN_IF_ERROR(launch_codeword_norms<Elem>(args, stream));
  const dim3 block(Traits::kThreads);
  SKV_RETURN_IF_ERROR(launch<nearest_screen_kernel<Traits>>(
      "nearest_codeword", {blocks}, block, sizeof(ScreenShared<Traits>), stream, args));
  return launch<nearest_finish_kernel<Elem>>("nearest_codeword", {blocks}, block, 0, stream, args);
}

}  // namespace spindlekv::cuda
