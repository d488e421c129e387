// build_codebook: rows of x as unit vectors, with their norms and a hash of their bits.
//   units[i] = unit(x[i]) f32; norms[i]; hashes[i] = 0 where the norm is 0
// codebook_rows_kernel: block = 64 rows; a thread walks one row alone for the norm (canonical),
// then all threads divide. Memory-bound: x is read twice (once from cache), units written once.
#pragma once

#include "core/canonical.h"

#include "cuda/build_codebook/params.h"
#include "cuda/common/convert.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/reduce.cuh"
#include "cuda/rope/rotate.cuh"

#include <cmath>

namespace spindlekv::cuda {

// ---- traits
// --------------------------------------------------------------------------------------

struct CodebookRowTraits {
  static constexpr int kThreads = 256;
  static constexpr int kRows = 64;  // of a block
};

// ---- helpers
// -------------------------------------------------------------------------------------

// Any function of the bits would do: rows of equal hashes are compared in full.
__device__ __forceinline__ uint64_t mix_hash(uint64_t hash, float value) {
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15u;  // 2^64 / golden ratio
  hash = (hash ^ __float_as_uint(value)) * kOdd;
  return hash << 29 | hash >> 35;
}

struct RowDigest {
  float norm;
  uint64_t hash;
};

template <typename Elem>
__device__ __forceinline__ RowDigest digest_row(const void* x, int64_t offset, int head_dim) {
  float square = 0.0f;
  uint64_t hash = 1;
  for (int dim = 0; dim < head_dim; dim += 8) {
    float value[8];
    load8_anywhere<Elem>(x, offset + dim, value);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      square = fmaf(value[i], value[i], square);
      hash = mix_hash(hash, value[i]);
    }
  }
  const float norm = sqrtf(square);
  return {norm, norm == 0.0f ? 0u : hash};
}

// True if two loaded rows are exact duplicates: equal bits, or both of norm 0. A 16-bit float and
// the f32 it converts to are equal in the same cases (but for NaN, whose rows mean nothing).
template <typename Elem>
__device__ __forceinline__ bool are_duplicates(const CodebookWork& work, int head_dim, int64_t a,
                                               int64_t b) {
  const bool is_zero = work.norms[a] == 0.0f;
  if (is_zero || work.norms[b] == 0.0f) return is_zero && work.norms[b] == 0.0f;
  const Elem* x = static_cast<const Elem*>(work.problem.x);
  const int64_t offset_a = x_of_loaded(work, a) * work.problem.x_stride;
  const int64_t offset_b = x_of_loaded(work, b) * work.problem.x_stride;
  for (int dim = 0; dim < head_dim; ++dim) {
    const float value_a = to_float(x[offset_a + dim]);
    const float value_b = to_float(x[offset_b + dim]);
    if (__float_as_uint(value_a) != __float_as_uint(value_b)) return false;
  }
  return true;
}

// dot of two f32 rows of the workspace, by one thread.
__device__ __forceinline__ float dot_rows(const float* a, const float* b, int head_dim) {
  float dot = 0.0f;
#pragma unroll 2
  for (int dim = 0; dim < head_dim; dim += 8) {
    float value_a[8];
    float value_b[8];
    load8(a + dim, value_a);
    load8(b + dim, value_b);
#pragma unroll
    for (int i = 0; i < 8; ++i) dot = fmaf(value_a[i], value_b[i], dot);
  }
  return dot;
}

// ---- kernels
// -------------------------------------------------------------------------------------

// Grid: (blocks of rows, problems).
template <typename Elem>
__global__ __launch_bounds__(CodebookRowTraits::kThreads) void codebook_rows_kernel(
    const CodebookArgs args) {
  SKV_SHARED(norms, float[CodebookRowTraits::kRows]);
  const CodebookWork& work = args.works[blockIdx.y];
  const int64_t first = static_cast<int64_t>(blockIdx.x) * CodebookRowTraits::kRows;
  if (work.units == nullptr || first >= work.loaded) return;
  const int rows =
      static_cast<int>(min(static_cast<int64_t>(CodebookRowTraits::kRows), work.loaded - first));

  const int thread = static_cast<int>(threadIdx.x);
  if (thread < rows) {
    const int64_t offset = x_of_loaded(work, first + thread) * work.problem.x_stride;
    const RowDigest digest = digest_row<Elem>(work.problem.x, offset, args.head_dim);
    norms[thread] = digest.norm;
    work.norms[first + thread] = digest.norm;
    if (work.hashes != nullptr) work.hashes[first + thread] = digest.hash;
  }
  __syncthreads();
  const Elem* x = static_cast<const Elem*>(work.problem.x);
  for (int i = thread; i < rows * args.head_dim; i += CodebookRowTraits::kThreads) {
    const int row = i / args.head_dim;
    const int dim = i - row * args.head_dim;
    const float value = to_float(x[x_of_loaded(work, first + row) * work.problem.x_stride + dim]);
    const float norm = norms[row];
    work.units[first * args.head_dim + i] = norm == 0.0f ? 0.0f : value / norm;
  }
}

// Grid: (blocks of positions, problems). Adds the rows without a finite norm to nonfinite.
__global__ __launch_bounds__(CodebookRowTraits::kThreads) void codebook_nonfinite_kernel(
    const CodebookArgs args) {
  const CodebookWork& work = args.works[blockIdx.y];
  if (work.units == nullptr) return;
  const int64_t position =
      static_cast<int64_t>(blockIdx.x) * CodebookRowTraits::kThreads + threadIdx.x;
  const int rows = work.problem.rows != nullptr ? work.problem.n_rows : work.loaded;
  const bool is_bad = position < rows && !(work.norms[loaded_of(work, position)] < INFINITY);
  const int count = __syncthreads_count(is_bad ? 1 : 0);
  if (threadIdx.x == 0 && count > 0) atomicAdd(args.nonfinite, count);
}

// ---- launch
// --------------------------------------------------------------------------------------

template <typename Elem>
Status launch_codebook_rows(const CodebookArgs& args, int64_t most_rows, cudaStream_t stream) {
  return launch<codebook_rows_kernel<Elem>>(
      "build_codebook", {ceil_div(most_rows, CodebookRowTraits::kRows), args.n_works},
      dim3(CodebookRowTraits::kThreads), 0, stream, args);
}

inline Status launch_codebook_nonfinite(const CodebookArgs& args, int64_t most_rows,
                                        cudaStream_t stream) {
  return launch<codebook_nonfinite_kernel>(
      "build_codebook", {ceil_div(most_rows, CodebookRowTraits::kThreads), args.n_works},
      dim3(CodebookRowTraits::kThreads), 0, stream, args);
}

}  // namespace spindlekv::cuda
