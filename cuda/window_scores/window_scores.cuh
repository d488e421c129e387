// window_scores: column statistics of the softmax of W query rows over all slots of a head.
//   p[r,s] = exp(x[r,s] - M[r]) / L[r];  sum, sum of squares, max over w;  entropy = -sum p ln p
// Canonical (core/canonical.h) but for entropy and lse. The attention matrix is never stored:
//   window_queries_kernel  (queries.cuh) the queries as float, after RoPE
//   window_rows_kernel     grid (block of 64 slots, KV head, tile of rows): m_b and l_b of each row
//   window_merge_kernel    warp = row: M, then L over the blocks in order; lse
//   window_columns_kernel  grid (block of 64 slots, KV head): recomputes the logits of all rows;
//                          two threads a slot, which add its column over queries ascending
//   window_entropy_kernel  warp = query head
// Compute-bound: 4 W D fma a slot and query head (two passes), reads K once a pass and 128 rows.
// Sources: SnapKV (arXiv 2404.14469), H2O (2306.14048), TOVA (2401.06104), CAKE (2503.12491).
#pragma once

#include "core/canonical.h"

#include "cuda/common/launch.h"
#include "cuda/common/reduce.cuh"
#include "cuda/window_scores/logits.cuh"
#include "cuda/window_scores/params.h"

#include <cmath>

