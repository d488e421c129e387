// window_scores: one tile of canonical logits, 64 slots of a KV head by 128 (or 32) query rows.
//   logit[r][s] = dot(q'[r], k'[s]) * scale + beta[s], dot sequential over d (core/canonical.h)
// A thread owns 8 (or 2) rows by 8 slots and walks d alone, so that 64 fma follow four 16-byte
// shared loads. Pieces of 16 dims pass through two buffers of shared memory as float, [dim][slot]
// and [dim][row]: the next piece is on its way while one is multiplied. Every thread brings the
// keys of one slot, turned and scaled; the queries come turned from the workspace (queries.cuh).
#pragma once

#include "core/canonical.h"

#include "cuda/attend/slots.cuh"
#include "cuda/common/async_copy.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/reduce.cuh"
#include "cuda/rope/rotate.cuh"
#include "cuda/window_scores/params.h"

#include <cmath>

namespace spindlekv::cuda {

// ---- traits
// --------------------------------------------------------------------------------------

inline constexpr int kWindowThreads = 128;
inline constexpr int kWindowWarps = kWindowThreads / kWarpSize;
inline constexpr int kWindowSlots = canonical::kBlockSlots;
inline constexpr int kWindowPieceDims = 16;
inline constexpr int kWindowOwnSlots = 8;

// Eight lanes share a row: lane % 8 owns the slots 4 (lane % 8) + i and, for i >= 4, 28 more, so
// that the first halving (slot and slot + 32) stays in a thread and the next three are shuffles.
template <int kOwn>
struct WindowTraits {
  static constexpr int kOwnRows = kOwn;
  static constexpr int kSlotLanes = kWindowSlots / kWindowOwnSlots;
  static constexpr int kRows = kOwnRows * kWindowThreads / kSlotLanes;
  // Blocks on an SM that the kernels are compiled for: up to 168 registers a thread, or 128.
  static constexpr int kBlocks = kOwnRows == 8 ? 3 : 4;
  static_assert(kSlotLanes == 8 && kWindowThreads == 2 * kWindowSlots &&
                    kWindowThreads * 8 == kWindowPieceDims * kWindowSlots,
                "a thread brings 8 dims of one slot of a piece");
};

template <int kOwnRows>
struct WindowPieces {
  alignas(16) float key[2][kWindowPieceDims][kWindowSlots];
  alignas(16) float query[2][kWindowPieceDims][WindowTraits<kOwnRows>::kRows];
};

struct WindowSlots {
  alignas(16) float beta[kWindowSlots];
  int position[kWindowSlots];
  unsigned flags[kWindowSlots];  // 0 beyond the head's slots
};

struct WindowTile {
  int kv_head;
  int first_slot;
  int slots;  // of this block, 1..64
  int first_row;
  int rows;   // of this tile
  int index;  // of the tile among those of the KV head
};

// The keys that a thread brings: those of one slot of the block.
template <typename Elem>
struct WindowKey {
  ScaledRow<Elem> row;
  const float2* turn;  // null: as stored
  bool is_present;
};

// ---- helpers
// -------------------------------------------------------------------------------------

__device__ __forceinline__ int own_first_row(int own_rows) {
  return static_cast<int>(threadIdx.x) / 8 * own_rows;
}

// Slot of a thread's `own`-th logit of a row.
__device__ __forceinline__ int own_slot(int own) {
  return static_cast<int>(threadIdx.x) % 8 * 4 + own % 4 + own / 4 * (kWindowSlots / 2);
}

template <int kOwnRows>
__device__ __forceinline__ int64_t tile_queries_offset(const WindowArgs& args, int chunk_head,
                                                       int tile) {
  return (static_cast<int64_t>(chunk_head) * args.row_tiles + tile) * args.op.head_dim *
         WindowTraits<kOwnRows>::kRows;
}

// Fills the block's slot attributes; returns the slot whose keys this thread brings. The caller
// puts a barrier between this and the first read.
template <typename Elem>
__device__ __forceinline__ WindowKey<Elem> load_window_slots(const WindowArgs& args,
                                                             const WindowTile& tile,
                                                             WindowSlots& slots) {
  const SkvWindowScoresParams& op = args.op;
  const int slot = static_cast<int>(threadIdx.x) % kWindowSlots;
  const bool writes = static_cast<int>(threadIdx.x) < kWindowSlots;
  WindowKey<Elem> key{{nullptr, 0.0f}, nullptr, slot < tile.slots};
  if (!key.is_present) {
    if (writes) {
      slots.beta[slot] = 0.0f;
      slots.position[slot] = 0;
      slots.flags[slot] = 0;
    }
    return key;
  }
  const HeadSlots head = head_slots(op.runs, op.heads, tile.kv_head);
  const SkvRun& run = *find_run(head, tile.first_slot + slot);
  const int index = tile.first_slot + slot - run.slot_base;
  const auto row = key_row<Elem>(run, index, op.head_dim);
  const int position = slot_position(run, index);
  const unsigned flags = slot_flags(run, index);
  key.row = {row.row, row.magnitude};
  if ((flags & kTurnsKey) != 0) {
    key.turn = turn_at(op.rope, op.reindex != 0 ? tile.first_slot + slot : position);
  }
  if (writes) {
    slots.beta[slot] = slot_beta(run, index);
    slots.position[slot] = position;
    slots.flags[slot] = flags;
  }
  return key;
}

// False when no row of the tile can see any slot of the block by position. All threads call; it is
// a block barrier.
__device__ __forceinline__ bool is_tile_seen(const WindowArgs& args, const WindowTile& tile,
                                             const WindowSlots& slots) {
  const int slot = static_cast<int>(threadIdx.x);
  const int queries = args.op.queries;
  const int first_query = tile.first_row % queries;
  const int last_query = min(first_query + tile.rows, queries) - 1;
  const bool is_seen = slot < tile.slots && (slots.flags[slot] & 0xffffu) != 0 &&
                       slots.position[slot] <= args.op.query_position + last_query;
  return __syncthreads_or(is_seen ? 1 : 0) != 0;
}

// True when the block has 64 slots and every query head and query sees each. All threads call; it
// is a block barrier, and before it a thread reads only the slot that it wrote itself.
__device__ __forceinline__ bool is_block_open(const WindowArgs& args, const WindowTile& tile,
                                              const WindowSlots& slots) {
  const int slot = static_cast<int>(threadIdx.x);
  const bool is_open =
      slot >= kWindowSlots || (slot < tile.slots && (slots.flags[slot] & 0xffffu) == 0xffffu &&
                               slots.position[slot] <= args.op.query_position);
  return __syncthreads_and(is_open ? 1 : 0) != 0;
}

// Starts dims [first, first + 16) of the tile's keys and queries on their way to a buffer.
template <typename Elem, int kOwnRows>
__device__ __forceinline__ void load_piece(const WindowArgs& args, const WindowKey<Elem>& key,
                                           const float* queries, int first, int buffer,
                                           WindowPieces<kOwnRows>& pieces) {
  constexpr int kRows = WindowTraits<kOwnRows>::kRows;
  const SkvWindowScoresParams& op = args.op;
  const int words = min(kWindowPieceDims, op.head_dim - first) * (kRows / 4);
  const float* source = queries + static_cast<int64_t>(first) * kRows;
  float* target = &pieces.query[buffer][0][0];
#pragma unroll
  for (int round = 0; round < kWindowPieceDims * kRows / 4 / kWindowThreads; ++round) {
    const int word = round * kWindowThreads + static_cast<int>(threadIdx.x);
    if (word < words) copy_async_16(target + word * 4, source + word * 4);
  }
  copy_async_commit();

  const int dim = static_cast<int>(threadIdx.x) / kWindowSlots * 8;
  const int slot = static_cast<int>(threadIdx.x) % kWindowSlots;
  if (!key.is_present || first + dim >= op.head_dim) return;
  float part[8];
  rotated_eight(key.row, first + dim, key.turn, op.rope.n_rot, op.rope.style, part);
#pragma unroll
  for (int i = 0; i < 8; ++i) pieces.key[buffer][dim + i][slot] = part[i];
}

__device__ __forceinline__ void load_four(const float* source, float* out) {
  const float4 four = *reinterpret_cast<const float4*>(source);
  out[0] = four.x, out[1] = four.y, out[2] = four.z, out[3] = four.w;
}

// dot[r][s] over `dims` (8 or 16) dims of a buffer, continuing the sequential sums.
template <int kOwnRows>
__device__ __forceinline__ void dot_piece(const WindowPieces<kOwnRows>& pieces, int buffer,
                                          int dims, float (&dot)[kOwnRows][kWindowOwnSlots]) {
  const int row = own_first_row(kOwnRows);
  for (int first = 0; first < dims; first += 8) {
#pragma unroll
    for (int d = 0; d < 8; ++d) {
      float keys[kWindowOwnSlots];
      float queries[kOwnRows];
      load_four(&pieces.key[buffer][first + d][own_slot(0)], keys);
      load_four(&pieces.key[buffer][first + d][own_slot(4)], keys + 4);
      const float* source = &pieces.query[buffer][first + d][row];
      if constexpr (kOwnRows % 4 == 0) {
#pragma unroll
        for (int r = 0; r < kOwnRows; r += 4) load_four(source + r, queries + r);
      } else {
#pragma unroll
        for (int r = 0; r < kOwnRows; ++r) queries[r] = source[r];
      }
#pragma unroll
      for (int r = 0; r < kOwnRows; ++r) {
#pragma unroll
        for (int s = 0; s < kWindowOwnSlots; ++s) {
          dot[r][s] = fmaf(queries[r], keys[s], dot[r][s]);
        }
      }
    }
  }
}

// The thread's logits of a tile, -inf where a slot is hidden or absent or a row is not there. All
// threads call; the pieces are free after the caller's next barrier. `is_open`: nothing is hidden.
// Returns how many visible logits of this thread are not finite.
template <typename Elem, int kOwnRows>
__device__ __forceinline__ int logit_tile(const WindowArgs& args, const WindowTile& tile,
                                          const WindowKey<Elem>& key, const WindowSlots& slots,
                                          bool is_open, WindowPieces<kOwnRows>& pieces,
                                          float (&logit)[kOwnRows][kWindowOwnSlots]) {
  const SkvWindowScoresParams& op = args.op;
  const float* queries =
      args.turned_queries +
      tile_queries_offset<kOwnRows>(args, tile.kv_head - args.first_head, tile.index);
  // Whole warps stay away from rows beyond the last.
  const bool has_rows = warp_id() * (kOwnRows * kWarpSize / 8) < tile.rows;
#pragma unroll
  for (int r = 0; r < kOwnRows; ++r) {
#pragma unroll
    for (int s = 0; s < kWindowOwnSlots; ++s) logit[r][s] = 0.0f;
  }
  load_piece(args, key, queries, 0, 0, pieces);
  int buffer = 0;
  for (int first = 0; first < op.head_dim; first += kWindowPieceDims) {
    copy_async_wait<0>();
    __syncthreads();  // this piece is there, and the one before it has been multiplied
    const int next = first + kWindowPieceDims;
    if (next < op.head_dim) load_piece(args, key, queries, next, buffer ^ 1, pieces);
    if (has_rows) dot_piece(pieces, buffer, min(kWindowPieceDims, op.head_dim - first), logit);
    buffer ^= 1;
  }

  float beta[kWindowOwnSlots];
  load_four(&slots.beta[own_slot(0)], beta);
  load_four(&slots.beta[own_slot(4)], beta + 4);
#pragma unroll
  for (int r = 0; r < kOwnRows; ++r) {
#pragma unroll
    for (int s = 0; s < kWindowOwnSlots; ++s) logit[r][s] = logit[r][s] * op.scale + beta[s];
  }
  int nonfinite = 0;
  if (is_open && tile.rows == WindowTraits<kOwnRows>::kRows) {
#pragma unroll
    for (int r = 0; r < kOwnRows; ++r) {
#pragma unroll
      for (int s = 0; s < kWindowOwnSlots; ++s) {
        nonfinite += fabsf(logit[r][s]) < INFINITY ? 0 : 1;
      }
    }
    return nonfinite;
  }

  const int row = own_first_row(kOwnRows);
  int group_head = (tile.first_row + row) / op.queries;
  int query = tile.first_row + row - group_head * op.queries;
#pragma unroll
  for (int r = 0; r < kOwnRows; ++r) {
#pragma unroll
    for (int s = 0; s < kWindowOwnSlots; ++s) {
      const int slot = own_slot(s);
      const bool is_visible = row + r < tile.rows && (slots.flags[slot] >> group_head & 1u) != 0 &&
                              slots.position[slot] <= op.query_position + query;
      nonfinite += !is_visible || fabsf(logit[r][s]) < INFINITY ? 0 : 1;
      if (!is_visible) logit[r][s] = -INFINITY;
    }
    if (++query == op.queries) {
      query = 0;
      ++group_head;
    }
  }
  return nonfinite;
}

// exp of a logit against a maximum; 0 for a hidden slot.
__device__ __forceinline__ float window_exp(float logit, float maximum) {
  return logit == -INFINITY ? 0.0f : canonical::exp_canonical(logit - maximum);
}

}  // namespace spindlekv::cuda
