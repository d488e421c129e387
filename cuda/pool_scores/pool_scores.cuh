// pool_scores: moving maximum or mean of score rows.
//   out[r,i] = max or mean of in[r,j], |j - i| <= kernel/2, 0 <= j < lengths[r]; j ascending
// Canonical (core/canonical.h). in, out: [rows, stride] f32, any element alignment, apart.
// A thread owns an output and reads its window, which its neighbours keep in L1. Memory-bound for
// the kernels in use (5 to 63): 4 bytes read from memory and 4 written per element.
// Sources: SnapKV (arXiv 2404.14469), section 4.
#pragma once

#include "core/ops.h"

#include "cuda/common/launch.h"

#include <cmath>

namespace spindlekv::cuda {

// ---- traits
// --------------------------------------------------------------------------------------

struct PoolTraits {
  static constexpr int kThreads = 256;
};

// op.lengths is in device memory here.
struct PoolArgs {
  SkvPoolScoresParams op;
  int64_t chunks;  // blocks of a row, by the longest one
};

// ---- helpers
// -------------------------------------------------------------------------------------

// A NaN in the window wins: nothing is above it afterwards.
__device__ __forceinline__ float pool_max(const float* in, int64_t first, int64_t last) {
  float largest = -INFINITY;
  for (int64_t j = first; j <= last; ++j) {
    const float x = in[j];
    largest = x > largest || x != x ? x : largest;
  }
  return largest;
}

__device__ __forceinline__ float pool_sum(const float* in, int64_t first, int64_t last) {
  float sum = 0.0f;
  for (int64_t j = first; j <= last; ++j) sum = sum + in[j];
  return sum;
}

// ---- kernel
// --------------------------------------------------------------------------------------

__global__ __launch_bounds__(PoolTraits::kThreads) void pool_scores_kernel(const PoolArgs args) {
  const SkvPoolScoresParams& op = args.op;
  const int64_t row = blockIdx.x / args.chunks;
  const int64_t index = blockIdx.x % args.chunks * PoolTraits::kThreads + threadIdx.x;
  const int64_t length = op.lengths[row];
  if (index >= length) return;
  const float* in = op.in + row * op.in_stride;
  float* out = op.out + row * op.out_stride;
  if (op.kernel == 1) {
    out[index] = in[index];
    return;
  }
  const int64_t reach = op.kernel / 2;
  const int64_t first = index > reach ? index - reach : 0;
  const int64_t last = index + reach < length ? index + reach : length - 1;
  if (op.kind == SKV_POOL_MAX) {
    out[index] = pool_max(in, first, last);
  } else {
    const int64_t divisor = op.divisor == SKV_POOL_KERNEL ? op.kernel : last - first + 1;
    out[index] = pool_sum(in, first, last) / static_cast<float>(divisor);
  }
}

// ---- launch
// --------------------------------------------------------------------------------------

inline Status launch_pool_scores(const PoolArgs& args, cudaStream_t stream) {
  return launch<pool_scores_kernel>("pool_scores", {args.op.rows * args.chunks},
                                    dim3(PoolTraits::kThreads), 0, stream, args);
}

}  // namespace spindlekv::cuda
