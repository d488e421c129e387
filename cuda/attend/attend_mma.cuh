// attend for f16 and bf16 data on tensor cores: partial softmax-weighted sums of one split of the
// slots of one KV head.
//   m = max_s x[r,s], l = sum_s exp(x[r,s] - m), acc[r] = sum_s exp(x[r,s] - m) v[s]
//   x[r,s] = scale * <q'[r], k'[s]> + beta[s] over the visible slots of the split
// Block = (row tile, split), see params.h; a tile has 16 rows, so a key or value byte is read once
// for 16 of them, and fewer rows cost no more. Each warp goes its own way: it takes every n-th tile
// of 16 slots through its own cp.async ring (K and V, 16 bytes a copy, swizzled), keeps its own
// maxima, sums and 16 x D accumulators, and meets the others only at the end of the split. No
// barrier of the block stands in the loop.
//
// S = Q K^T: ldmatrix and mma.m16n8k16. Keys (codewords for a codebook, whose magnitude is applied
// to S) are exact in 16 bits; q' is the sum of parts that are, 2 of f16 or 3 of bf16, after scaling
// the row by a power of two into f16's range. O = P V: p is the sum of 2 parts. So logits have the
// error of float32 sums, and p at most 2^-16 of its own.
// A slot that no row of the tile sees is not read. Where some see it and others do not, a NaN in
// its value would spread through 0 * NaN; such tiles, once found, are added element by element.
//
// Bytes: slots * D * 4, and (D + 2) * 4 a row and split. For 16 slots of D = 128 and f16 a warp
// issues 32 LDSM, 64 HMMA and 16 LDGSTS in some 1000 instructions for 8 KiB (read off the machine
// code for sm_90a: a loop of 1500, of which 500 are seldom run): on an SM that issues 4 a cycle 33
// bytes a cycle, where an H100 delivers 13.4 (3.0 TB/s, 132 SMs, 1.7 GHz). Memory-bound by that
// count; 16 KiB a warp are on their way while it waits.
// Keys before RoPE turn on the way (turn.cuh), in kernels of their own.
// Long runs of references are not read here but through their codewords: codebook.h.
#pragma once

#include "cuda/attend/block.cuh"
#include "cuda/attend/merge.cuh"
#include "cuda/attend/mma_sums.cuh"
#include "cuda/attend/mma_tile.cuh"
#include "cuda/attend/params.h"
#include "cuda/attend/turn.cuh"
#include "cuda/common/async_copy.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/reduce.cuh"

#include <cmath>

namespace spindlekv::cuda {

// ---- end of a split
// ------------------------------------------------------------------------------

// A warp's sums to its ring, which it no longer needs.
template <typename Traits>
__device__ __forceinline__ void store_warp_sums(const WarpSums<Traits>& sums,
                                                MmaShared<Traits>& shared) {
  WarpResult<Traits>& result = shared.ring[warp_id()].result();
  const int row = lane_id() / 4;
  const int column = 2 * (lane_id() % 4);
#pragma unroll
  for (int n = 0; n < 2 * Traits::kSteps; ++n) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      *reinterpret_cast<float2*>(&result.acc[row + 8 * half][8 * n + column]) =
          make_float2(sums.acc[n][2 * half], sums.acc[n][2 * half + 1]);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum = sums.sum[half] + __shfl_xor_sync(kAllLanes, sums.sum[half], 1);
    sum += __shfl_xor_sync(kAllLanes, sum, 2);
    if (lane_id() % 4 == 0) {
      result.stats[row + 8 * half] = make_float2(sums.maximum[half], sum);
    }
  }
  if (lane_id() == 0) result.value_scale = sums.value_scale;
}

// Adds the warps' sums in their order and writes the partials of the block's rows.
template <typename Traits>
__device__ __forceinline__ void store_block_partials(const AttendArgs& args,
                                                     const AttendBlock& block,
                                                     MmaShared<Traits>& shared) {
  for (int row = warp_id(); row < shared.rows.count; row += Traits::kWarps) {
    float maximum = -INFINITY;
#pragma unroll
    for (int warp = 0; warp < Traits::kWarps; ++warp) {
      maximum = fmaxf(maximum, shared.ring[warp].result().stats[row].x);
    }
    float weight[Traits::kWarps];
    float sum = 0.0f;
#pragma unroll
    for (int warp = 0; warp < Traits::kWarps; ++warp) {
      const float2 stats = shared.ring[warp].result().stats[row];
      weight[warp] = stats.y == 0.0f ? 0.0f : expf(stats.x - maximum);
      sum = fmaf(stats.y, weight[warp], sum);
      weight[warp] *= shared.ring[warp].result().value_scale;
    }
    const int64_t partial = partial_index(args, shared.rows.row[row], block.partial);
    float* target = args.partial_acc + partial * args.head_dim;
#pragma unroll 1
    for (int dim = 4 * lane_id(); dim < args.head_dim; dim += 4 * kWarpSize) {
      float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
      for (int warp = 0; warp < Traits::kWarps; ++warp) {
        if (weight[warp] == 0.0f) continue;
        const float4 part =
            *reinterpret_cast<const float4*>(&shared.ring[warp].result().acc[row][dim]);
        total.x = fmaf(part.x, weight[warp], total.x);
        total.y = fmaf(part.y, weight[warp], total.y);
        total.z = fmaf(part.z, weight[warp], total.z);
        total.w = fmaf(part.w, weight[warp], total.w);
      }
      *reinterpret_cast<float4*>(target + dim) = total;
    }
    if (lane_id() == 0) args.partial_stats[partial] = make_float2(maximum, sum);
  }
}

