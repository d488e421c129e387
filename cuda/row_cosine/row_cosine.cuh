// row_cosine: cosines of paired rows, and their sum.
//   cosines[t] = dot(a[t], b[t]) / |a[t]| / |b[t]|; sum += their block sum
// Canonical (core/canonical.h). a, b: [T, width], any element alignment and row stride.
//   row_cosine_kernel      warp = row; lane l owns the sums l and l + 32 of the 64, so that loads
//   of
//                          a warp are adjacent and the halving ends in shuffles
//   row_cosine_sum_kernel  one block, thread = block of 64 rows
// Memory-bound: reads both rows once, 3 fma a pair of elements.
// Sources: SqueezeAttention (arXiv 2404.04793), BaKlaVa (2502.13176).
#pragma once

#include "core/canonical.h"
#include "core/ops.h"

#include "cuda/common/convert.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/reduce.cuh"

#include <cmath>

namespace spindlekv::cuda {

// ---- traits
// --------------------------------------------------------------------------------------

struct RowCosineTraits {
  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / kWarpSize;
  static constexpr int kBlockRows = canonical::kBlockSlots;
};

struct RowCosineArgs {
  SkvRowCosineParams op;
  float* cosines;  // [T]: the op's, or the workspace's for the sum; null: nobody asked
};

// ---- helpers
// -------------------------------------------------------------------------------------

struct PairSums {
  float aa = 0.0f;
  float ab = 0.0f;
  float bb = 0.0f;

  __device__ __forceinline__ void add(float x, float y) {
    aa = fmaf(x, x, aa);
    ab = fmaf(x, y, ab);
    bb = fmaf(y, y, bb);
  }
};

// ---- kernels
// -------------------------------------------------------------------------------------

template <typename Elem>
__global__ __launch_bounds__(RowCosineTraits::kThreads) void row_cosine_kernel(
    const RowCosineArgs args) {
  const SkvRowCosineParams& op = args.op;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * RowCosineTraits::kWarps + warp_id();
  if (row >= op.rows) return;
  const Elem* a = static_cast<const Elem*>(op.a) + row * op.a_stride + lane_id();
  const Elem* b = static_cast<const Elem*>(op.b) + row * op.b_stride + lane_id();

  PairSums low;
  PairSums high;
  const int width = op.width - lane_id();  // elements from this lane's first one on
  int d = 0;
#pragma unroll 4
  for (; d + kWarpSize < width; d += 2 * kWarpSize) {
    low.add(to_float(a[d]), to_float(b[d]));
    high.add(to_float(a[d + kWarpSize]), to_float(b[d + kWarpSize]));
  }
  if (d < width) low.add(to_float(a[d]), to_float(b[d]));

  const float a_norm = sqrtf(warp_sum(low.aa + high.aa));
  const float b_norm = sqrtf(warp_sum(low.bb + high.bb));
  const float dot = warp_sum(low.ab + high.ab);
  if (lane_id() != 0) return;
  const float cosine = a_norm == 0.0f || b_norm == 0.0f ? 0.0f : dot / a_norm / b_norm;
  if (args.cosines != nullptr) args.cosines[row] = cosine;
  if (op.nonfinite != nullptr && !(fabsf(cosine) < INFINITY)) atomicAdd(op.nonfinite, 1);
}

__global__ __launch_bounds__(RowCosineTraits::kThreads) void row_cosine_sum_kernel(
    const RowCosineArgs args) {
  constexpr int kThreads = RowCosineTraits::kThreads;
  constexpr int kBlockRows = RowCosineTraits::kBlockRows;
  SKV_SHARED(parts, float[RowCosineTraits::kThreads]);
  const int thread = static_cast<int>(threadIdx.x);
  const int blocks = static_cast<int>((int64_t{args.op.rows} + kBlockRows - 1) / kBlockRows);
  float total = 0.0f;
  for (int first = 0; first < blocks; first += kThreads) {
    float sum = 0.0f;
    if (first + thread < blocks) {
      const int64_t row = int64_t{first + thread} * kBlockRows;
      const int count = static_cast<int>(min(int64_t{kBlockRows}, args.op.rows - row));
      for (int i = 0; i < count; ++i) sum = sum + args.cosines[row + i];
    }
    parts[thread] = sum;
    __syncthreads();
    const int count = min(kThreads, blocks - first);
    for (int i = 0; thread == 0 && i < count; ++i) total = total + parts[i];
    __syncthreads();
  }
  if (thread == 0) *args.op.sum = *args.op.sum + total;
}

// ---- launch
// --------------------------------------------------------------------------------------

template <typename Elem>
Status launch_row_cosine(const RowCosineArgs& args, cudaStream_t stream) {
  SKV_RETURN_IF_ERROR(launch<row_cosine_kernel<Elem>>(
      "row_cosine", {ceil_div(args.op.rows, RowCosineTraits::kWarps)},
      dim3(RowCosineTraits::kThreads), 0, stream, args));
  if (args.op.sum == nullptr) return ok_status();
  return launch<row_cosine_sum_kernel>("row_cosine", {1}, dim3(RowCosineTraits::kThreads), 0,
                                       stream, args);
}

}  // namespace spindlekv::cuda
