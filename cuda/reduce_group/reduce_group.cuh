// reduce_group: mean, maximum or sum of the score rows of a group of query heads.
//   out[k,i] = reduction of in[k * group + g, i] over g ascending
// Canonical (core/canonical.h). in: [rows * group, stride] f32, out: [rows, stride] f32, any
// element alignment. A thread owns kItems outputs, kThreads apart, so that their loads overlap.
// Memory-bound: 4 * group bytes read and 4 written per output.
#pragma once

#include "core/ops.h"

#include "cuda/common/launch.h"

namespace spindlekv::cuda {

// ---- traits
// --------------------------------------------------------------------------------------

struct ReduceGroupTraits {
  static constexpr int kThreads = 256;
  static constexpr int kItems = 4;
  static constexpr int kBlockItems = kThreads * kItems;
};

struct ReduceGroupArgs {
  SkvReduceGroupParams op;
  int64_t chunks;  // blocks of a row
};

// ---- kernel
// --------------------------------------------------------------------------------------

__global__ __launch_bounds__(ReduceGroupTraits::kThreads) void reduce_group_kernel(
    const ReduceGroupArgs args) {
  constexpr int kItems = ReduceGroupTraits::kItems;
  const SkvReduceGroupParams& op = args.op;
  const int64_t row = blockIdx.x / args.chunks;
  const int64_t first =
      blockIdx.x % args.chunks * ReduceGroupTraits::kBlockItems + static_cast<int>(threadIdx.x);
  const float* in = op.in + row * op.group * op.in_stride + first;
  float* out = op.out + row * op.out_stride + first;
  const bool is_max = op.kind == SKV_REDUCE_MAX;

  float result[kItems] = {};
  for (int g = 0; g < op.group; ++g) {
#pragma unroll
    for (int item = 0; item < kItems; ++item) {
      const int offset = item * ReduceGroupTraits::kThreads;
      if (first + offset >= op.length) continue;
      const float x = in[g * op.in_stride + offset];
      // A maximum starts from the first row as it is; a NaN in any row wins.
      if (is_max) {
        result[item] = g == 0 || x > result[item] || x != x ? x : result[item];
      } else {
        result[item] = (g == 0 ? 0.0f : result[item]) + x;
      }
    }
  }
#pragma unroll
  for (int item = 0; item < kItems; ++item) {
    const int offset = item * ReduceGroupTraits::kThreads;
    if (first + offset >= op.length) continue;
    out[offset] =
        op.kind == SKV_REDUCE_MEAN ? result[item] / static_cast<float>(op.group) : result[item];
  }
}

// ---- launch
// --------------------------------------------------------------------------------------

inline Status launch_reduce_group(const SkvReduceGroupParams& p, cudaStream_t stream) {
  const ReduceGroupArgs args{p, ceil_div(p.length, ReduceGroupTraits::kBlockItems)};
  return launch<reduce_group_kernel>("reduce_group", {p.rows * args.chunks},
                                     dim3(ReduceGroupTraits::kThreads), 0, stream, args);
}

}  // namespace spindlekv::cuda