// ---- kernel
// --------------------------------------------------------------------------------------

template <typename Traits>
__device__ __forceinline__ void attend_tile(const AttendArgs& args, const SlotStream& stream,
                                            const KeyTurns& keys, const LaneRow (&rows)[2],
                                            int tile, int stage, MmaShared<Traits>& shared,
                                            WarpSums<Traits>& sums) {
  WarpRing<Traits>& ring = shared.ring[warp_id()];
  float x[2][4] = {};
  const int first = tile * Traits::kTile;
  const bool is_seen =
      __any_sync(kAllLanes, ring.slots[stage].flags[lane_id() % Traits::kTile] != 0) != 0;
  if (!is_seen) {
    // nothing to multiply
  } else if constexpr (Traits::kTurns) {
    multiply_any_keys<Traits>(args, keys, shared, ring, stage, stream.first + first, x);
  } else {
    multiply_keys<Traits>(args, shared, ring, stage, x);
  }
  const bool is_mixed = make_logits(rows, ring.slots[stage], x);
  store_logits(rows, stream.first + first, stream.count - first, x);
  weigh_tile<Traits>(ring.slots[stage], sums, x);
  if (!is_seen) return;
  if (__any_sync(kAllLanes, is_mixed) != 0 && holds_nonfinite<Traits>(args, ring, stage)) {
    add_values<Traits>(args, ring, stage, x, sums);
  } else {
    multiply_values<Traits>(args, ring, stage, x, sums);
  }
}

// This warp's tiles of the split: tile warp, warp + kWarps and so on. The first one's slots have
// been looked up.
template <typename Traits>
__device__ __forceinline__ void attend_tiles(const AttendArgs& args, const SlotStream& stream,
                                             const KeyTurns& keys,
                                             RunCursor<typename Traits::Elem> cursor,
                                             PendingSlot<typename Traits::Elem> pending,
                                             MmaShared<Traits>& shared, WarpSums<Traits>& sums) {
  const LaneRow rows[2] = {lane_row<Traits>(args, shared, 0), lane_row<Traits>(args, shared, 1)};
  const RowsSeen seen = rows_seen(args, shared.rows);
  WarpRing<Traits>& ring = shared.ring[warp_id()];
  const int tiles = (stream.count + Traits::kTile - 1) / Traits::kTile;
#pragma unroll
  for (int stage = 0; stage < Traits::kStages; ++stage) {
    const int tile = warp_id() + stage * Traits::kWarps;
    if (tile < tiles) fetch_slots<Traits>(args, seen, pending, stage, ring);
    copy_async_commit();
    pending = load_slot<Traits>(stream, tile + Traits::kWarps, cursor);
  }
  int stage = 0;
  for (int tile = warp_id(); tile < tiles; tile += Traits::kWarps) {
    copy_async_wait<Traits::kStages - 1>();
    __syncwarp();  // the tile has landed for all lanes, and its attributes
    attend_tile<Traits>(args, stream, keys, rows, tile, stage, shared, sums);
    __syncwarp();  // all lanes are done with the stage
    const int next = tile + Traits::kStages * Traits::kWarps;
    if (next < tiles) fetch_slots<Traits>(args, seen, pending, stage, ring);
    copy_async_commit();
    pending = load_slot<Traits>(stream, next + Traits::kWarps, cursor);
    stage = (stage + 1) % Traits::kStages;
  }
  copy_async_wait<0>();
}

template <typename Traits>
__global__ __launch_bounds__(Traits::kThreads,
                             Traits::kBlocks) void attend_mma_kernel(const AttendArgs args) {
  SKV_DYNAMIC_SHARED(memory, MmaShared<Traits>);
  MmaShared<Traits>& shared = *memory;
  const AttendBlock block = attend_block(args);
  // The first tile's slots are looked up while the rows are.
  const SlotStream stream{slots_of_block(args, block), block.first_slot, block.slots};
  RunCursor<typename Traits::Elem> cursor;
  const auto pending = load_slot<Traits>(stream, warp_id(), cursor);
  load_rows(args, block, shared.rows);
  __syncthreads();
  load_query_parts<Traits>(args, shared);
  const SkvAttendParams& op = item_of_keys(args, shared.rows).op;
  const SkvRope rope = op.rope;
  const KeyTurns keys{&rope, op.reindex != 0};
  if constexpr (Traits::kTurns) load_turns<Traits::kThreads>(rope, shared.turns);
  __syncthreads();

  WarpSums<Traits> sums;
  attend_tiles<Traits>(args, stream, keys, cursor, pending, shared, sums);

  // reduce, store, and merge if this was the last split
  __syncwarp();  // the ring is reused
  store_warp_sums<Traits>(sums, shared);
  __syncthreads();
  store_block_partials<Traits>(args, block, shared);
  finish_block<Traits::kThreads>(args, block, shared.rows, &shared.ring[0].result().acc[0][0]);
}

// ---- launch
// --------------------------------------------------------------------------------------

template <typename Traits>
Status launch_attend_mma(const AttendArgs& args, int64_t blocks, cudaStream_t stream) {
  return launch<attend_mma_kernel<Traits>>("attend", {blocks}, dim3(Traits::kThreads),
                                           sizeof(MmaShared<Traits>), stream, args);
}

}  // namespace spindlekv::cuda
