// rope: turns rows from one set of positions to another.
//   out[h,t] = rotate(in[h,t], to[t] - from[t]): angle of |to - from| from the table, the sine with
//   the sign of the difference; a missing set counts as 0. Canonical (core/canonical.h).
// in, out: [heads, tokens, D] with strides, any element alignment; in may equal out.
// A warp owns a row, a lane pairs of dims (both dims of a pair, so in place is safe) and single
// dims beyond n_rot. Memory-bound: reads and writes D elements a row and n_rot floats of the table.
// Not here: rows whose |to - from| is beyond the table; they are left as they are.
#pragma once

#include "core/canonical.h"
#include "core/ops.h"

#include "cuda/common/convert.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/reduce.cuh"
#include "cuda/rope/rotate.cuh"

namespace spindlekv::cuda {

// ---- traits
// --------------------------------------------------------------------------------------

struct RopeTraits {
  static constexpr int kThreads = 128;
  static constexpr int kRows = kThreads / kWarpSize;  // of a block
};

// ---- helpers
// -------------------------------------------------------------------------------------

__device__ __forceinline__ int64_t position_change(const SkvRopeParams& p, int64_t token) {
  const int64_t to = p.positions_to == nullptr ? 0 : p.positions_to[token];
  const int64_t from = p.positions_from == nullptr ? 0 : p.positions_from[token];
  return to - from;
}

// ---- kernel
// --------------------------------------------------------------------------------------

template <typename Elem>
__global__ __launch_bounds__(RopeTraits::kThreads) void rope_kernel(const SkvRopeParams p) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * RopeTraits::kRows + warp_id();
  const int64_t head = row / p.tokens;
  const int64_t token = row % p.tokens;
  if (head >= p.heads) return;
  const int64_t change = position_change(p, token);
  const int64_t distance = change < 0 ? -change : change;
  if (distance >= p.rope.positions) return;

  const Elem* in =
      static_cast<const Elem*>(p.in) + head * p.in_stride_head + token * p.in_stride_token;
  Elem* out = static_cast<Elem*>(p.out) + head * p.out_stride_head + token * p.out_stride_token;
  const float2* turn = turn_at(p.rope, distance);
  const bool is_norm = p.rope.style == SKV_ROPE_NORM;
  const int half = p.rope.n_rot / 2;
  for (int pair = lane_id(); pair < half; pair += kWarpSize) {
    const int first = is_norm ? 2 * pair : pair;
    const int second = is_norm ? 2 * pair + 1 : pair + half;
    float x = to_float(in[first]);
    float y = to_float(in[second]);
    const float2 angle = turn[pair];
    canonical::rotate_pair(x, y, angle.x, change < 0 ? -angle.y : angle.y);
    out[first] = from_float<Elem>(x);
    out[second] = from_float<Elem>(y);
  }
  for (int dim = p.rope.n_rot + lane_id(); dim < p.head_dim; dim += kWarpSize) out[dim] = in[dim];
}

// ---- launch
// --------------------------------------------------------------------------------------

template <typename Elem>
Status launch_rope(const SkvRopeParams& p, cudaStream_t stream) {
  const int64_t rows = static_cast<int64_t>(p.heads) * p.tokens;
  return launch<rope_kernel<Elem>>("rope", {ceil_div(rows, RopeTraits::kRows)},
                                   dim3(RopeTraits::kThreads), 0, stream, p);
}

}  // namespace spindlekv::cuda
