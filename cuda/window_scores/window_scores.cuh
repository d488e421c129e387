// window_scores: column statistics of the softmax of W query rows over all slots of a head.
//   p[r,s] = exp(x[r,s] - M[r]) / L[r];  sum, sum of squares, max over w;  entropy = -sum p ln p
// Canonical (core/canonical.h) but for entropy and lse. The attention matrix is never stored:
//   window_rows_kernel     grid (block of 64 slots, KV head, 32 rows): m_b and l_b of each row
//   window_merge_kernel    warp = row: M, then L over the blocks in order; lse
//   window_columns_kernel  grid (block of 64 slots, KV head): recomputes the logits of all rows,
//                          thread = slot, which adds its column over queries ascending
//   window_entropy_kernel  warp = query head
// Compute-bound: 4 W D fma a slot and query head (two passes), reads K once a pass and 32 rows.
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

__device__ __forceinline__ WindowTile window_tile(const WindowArgs& args, int first_query,
                                                  int queries, int first_row) {
  WindowTile tile;
  tile.kv_head = static_cast<int>(blockIdx.y);
  tile.first_slot = static_cast<int>(blockIdx.x) * WindowTraits::kSlots;
  tile.slots = min(WindowTraits::kSlots, args.op.heads[tile.kv_head].slots - tile.first_slot);
  tile.first_query = first_query;
  tile.queries = queries;
  tile.first_row = first_row;
  tile.rows = min(WindowTraits::kRows, args.op.group * queries - first_row);
  return tile;
}

__device__ __forceinline__ int head_blocks(const WindowArgs& args, int kv_head) {
  return (args.op.heads[kv_head].slots + WindowTraits::kSlots - 1) / WindowTraits::kSlots;
}

// Running statistics of one slot over the queries of one head.
struct Column {
  float sum = 0.0f;
  float sum_sq = 0.0f;
  float max = 0.0f;
  float entropy = 0.0f;
};

__device__ __forceinline__ void add_probability(Column& column, float p, bool with_entropy) {
  column.sum = column.sum + p;
  column.sum_sq = fmaf(p, p, column.sum_sq);
  column.max = p > column.max ? p : column.max;
  if (with_entropy && p != 0.0f) column.entropy = fmaf(-p, logf(p), column.entropy);
}

// Writes the column of `head` at `slot` under the op's norm.
__device__ __forceinline__ void store_column(const SkvWindowScoresParams& op, int64_t head,
                                             int slot, int position, const Column& column) {
  const float queries = static_cast<float>(op.queries);
  const int64_t target = head * op.stride + slot;
  float sum = column.sum;
  if (op.norm == SKV_NORM_WINDOW) sum = sum / queries;
  if (op.norm == SKV_NORM_CAUSAL_COUNT) {
    const int64_t seen_by = static_cast<int64_t>(op.query_position) + op.queries - position;
    sum = seen_by > 0 ? sum / static_cast<float>(seen_by) : 0.0f;
  }
  if (op.sum != nullptr) op.sum[target] = sum;
  if (op.sum_sq != nullptr) {
    op.sum_sq[target] = op.norm == SKV_NORM_WINDOW ? column.sum_sq / queries : column.sum_sq;
  }
  if (op.max != nullptr) op.max[target] = column.max;
}

// Turns a finished tile of logits into probabilities; the thread's rows are those of logit_tile.
template <typename Elem>
__device__ __forceinline__ void normalise_tile(const WindowArgs& args, const WindowTile& tile,
                                               WindowShared<Elem>& shared) {
  for (int row = warp_id(); row < tile.rows; row += WindowTraits::kWarps) {
    const int64_t head =
        static_cast<int64_t>(tile.kv_head) * args.op.group + window_group_head(tile, row);
    const float2 stats = args.row_stats[head * args.op.queries + window_query(tile, row)];
    for (int slot = lane_id(); slot < WindowTraits::kSlots; slot += kWarpSize) {
      const float logit = shared.logit[row][slot];
      shared.logit[row][slot] = logit == -INFINITY ? 0.0f : window_exp(logit, stats.x) / stats.y;
    }
  }
}

// ---- kernels
// -------------------------------------------------------------------------------------

template <typename Elem>
__global__ __launch_bounds__(WindowTraits::kThreads) void window_rows_kernel(
    const WindowArgs args) {
  SKV_SHARED(shared, WindowShared<Elem>);
  const WindowTile tile = window_tile(args, args.first_query, args.chunk_queries,
                                      static_cast<int>(blockIdx.z) * WindowTraits::kRows);
  if (tile.slots <= 0) return;

  // load and compute: logits of the tile
  load_window_slots(args, tile, shared);
  const bool is_seen = is_tile_seen(args, tile, shared);
  if (is_seen) {
    const int nonfinite = warp_sum(logit_tile(args, tile, shared));
    if (lane_id() == 0 && nonfinite > 0 && args.op.nonfinite != nullptr) {
      atomicAdd(args.op.nonfinite, nonfinite);  // integers: any order gives the same
    }
  }
  __syncthreads();

  // reduce: a warp takes a row, a lane the slots lane and lane + 32
  const int64_t first_row =
      static_cast<int64_t>(tile.kv_head) * args.op.group * tile.queries + tile.first_row;
  for (int row = warp_id(); row < tile.rows; row += WindowTraits::kWarps) {
    float2 stats = make_float2(-INFINITY, 0.0f);
    if (is_seen) {
      const float low = shared.logit[row][lane_id()];
      const float high = shared.logit[row][lane_id() + kWarpSize];
      stats.x = warp_max(fmaxf(low, high));
      stats.y = warp_sum(window_exp(low, stats.x) + window_exp(high, stats.x));
    }
    if (lane_id() == 0) args.block_stats[(first_row + row) * args.max_blocks + blockIdx.x] = stats;
  }
}

