// window_scores: the queries of a chunk of KV heads as float, after RoPE, in the order in which the
// tiles of logits read them: [KV head][tile of rows][dim][row of the tile]; rows beyond the last
// are 0. Thread = 8 dims of a row. Reads Q once and writes 4 bytes an element.
#pragma once

#include "cuda/common/launch.h"
#include "cuda/rope/rotate.cuh"
#include "cuda/window_scores/logits.cuh"
#include "cuda/window_scores/params.h"

namespace spindlekv::cuda {

// Grid x: 8 dims of the rows of a KV head's tiles; y: KV heads of the chunk.
template <int kOwnRows>
__global__ __launch_bounds__(kWindowThreads) void window_queries_kernel(const WindowArgs args) {
  constexpr int kRows = WindowTraits<kOwnRows>::kRows;
  const SkvWindowScoresParams& op = args.op;
  const int item = static_cast<int>(blockIdx.x) * kWindowThreads + static_cast<int>(threadIdx.x);
  const int vecs = op.head_dim / 8;
  const int vec = item / kRows;  // [tile][8 dims]
  const int tile = vec / vecs;
  if (tile >= args.row_tiles) return;
  const int dim = (vec - tile * vecs) * 8;
  const int row = tile * kRows + item % kRows;

  float query[8] = {};
  if (row < op.group * op.queries) {
    const int group_head = row / op.queries;
    const int token = row - group_head * op.queries;
    const int64_t head =
        (static_cast<int64_t>(args.first_head) + blockIdx.y) * op.group + group_head;
    const AnyRow source{op.q, op.q_dtype, head * op.q_stride_head + token * op.q_stride_token};
    const float2* turn = turn_at(op.rope, static_cast<int64_t>(op.rope_query_position) + token);
    rotated_eight(source, dim, turn, op.rope.n_rot, op.rope.style, query);
  }
  float* target = args.turned_queries +
                  tile_queries_offset<kOwnRows>(args, static_cast<int>(blockIdx.y), tile) +
                  static_cast<int64_t>(dim) * kRows + item % kRows;
#pragma unroll
  for (int i = 0; i < 8; ++i) target[i * kRows] = query[i];
}

template <int kOwnRows>
Status launch_window_queries(const WindowArgs& args, cudaStream_t stream) {
  const int64_t items =
      static_cast<int64_t>(args.row_tiles) * WindowTraits<kOwnRows>::kRows * (args.op.head_dim / 8);
  return launch<window_queries_kernel<kOwnRows>>(
      "window_scores", {ceil_div(items, kWindowThreads), args.chunk_heads}, dim3(kWindowThreads), 0,
      stream, args);
}

}  // namespace spindlekv::cuda
