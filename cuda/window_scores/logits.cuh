// window_scores: one tile of canonical logits, 64 slots of a KV head by 32 query rows.
//   logit[r][s] = dot(q'[r], k'[s]) * scale + beta[s], dot sequential over d (core/canonical.h)
// A thread owns 4 rows by 4 slots and walks d alone; K and Q pass through shared memory in pieces
// of 32 dims, after RoPE, as float, transposed so that a thread reads 4 slots or 4 rows at once. 16
// fma for two 16-byte shared loads: compute-bound from about 8 rows on.
#pragma once

#include "core/canonical.h"

#include "cuda/attend/slots.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/reduce.cuh"
#include "cuda/rope/rotate.cuh"
#include "cuda/window_scores/params.h"

#include <cmath>

namespace spindlekv::cuda {

// ---- traits
// --------------------------------------------------------------------------------------

struct WindowTraits {
  static constexpr int kThreads = 128;
  static constexpr int kWarps = kThreads / kWarpSize;
  static constexpr int kSlots = canonical::kBlockSlots;
  static constexpr int kRows = 32;
  static constexpr int kDims = 32;  // of a piece
  static constexpr int kOwn = 4;    // rows and slots of a thread
  // Blocks on an SM that the columns kernel is compiled for: up to 128 registers a thread. Left to
  // itself, ptxas stops at 80 for sm_100 and spills.
  static constexpr int kColumnBlocks = 4;
  static constexpr int kSlotGroups = kSlots / kOwn;
  static constexpr int kSlotPitch = kSlots + 4;  // floats; keeps float4 alignment
  static constexpr int kRowPitch = kRows + 4;
  static_assert(kSlotGroups * (kRows / kOwn) == kThreads);
  static_assert(kSlots == 2 * kWarpSize, "a lane has two slots of a row in the reductions");
};

template <typename Elem>
struct WindowShared {
  using Traits = WindowTraits;
  alignas(16) float key[Traits::kDims][Traits::kSlotPitch];
  alignas(16) float query[Traits::kDims][Traits::kRowPitch];
  alignas(16) float logit[Traits::kRows][Traits::kSlotPitch];
  const Elem* key_row[Traits::kSlots];
  float key_magnitude[Traits::kSlots];
  float beta[Traits::kSlots];
  int position[Traits::kSlots];
  unsigned flags[Traits::kSlots];  // 0 beyond the head's slots
};

// A tile's rows are numbered [query head of the group][query of the range].
struct WindowTile {
  int kv_head;
  int first_slot;
  int slots;        // of this block, 1..64
  int first_query;  // of the range
  int queries;      // of the range
  int first_row;
  int rows;  // of this tile, 1..32
};

// ---- helpers
// -------------------------------------------------------------------------------------

template <typename Elem>
__device__ __forceinline__ void load_window_slots(const WindowArgs& args, const WindowTile& tile,
                                                  WindowShared<Elem>& shared) {
  const int slot = static_cast<int>(threadIdx.x);
  if (slot >= WindowTraits::kSlots) return;
  shared.flags[slot] = 0;
  if (slot >= tile.slots) return;
  const HeadSlots head = head_slots(args.op.runs, args.op.heads, tile.kv_head);
  const SkvRun& run = *find_run(head, tile.first_slot + slot);
  const int index = tile.first_slot + slot - run.slot_base;
  const auto key = key_row<Elem>(run, index, args.op.head_dim);
  shared.key_row[slot] = key.row;
  shared.key_magnitude[slot] = key.magnitude;
  shared.beta[slot] = run.beta == nullptr ? 0.0f : run.beta[index];
  shared.position[slot] = run.positions[index];
  shared.flags[slot] = slot_flags(run, index);
}

__device__ __forceinline__ int window_query(const WindowTile& tile, int row) {
  return tile.first_query + (tile.first_row + row) % tile.queries;
}

__device__ __forceinline__ int window_group_head(const WindowTile& tile, int row) {
  return (tile.first_row + row) / tile.queries;
}

template <typename Elem>
__device__ __forceinline__ bool is_visible(const WindowArgs& args, const WindowTile& tile, int row,
                                           int slot, const WindowShared<Elem>& shared) {
  return (shared.flags[slot] >> window_group_head(tile, row) & 1u) != 0 &&
         shared.position[slot] <= args.op.query_position + window_query(tile, row);
}

// False when no row of the tile can see any slot of the block by position. All threads call; it is
// a block barrier, and before it a thread reads only the slot that it loaded itself.
template <typename Elem>
__device__ __forceinline__ bool is_tile_seen(const WindowArgs& args, const WindowTile& tile,
                                             const WindowShared<Elem>& shared) {
  const int slot = static_cast<int>(threadIdx.x);
  const bool one_head = window_group_head(tile, 0) == window_group_head(tile, tile.rows - 1);
  const int last_query =
      one_head ? window_query(tile, tile.rows - 1) : tile.first_query + tile.queries - 1;
  const bool is_seen = slot < tile.slots && (shared.flags[slot] & 0xffffu) != 0 &&
                       shared.position[slot] <= args.op.query_position + last_query;
  return __syncthreads_or(is_seen ? 1 : 0) != 0;
}

// Dims [first, first + dims) of the block's keys, after RoPE.
template <typename Elem>
__device__ __forceinline__ void load_key_piece(const WindowArgs& args, const WindowTile& tile,
                                               int first, int dims, WindowShared<Elem>& shared) {
  constexpr int kVecs = WindowTraits::kDims / 8;
  const SkvWindowScoresParams& op = args.op;
  for (int vec = static_cast<int>(threadIdx.x); vec < tile.slots * kVecs;
       vec += WindowTraits::kThreads) {
    const int slot = vec / kVecs;
    const int dim = vec % kVecs * 8;
    if (dim >= dims) continue;
    const float2* turn = nullptr;
    if ((shared.flags[slot] & kTurnsKey) != 0) {
      turn = turn_at(op.rope, op.reindex != 0 ? tile.first_slot + slot : shared.position[slot]);
    }
    const ScaledRow<Elem> row{shared.key_row[slot], shared.key_magnitude[slot]};
    float key[8];
    rotated_eight(row, first + dim, turn, op.rope.n_rot, op.rope.style, key);
#pragma unroll
    for (int i = 0; i < 8; ++i) shared.key[dim + i][slot] = key[i];
  }
}

// The same dims of the tile's queries.
template <typename Elem>
__device__ __forceinline__ void load_query_piece(const WindowArgs& args, const WindowTile& tile,
                                                 int first, int dims, WindowShared<Elem>& shared) {
  const SkvWindowScoresParams& op = args.op;
  for (int row = warp_id(); row < tile.rows; row += WindowTraits::kWarps) {
    if (lane_id() >= dims) continue;
    const int query = window_query(tile, row);
    const int64_t head =
        static_cast<int64_t>(tile.kv_head) * op.group + window_group_head(tile, row);
    const AnyRow source{op.q, op.q_dtype, head * op.q_stride_head + query * op.q_stride_token};
    const float2* turn = turn_at(op.rope, static_cast<int64_t>(op.rope_query_position) + query);
    shared.query[lane_id()][row] =
        rotated_one(source, first + lane_id(), turn, op.rope.n_rot, op.rope.style);
  }
}

// dot[r][s] over the dims in shared memory, continuing the sequential sum.
template <typename Elem>
__device__ __forceinline__ void dot_piece(const WindowShared<Elem>& shared, int dims, int row,
                                          int slot, float (&dot)[4][4]) {
  for (int d = 0; d < dims; ++d) {
    const float4 key = *reinterpret_cast<const float4*>(&shared.key[d][slot]);
    const float4 query = *reinterpret_cast<const float4*>(&shared.query[d][row]);
    const float keys[4] = {key.x, key.y, key.z, key.w};
    const float queries[4] = {query.x, query.y, query.z, query.w};
#pragma unroll
    for (int r = 0; r < 4; ++r) {
#pragma unroll
      for (int s = 0; s < 4; ++s) dot[r][s] = fmaf(queries[r], keys[s], dot[r][s]);
    }
  }
}

// Fills shared.logit with the tile, -inf where a slot is hidden or absent. All threads call; the
// tile is complete after the caller's next barrier. Returns how many visible logits of this thread
// are not finite.
template <typename Elem>
__device__ __forceinline__ int logit_tile(const WindowArgs& args, const WindowTile& tile,
                                          WindowShared<Elem>& shared) {
  using Traits = WindowTraits;
  const int slot = static_cast<int>(threadIdx.x) % Traits::kSlotGroups * Traits::kOwn;
  const int row = static_cast<int>(threadIdx.x) / Traits::kSlotGroups * Traits::kOwn;
  float dot[4][4] = {};
  for (int first = 0; first < args.op.head_dim; first += Traits::kDims) {
    const int dims = min(Traits::kDims, args.op.head_dim - first);
    load_key_piece(args, tile, first, dims, shared);
    load_query_piece(args, tile, first, dims, shared);
    __syncthreads();
    if (row < tile.rows && slot < tile.slots) dot_piece(shared, dims, row, slot, dot);
    __syncthreads();  // the piece is overwritten next
  }
  int nonfinite = 0;
#pragma unroll
  for (int r = 0; r < 4; ++r) {
#pragma unroll
    for (int s = 0; s < 4; ++s) {
      float logit = -INFINITY;
      if (row + r < tile.rows && slot + s < tile.slots &&
          is_visible(args, tile, row + r, slot + s, shared)) {
        logit = dot[r][s] * args.op.scale + shared.beta[slot + s];
        nonfinite += fabsf(logit) < INFINITY ? 0 : 1;
      }
      shared.logit[row + r][slot + s] = logit;
    }
  }
  return nonfinite;
}

// exp of a logit against a maximum; 0 for a hidden slot.
__device__ __forceinline__ float window_exp(float logit, float maximum) {
  return logit == -INFINITY ? 0.0f : canonical::exp_canonical(logit - maximum);
}

}  // namespace spindlekv::cuda