namespace spindlekv::cuda {

// ---- helpers
// -------------------------------------------------------------------------------------

template <int kOwnRows>
__device__ __forceinline__ WindowTile window_tile(const WindowArgs& args, int index) {
  constexpr int kRows = WindowTraits<kOwnRows>::kRows;
  WindowTile tile;
  tile.kv_head = args.first_head + static_cast<int>(blockIdx.y);
  tile.first_slot = static_cast<int>(blockIdx.x) * kWindowSlots;
  tile.slots = min(kWindowSlots, args.op.heads[tile.kv_head].slots - tile.first_slot);
  tile.first_row = index * kRows;
  tile.rows = min(kRows, args.op.group * args.op.queries - tile.first_row);
  tile.index = index;
  return tile;
}

__device__ __forceinline__ int head_blocks(const WindowArgs& args, int kv_head) {
  return (args.op.heads[kv_head].slots + kWindowSlots - 1) / kWindowSlots;
}

// Running statistics of one slot over the queries of one head. Two threads share a slot: one keeps
// the sum and the maximum, the other the sum of squares and the entropy.
struct Column {
  float sum = 0.0f;  // or of squares
  float max = 0.0f;
  float entropy = 0.0f;
};

// Adds `rows` rows of a column of the tile of probabilities, in ascending order.
__device__ __forceinline__ void add_sums(const float* probability, int rows, Column& column) {
#pragma unroll 4
  for (int row = 0; row < rows; ++row) {
    const float p = probability[row * kWindowSlots];
    column.sum = column.sum + p;
    column.max = p > column.max ? p : column.max;
  }
}

// The same; weights: of the queries of these rows in the sum.
__device__ __forceinline__ void add_weighted_sums(const float* probability, int rows,
                                                  const float* weights, Column& column) {
#pragma unroll 1
  for (int row = 0; row < rows; ++row) {
    const float p = probability[row * kWindowSlots];
    column.sum = fmaf(weights[row], p, column.sum);
    column.max = p > column.max ? p : column.max;
  }
}

__device__ __forceinline__ void add_squares(const float* probability, int rows, Column& column) {
#pragma unroll 4
  for (int row = 0; row < rows; ++row) {
    const float p = probability[row * kWindowSlots];
    column.sum = fmaf(p, p, column.sum);
  }
}

__device__ __forceinline__ void add_entropy(const float* probability, int rows, Column& column) {
#pragma unroll 1
  for (int row = 0; row < rows; ++row) {
    const float p = probability[row * kWindowSlots];
    if (p != 0.0f) column.entropy = fmaf(-p, logf(p), column.entropy);
  }
}

// Writes a thread's part of the column of `head` at `slot` under the op's norm.
__device__ __forceinline__ void store_column(const SkvWindowScoresParams& op, int64_t head,
                                             int slot, int position, bool has_squares,
                                             const Column& column) {
  const float queries = static_cast<float>(op.queries);
  const int64_t target = head * op.stride + slot;
  const float sum = op.norm == SKV_NORM_WINDOW ? column.sum / queries : column.sum;
  if (has_squares) {
    if (op.sum_sq != nullptr) op.sum_sq[target] = sum;
    return;
  }
  if (op.max != nullptr) op.max[target] = column.max;
  if (op.sum == nullptr) return;
  if (op.norm != SKV_NORM_CAUSAL_COUNT) {
    op.sum[target] = sum;
    return;
  }
  const int64_t seen_by = static_cast<int64_t>(op.query_position) + op.queries - position;
  op.sum[target] = seen_by > 0 ? sum / static_cast<float>(seen_by) : 0.0f;
}

// The thread's logits become probabilities.
template <int kOwnRows>
__device__ __forceinline__ void normalise_tile(const WindowArgs& args, const WindowTile& tile,
                                               float (&logit)[kOwnRows][kWindowOwnSlots]) {
  const int row = own_first_row(kOwnRows);
  const float2* stats = args.row_stats +
                        static_cast<int64_t>(tile.kv_head) * args.op.group * args.op.queries +
                        tile.first_row;
#pragma unroll
  for (int r = 0; r < kOwnRows; ++r) {
    if (row + r >= tile.rows) continue;
    const float2 maximum_and_sum = stats[row + r];
#pragma unroll
    for (int s = 0; s < kWindowOwnSlots; ++s) {
      const float x = logit[r][s];
      logit[r][s] = x == -INFINITY ? 0.0f : window_exp(x, maximum_and_sum.x) / maximum_and_sum.y;
    }
  }
}

// ---- kernels
// -------------------------------------------------------------------------------------

template <typename Elem, int kOwnRows>
__global__ __launch_bounds__(
    kWindowThreads,
    WindowTraits<kOwnRows>::kBlocks) void window_rows_kernel(const WindowArgs args) {
  SKV_SHARED(pieces, WindowPieces<kOwnRows>);
  SKV_SHARED(slots, WindowSlots);
  constexpr int kSlotLanes = WindowTraits<kOwnRows>::kSlotLanes;
  const int first_tile = args.first_row / WindowTraits<kOwnRows>::kRows;
  const WindowTile tile = window_tile<kOwnRows>(args, first_tile + static_cast<int>(blockIdx.z));
  if (tile.slots <= 0) return;

  // load and compute: logits of the tile
  const WindowKey<Elem> key = load_window_slots<Elem>(args, tile, slots);
  const bool is_open = is_block_open(args, tile, slots);
  const bool is_seen = is_tile_seen(args, tile, slots);
  float logit[kOwnRows][kWindowOwnSlots];
  if (is_seen) {
    const int nonfinite = warp_sum(logit_tile(args, tile, key, slots, is_open, pieces, logit));
    if (lane_id() == 0 && nonfinite > 0 && args.op.nonfinite != nullptr) {
      atomicAdd(args.op.nonfinite, nonfinite);  // integers: any order gives the same
    }
  }

  // reduce: eight lanes share a row; the order is that of the halving sum
  const int row = own_first_row(kOwnRows);
  const int64_t chunk_row =
      static_cast<int64_t>(blockIdx.y) * args.chunk_rows + tile.first_row - args.first_row + row;
#pragma unroll
  for (int r = 0; r < kOwnRows; ++r) {
    float2 stats = make_float2(-INFINITY, 0.0f);
    if (is_seen) {
      float (&x)[kWindowOwnSlots] = logit[r];
#pragma unroll
      for (int s = 0; s < kWindowOwnSlots; ++s) stats.x = fmaxf(stats.x, x[s]);
      stats.x = warp_max<kSlotLanes>(stats.x);
#pragma unroll
      for (int s = 0; s < kWindowOwnSlots; ++s) x[s] = window_exp(x[s], stats.x);
#pragma unroll
      for (int s = 0; s < 4; ++s) x[s] = warp_sum<kSlotLanes>(x[s] + x[s + 4]);
      stats.y = (x[0] + x[2]) + (x[1] + x[3]);
    }
    if (lane_id() % kSlotLanes == 0 && row + r < tile.rows) {
      args.block_stats[(chunk_row + r) * args.max_blocks + blockIdx.x] = stats;
    }
  }
}

// Grid x: rows of the chunk, a warp each.
__global__ __launch_bounds__(kWindowThreads) void window_merge_kernel(const WindowArgs args) {
  const SkvWindowScoresParams& op = args.op;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWindowWarps + warp_id();
  const int64_t chunk_head = row / args.chunk_rows;
  if (chunk_head >= args.chunk_heads) return;
  const int kv_head = args.first_head + static_cast<int>(chunk_head);
  const int blocks = head_blocks(args, kv_head);
  const float2* parts = args.block_stats + row * args.max_blocks;

  float maximum = -INFINITY;
  for (int block = lane_id(); block < blocks; block += kWarpSize) {
    maximum = fmaxf(maximum, parts[block].x);
  }
  maximum = warp_max(maximum);

  float sum = 0.0f;  // L; every lane adds the same numbers in the same order
  for (int first = 0; first < blocks; first += kWarpSize) {
    const int block = first + lane_id();
    const float2 part = block < blocks ? parts[block] : make_float2(-INFINITY, 0.0f);
    const float weight = window_exp(part.x, maximum);
    const int count = min(kWarpSize, blocks - first);
    for (int lane = 0; lane < count; ++lane) {
      sum = fmaf(__shfl_sync(kAllLanes, part.y, lane), __shfl_sync(kAllLanes, weight, lane), sum);
    }
  }
  if (lane_id() != 0) return;
  const int64_t target = static_cast<int64_t>(kv_head) * op.group * op.queries + args.first_row +
                         row % args.chunk_rows;
  args.row_stats[target] = make_float2(maximum, sum);
  if (op.lse != nullptr) op.lse[target] = sum == 0.0f ? -INFINITY : maximum + logf(sum);
}

// A tile's pieces, then its probabilities.
template <int kOwnRows>
union WindowColumnsShared {
  WindowPieces<kOwnRows> pieces;
  float probability[WindowTraits<kOwnRows>::kRows][kWindowSlots];
};

template <typename Elem, int kOwnRows>
__global__ __launch_bounds__(
    kWindowThreads,
    WindowTraits<kOwnRows>::kBlocks) void window_columns_kernel(const WindowArgs args) {
  SKV_SHARED(shared, WindowColumnsShared<kOwnRows>);
  SKV_SHARED(slots, WindowSlots);
  SKV_SHARED(slot_entropy, float[kWindowSlots]);
  const SkvWindowScoresParams& op = args.op;
  WindowTile tile = window_tile<kOwnRows>(args, 0);
  if (tile.slots <= 0) return;
  const WindowKey<Elem> key = load_window_slots<Elem>(args, tile, slots);
  const bool is_open = is_block_open(args, tile, slots);

  const int slot = static_cast<int>(threadIdx.x) % kWindowSlots;
  const bool owns_slot = slot < tile.slots;
  const bool has_squares = static_cast<int>(threadIdx.x) >= kWindowSlots;
  const bool with_entropy = args.entropy_parts != nullptr;
  const bool is_counted = op.entropy_context == 0 || slots.position[slot] < op.query_position;
  int64_t head = static_cast<int64_t>(tile.kv_head) * op.group;
  int queries_left = op.queries;  // of that head
  Column column;
  for (int index = 0; index < args.row_tiles; ++index) {
    // compute: probabilities of the next rows
    tile = window_tile<kOwnRows>(args, index);
    const bool is_seen = is_tile_seen(args, tile, slots);
    if (is_seen) {
      float logit[kOwnRows][kWindowOwnSlots];
      logit_tile(args, tile, key, slots, is_open, shared.pieces, logit);
      normalise_tile<kOwnRows>(args, tile, logit);
      __syncthreads();  // the probabilities lie over the pieces
#pragma unroll
      for (int r = 0; r < kOwnRows; ++r) {
        float* target = &shared.probability[own_first_row(kOwnRows) + r][own_slot(0)];
        const float (&p)[kWindowOwnSlots] = logit[r];
        *reinterpret_cast<float4*>(target) = make_float4(p[0], p[1], p[2], p[3]);
        *reinterpret_cast<float4*>(target + kWindowSlots / 2) = make_float4(p[4], p[5], p[6], p[7]);
      }
    }
    __syncthreads();

    // reduce and store: each slot adds its column; a head ends after its last query
    int row = 0;
    while (row < tile.rows) {
      const int count = min(queries_left, tile.rows - row);
      const float* probability = &shared.probability[row][slot];
      if (is_seen && has_squares) add_squares(probability, count, column);
      if (is_seen && has_squares && with_entropy && is_counted) {
        add_entropy(probability, count, column);
      }
      if (is_seen && !has_squares) {
        if (op.query_weights == nullptr) {
          add_sums(probability, count, column);
        } else {
          const float* weights = op.query_weights + op.queries - queries_left;
          add_weighted_sums(probability, count, weights, column);
        }
      }
      row += count;
      queries_left -= count;
      if (queries_left > 0) continue;
      if (owns_slot) {
        store_column(op, head, tile.first_slot + slot, slots.position[slot], has_squares, column);
      }
      if (with_entropy) {
        if (has_squares) slot_entropy[slot] = owns_slot ? column.entropy : 0.0f;
        __syncthreads();
        if (warp_id() == 0) {
          const float part =
              warp_sum(slot_entropy[lane_id()] + slot_entropy[lane_id() + kWarpSize]);
          if (lane_id() == 0) args.entropy_parts[head * args.max_blocks + blockIdx.x] = part;
        }
        __syncthreads();
      }
      column = Column{};
      ++head;
      queries_left = op.queries;
    }
    __syncthreads();  // the next pieces lie over the probabilities
  }
}

// Grid x: query heads, a warp each.
__global__ __launch_bounds__(kWindowThreads) void window_entropy_kernel(const WindowArgs args) {
  const int64_t head = static_cast<int64_t>(blockIdx.x) * kWindowWarps + warp_id();
  if (head >= static_cast<int64_t>(args.op.kv_heads) * args.op.group) return;
  const int blocks = head_blocks(args, static_cast<int>(head / args.op.group));
  float sum = 0.0f;
  for (int block = lane_id(); block < blocks; block += kWarpSize) {
    sum += args.entropy_parts[head * args.max_blocks + block];
  }
  sum = warp_sum(sum);
  if (lane_id() == 0) args.op.entropy[head] = sum;
}

// ---- launch
// --------------------------------------------------------------------------------------

template <typename Elem, int kOwnRows>
Status launch_window_rows(const WindowArgs& args, cudaStream_t stream) {
  const Grid grid{args.max_blocks, args.chunk_heads,
                  ceil_div(args.chunk_rows, WindowTraits<kOwnRows>::kRows)};
  return launch<window_rows_kernel<Elem, kOwnRows>>("window_scores", grid, dim3(kWindowThreads), 0,
                                                    stream, args);
}

inline Status launch_window_merge(const WindowArgs& args, cudaStream_t stream) {
  const int64_t rows = static_cast<int64_t>(args.chunk_heads) * args.chunk_rows;
  return launch<window_merge_kernel>("window_scores", {ceil_div(rows, kWindowWarps)},
                                     dim3(kWindowThreads), 0, stream, args);
}

template <typename Elem, int kOwnRows>
Status launch_window_columns(const WindowArgs& args, cudaStream_t stream) {
  return launch<window_columns_kernel<Elem, kOwnRows>>(
      "window_scores", {args.max_blocks, args.chunk_heads}, dim3(kWindowThreads), 0, stream, args);
}

inline Status launch_window_entropy(const WindowArgs& args, cudaStream_t stream) {
  const int64_t heads = static_cast<int64_t>(args.op.kv_heads) * args.op.group;
  return launch<window_entropy_kernel>("window_scores", {ceil_div(heads, kWindowWarps)},
                                       dim3(kWindowThreads), 0, stream, args);
}

}  // namespace spindlekv::cuda