// Grid x: rows of the chunk, a warp each.
__global__ __launch_bounds__(WindowTraits::kThreads) void window_merge_kernel(
    const WindowArgs args) {
  const SkvWindowScoresParams& op = args.op;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * WindowTraits::kWarps + warp_id();
  const int64_t head = row / args.chunk_queries;
  if (head >= static_cast<int64_t>(op.kv_heads) * op.group) return;
  const int blocks = head_blocks(args, static_cast<int>(head / op.group));
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
  const int64_t target = head * op.queries + args.first_query + row % args.chunk_queries;
  args.row_stats[target] = make_float2(maximum, sum);
  if (op.lse != nullptr) op.lse[target] = sum == 0.0f ? -INFINITY : maximum + logf(sum);
}

template <typename Elem>
__global__ __launch_bounds__(
    WindowTraits::kThreads,
    WindowTraits::kColumnBlocks) void window_columns_kernel(const WindowArgs args) {
  SKV_SHARED(shared, WindowShared<Elem>);
  SKV_SHARED(slot_entropy, float[WindowTraits::kSlots]);
  const SkvWindowScoresParams& op = args.op;
  const int rows = op.group * op.queries;
  WindowTile tile = window_tile(args, 0, op.queries, 0);
  if (tile.slots <= 0) return;
  load_window_slots(args, tile, shared);

  const int slot = static_cast<int>(threadIdx.x);
  const bool owns_slot = slot < tile.slots;
  Column column;
  for (int first_row = 0; first_row < rows; first_row += WindowTraits::kRows) {
    // compute: probabilities of the next rows
    tile = window_tile(args, 0, op.queries, first_row);
    const bool is_seen = is_tile_seen(args, tile, shared);
    if (is_seen) logit_tile(args, tile, shared);
    __syncthreads();
    if (is_seen) normalise_tile(args, tile, shared);
    __syncthreads();

    // reduce and store: each slot adds its column; a head ends after its last query
    for (int row = 0; row < tile.rows; ++row) {
      if (owns_slot && is_seen) {
        add_probability(column, shared.logit[row][slot], args.entropy_parts != nullptr);
      }
      if ((first_row + row + 1) % op.queries != 0) continue;
      const int64_t head =
          static_cast<int64_t>(tile.kv_head) * op.group + window_group_head(tile, row);
      if (owns_slot) store_column(op, head, tile.first_slot + slot, shared.position[slot], column);
      if (args.entropy_parts != nullptr) {
        if (slot < WindowTraits::kSlots) slot_entropy[slot] = owns_slot ? column.entropy : 0.0f;
        __syncthreads();
        if (warp_id() == 0) {
          const float part =
              warp_sum(slot_entropy[lane_id()] + slot_entropy[lane_id() + kWarpSize]);
          if (lane_id() == 0) args.entropy_parts[head * args.max_blocks + blockIdx.x] = part;
        }
        __syncthreads();
      }
      column = Column{};
    }
  }
}

// Grid x: query heads, a warp each.
__global__ __launch_bounds__(WindowTraits::kThreads) void window_entropy_kernel(
    const WindowArgs args) {
  const int64_t head = static_cast<int64_t>(blockIdx.x) * WindowTraits::kWarps + warp_id();
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

template <typename Elem>
Status launch_window_rows(const WindowArgs& args, cudaStream_t stream) {
  const int64_t rows = static_cast<int64_t>(args.op.group) * args.chunk_queries;
  const Grid grid{args.max_blocks, args.op.kv_heads, ceil_div(rows, WindowTraits::kRows)};
  return launch<window_rows_kernel<Elem>>("window_scores", grid, dim3(WindowTraits::kThreads), 0,
                                          stream, args);
}

inline Status launch_window_merge(const WindowArgs& args, cudaStream_t stream) {
  const int64_t rows = static_cast<int64_t>(args.op.kv_heads) * args.op.group * args.chunk_queries;
  return launch<window_merge_kernel>("window_scores", {ceil_div(rows, WindowTraits::kWarps)},
                                     dim3(WindowTraits::kThreads), 0, stream, args);
}

template <typename Elem>
Status launch_window_columns(const WindowArgs& args, cudaStream_t stream) {
  return launch<window_columns_kernel<Elem>>("window_scores", {args.max_blocks, args.op.kv_heads},
                                             dim3(WindowTraits::kThreads), 0, stream, args);
}

inline Status launch_window_entropy(const WindowArgs& args, cudaStream_t stream) {
  const int64_t heads = static_cast<int64_t>(args.op.kv_heads) * args.op.group;
  return launch<window_entropy_kernel>("window_scores", {ceil_div(heads, WindowTraits::kWarps)},
                                       dim3(WindowTraits::kThreads), 0, stream, args);
}

}  // namespace spindlekv::cuda
