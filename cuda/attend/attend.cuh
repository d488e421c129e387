// attend for f32 data and wide heads: partial softmax-weighted sums of one split of the slots of
// one KV head, by FMA.
//   m = max_s x[r,s], l = sum_s exp(x[r,s] - m), acc[r] = sum_s exp(x[r,s] - m) v[s]
//   x[r,s] = scale * <q'[r], k'[s]> + beta[s] over the visible slots of the split
// Block = (row tile, split), see params.h; a tile holds all query heads of the group, so a key or
// value byte is read once for the group. Rows of K and V (codewords for a codebook) come through a
// two-stage cp.async ring, 16 bytes a copy.
// Scores: a warp owns kWarpSlots slots, kLanes lanes share a key, 8 dims a lane and vector.
// Statistics: a warp owns rows. Sums: a lane owns 8 dims of 4 rows over every n-th slot.
// Memory-bound at few queries: reads slots * D * 2 elements, writes (D + 2) floats a row and split.
// Technique: split decoding with ordered merge (arXiv 2311.01282 and the FlashAttention line).
// Not here: tensor cores; skipping single tiles (a table nobody sees is skipped).
#pragma once

#include "core/canonical.h"

#include "cuda/attend/block.cuh"
#include "cuda/attend/merge.cuh"
#include "cuda/attend/params.h"
#include "cuda/attend/slots.cuh"
#include "cuda/common/async_copy.cuh"
#include "cuda/common/convert.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/reduce.cuh"
#include "cuda/rope/rotate.cuh"

#include <cmath>

namespace spindlekv::cuda {

// Slots whose addresses and attributes are in shared memory at once.
inline constexpr int kTableSlots = 128;

// ---- traits
// --------------------------------------------------------------------------------------

template <typename Elem_, int kLanes_, int kVecs_>
struct AttendTraits {
  using Elem = Elem_;
  static constexpr int kThreads = 128;
  static constexpr int kWarps = kThreads / kWarpSize;
  static constexpr int kBlocks = 2;  // on an SM; left to itself, ptxas saves registers and spills
  static constexpr int kLanes = kLanes_;  // lanes that share a row of K or V
  static constexpr int kVecs = kVecs_;    // vectors of 8 dims a lane holds of it
  static constexpr int kMaxDim = 8 * kLanes * kVecs;
  static constexpr int kSideBySide = kWarpSize / kLanes;  // rows a warp reads at once
  // A stage of K or V takes at most 8 KiB, so that two blocks fit in the 100 KiB of sm_86.
  static constexpr int kFittingSlots = 8192 / (kMaxDim * static_cast<int>(sizeof(Elem)));
  static constexpr int kTileSlots = kFittingSlots > 32 ? 32 : kFittingSlots;
  static constexpr int kWarpSlots = kTileSlots / kWarps;
  static constexpr int kBatch = kWarpSlots / kSideBySide;  // keys a lane holds at once
  static constexpr int kRowChunk = 4;                      // rows in registers at once
  static constexpr int kWeightPitch = kBlockRows + 4;      // floats; keeps float4 alignment
  static constexpr int kScores = kRowChunk * kBatch;       // dot products of a lane and chunk
  static_assert(kBatch >= 1 && kScores <= kLanes, "a lane group reduces to one score a lane");
  static_assert(kTableSlots % kTileSlots == 0 && kTileSlots <= kWarpSize);
};

template <typename Traits>
struct AttendShared {
  using Elem = typename Traits::Elem;
  // After the last tile the four tiles are reused for the sums of the warps.
  alignas(16) Elem key[2][Traits::kTileSlots][Traits::kMaxDim];
  alignas(16) Elem value[2][Traits::kTileSlots][Traits::kMaxDim];
  alignas(16) float weight[Traits::kTileSlots][Traits::kWeightPitch];  // dots, then weights
  float rescale[kBlockRows];
  AttendRows rows;
  const Elem* key_row[kTableSlots];
  const Elem* value_row[kTableSlots];
  float key_magnitude[kTableSlots];
  float value_magnitude[kTableSlots];
  float beta[kTableSlots];
  int position[kTableSlots];
  unsigned flags[kTableSlots];

  __device__ float* sums() { return reinterpret_cast<float*>(&key[0][0][0]); }
  // Behind the struct: as many rows as the block has.
  __device__ auto* queries() { return reinterpret_cast<float (*)[Traits::kMaxDim]>(this + 1); }
  static_assert(sizeof(Elem) * 4 * Traits::kTileSlots >= sizeof(float) * kBlockRows,
                "the sums of the warps fit in the tiles");
};

template <typename Traits>
size_t attend_shared_bytes(int rows) {
  return sizeof(AttendShared<Traits>) + sizeof(float) * Traits::kMaxDim * static_cast<size_t>(rows);
}

// ---- helpers
// -------------------------------------------------------------------------------------

// Part of a block's slots: what the table in shared memory holds.
struct SlotRange {
  int first;  // among the slots of the head
  int count;
};

// Writes what the block needs to know of its slots; true if some row may see this thread's slots.
template <typename Traits>
__device__ __forceinline__ bool load_slots(const AttendArgs& args, const AttendBlock& block,
                                           const SlotRange& range, AttendShared<Traits>& shared) {
  const HeadSlots head = slots_of_block(args, block);
  bool is_seen = false;
  for (int slot = static_cast<int>(threadIdx.x); slot < range.count; slot += Traits::kThreads) {
    const SkvRun run = load_constant(find_run(head, range.first + slot));
    const int index = range.first + slot - run.slot_base;
    const auto key = key_row<typename Traits::Elem>(run, index, args.head_dim);
    const auto value = value_row<typename Traits::Elem>(run, index, args.head_dim);
    const unsigned flags = slot_flags(run, index);
    const int position = slot_position(run, index);
    shared.key_row[slot] = key.row;
    shared.key_magnitude[slot] = key.magnitude;
    shared.value_row[slot] = value.row;
    shared.value_magnitude[slot] = value.magnitude;
    shared.beta[slot] = slot_beta(run, index);
    shared.position[slot] = position;
    shared.flags[slot] = flags;
    for (int row = 0; row < shared.rows.count; ++row) {
      is_seen |= sees(shared.rows.row[row], args.group, flags, position);
    }
  }
  return is_seen;
}

// Starts the copies of tile `tile` into its stage; every thread commits one group.
template <typename Traits>
__device__ __forceinline__ void fetch_tile(int tile, int slots, int head_dim,
                                           AttendShared<Traits>& shared) {
  using Elem = typename Traits::Elem;
  constexpr int kWordElems = 16 / static_cast<int>(sizeof(Elem));
  constexpr int kWords = Traits::kMaxDim / kWordElems;
  const int first = tile * Traits::kTileSlots;
  const int count = min(Traits::kTileSlots, slots - first);
  for (int word = static_cast<int>(threadIdx.x); word < count * kWords; word += Traits::kThreads) {
    const int slot = word / kWords;
    const int dim = word % kWords * kWordElems;
    if (dim >= head_dim) continue;
    copy_async_16(&shared.key[tile % 2][slot][dim], shared.key_row[first + slot] + dim);
    copy_async_16(&shared.value[tile % 2][slot][dim], shared.value_row[first + slot] + dim);
  }
  copy_async_commit();
}

// The keys of one lane: kBatch slots of its warp's part of the tile, after RoPE.
template <typename Traits>
__device__ __forceinline__ void load_keys(const AttendArgs& args, const SlotRange& range, int tile,
                                          const AttendShared<Traits>& shared,
                                          float (&key)[Traits::kBatch][Traits::kVecs][8]) {
  const SkvAttendParams& op = item_of_keys(args, shared.rows).op;
#pragma unroll
  for (int b = 0; b < Traits::kBatch; ++b) {
    const int in_tile =
        warp_id() * Traits::kWarpSlots + b * Traits::kSideBySide + lane_id() / Traits::kLanes;
    const int slot = tile * Traits::kTileSlots + in_tile;
    const bool is_there = slot < range.count;
    const float2* turn = nullptr;
    if (is_there && (shared.flags[slot] & kTurnsKey) != 0) {
      turn = turn_at(op.rope, op.reindex != 0 ? range.first + slot : shared.position[slot]);
    }
    const ScaledRow<typename Traits::Elem> row{shared.key[tile % 2][in_tile], 1.0f};
#pragma unroll
    for (int v = 0; v < Traits::kVecs; ++v) {
      const int dim = 8 * (v * Traits::kLanes + lane_id() % Traits::kLanes);
#pragma unroll
      for (int i = 0; i < 8; ++i) key[b][v][i] = 0.0f;
      if (is_there && dim < op.head_dim) {
        rotated_eight(row, dim, turn, op.rope.n_rot, op.rope.style, key[b][v]);
      }
    }
  }
}

// weight[slot][row] = <q'[row], codeword or key row of slot> for the warp's slots.
template <typename Traits>
__device__ __forceinline__ void score_tile(const AttendArgs& args, const SlotRange& range, int tile,
                                           AttendShared<Traits>& shared) {
  float key[Traits::kBatch][Traits::kVecs][8];
  load_keys<Traits>(args, range, tile, shared, key);
  const int lane = lane_id() % Traits::kLanes;
  for (int chunk = 0; chunk < shared.rows.count; chunk += Traits::kRowChunk) {
    float score[Traits::kScores];
#pragma unroll
    for (int i = 0; i < Traits::kScores; ++i) score[i] = 0.0f;
#pragma unroll
    for (int r = 0; r < Traits::kRowChunk; ++r) {
      if (chunk + r >= shared.rows.count) break;
#pragma unroll
      for (int v = 0; v < Traits::kVecs; ++v) {
        float query[8];
        load8(shared.queries()[chunk + r] + 8 * (v * Traits::kLanes + lane), query);
#pragma unroll
        for (int b = 0; b < Traits::kBatch; ++b) {
          float& dot = score[r * Traits::kBatch + b];
#pragma unroll
          for (int i = 0; i < 8; ++i) dot = fmaf(query[i], key[b][v][i], dot);
        }
      }
    }
    transpose_sum<Traits::kScores, Traits::kLanes>(score);
    constexpr int kOwners = Traits::kLanes / Traits::kScores;  // lanes with the same sum
    const int row = chunk + lane / kOwners / Traits::kBatch;
    const int in_tile = warp_id() * Traits::kWarpSlots +
                        lane / kOwners % Traits::kBatch * Traits::kSideBySide +
                        lane_id() / Traits::kLanes;
    if (lane % kOwners == 0) shared.weight[in_tile][row] = score[0];
  }
}

// Maximum and sum of a row so far; every lane of the row's warp has them.
struct RowStats {
  float maximum = -INFINITY;
  float sum = 0.0f;
};

// Turns the dots of one row and tile into weights exp(x - m) and updates the row's statistics.
template <typename Traits>
__device__ __forceinline__ void weigh_row(const AttendArgs& args, const SlotRange& range, int tile,
                                          int row, AttendShared<Traits>& shared, RowStats& stats) {
  const AttendRow& query = shared.rows.row[row];
  const int in_tile = lane_id();
  const int slot = tile * Traits::kTileSlots + in_tile;
  const bool is_there = in_tile < Traits::kTileSlots && slot < range.count;
  float logit = -INFINITY;
  if (is_there) {
    if (sees(query, args.group, shared.flags[slot], shared.position[slot])) {
      const float dot = shared.weight[in_tile][row];
      logit = dot * shared.key_magnitude[slot] * query.scale + shared.beta[slot];
    }
    float* logits = logits_of(args, query);
    if (logits != nullptr) logits[range.first + slot] = logit;
  }
  const float maximum = fmaxf(stats.maximum, warp_max(logit));
  const float base = maximum == -INFINITY ? 0.0f : maximum;
  const float weight = logit == -INFINITY ? 0.0f : expf(logit - base);
  const float rescale = expf(stats.maximum - base);  // 0 before the first visible slot
  stats.sum = fmaf(stats.sum, rescale, warp_sum(weight));
  stats.maximum = maximum;
  if (is_there) shared.weight[in_tile][row] = weight * shared.value_magnitude[slot];
  if (in_tile == 0) shared.rescale[row] = rescale;
}

// How the warps share the weighted sum: by chunks of rows first, then by slots.
struct SumShare {
  int row_warps;   // 1, 2 or 4
  int slot_warps;  // kWarps / row_warps
  int chunk;       // first row of this warp
  int slot_warp;
};

template <typename Traits>
__device__ __forceinline__ SumShare sum_share(int rows) {
  SumShare share;
  share.row_warps = rows <= Traits::kRowChunk ? 1 : rows <= 2 * Traits::kRowChunk ? 2 : 4;
  share.slot_warps = Traits::kWarps / share.row_warps;
  share.chunk = warp_id() % share.row_warps * Traits::kRowChunk;
  share.slot_warp = warp_id() / share.row_warps;
  return share;
}

// acc[r][d] = acc[r][d] * rescale + sum over the lane's slots of weight * value. A slot of weight 0
// (hidden, or too small) is not added, so a NaN in it stays where it is.
template <typename Traits>
__device__ __forceinline__ void accumulate_tile(const SlotRange& range, const SumShare& share,
                                                int tile, int head_dim,
                                                const AttendShared<Traits>& shared,
                                                float (&acc)[Traits::kRowChunk][Traits::kVecs][8]) {
  const int count = min(Traits::kTileSlots, range.count - tile * Traits::kTileSlots);
  const int first = share.slot_warp * Traits::kSideBySide + lane_id() / Traits::kLanes;
  const int step = share.slot_warps * Traits::kSideBySide;
#pragma unroll
  for (int r = 0; r < Traits::kRowChunk; ++r) {
    const float rescale =
        share.chunk + r < shared.rows.count ? shared.rescale[share.chunk + r] : 0.0f;
#pragma unroll
    for (int i = 0; i < Traits::kVecs * 8; ++i) acc[r][i / 8][i % 8] *= rescale;
  }
  for (int slot = first; slot < count; slot += step) {
    const float4 packed = *reinterpret_cast<const float4*>(&shared.weight[slot][share.chunk]);
    const float weight[Traits::kRowChunk] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int v = 0; v < Traits::kVecs; ++v) {
      const int dim = 8 * (v * Traits::kLanes + lane_id() % Traits::kLanes);
      if (dim >= head_dim) continue;
      float value[8];
      load8(&shared.value[tile % 2][slot][dim], value);
#pragma unroll
      for (int r = 0; r < Traits::kRowChunk; ++r) {
        if (share.chunk + r >= shared.rows.count || weight[r] == 0.0f) continue;
#pragma unroll
        for (int i = 0; i < 8; ++i) acc[r][v][i] = fmaf(weight[r], value[i], acc[r][v][i]);
      }
    }
  }
}

// Sums of one warp over its side-by-side lane groups, to shared memory as [slot warp][row][dim].
template <typename Traits>
__device__ __forceinline__ void store_warp_sums(const SumShare& share,
                                                float (&acc)[Traits::kRowChunk][Traits::kVecs][8],
                                                float* sums) {
  const int row = (share.slot_warp * share.row_warps * Traits::kRowChunk) + share.chunk;
#pragma unroll
  for (int r = 0; r < Traits::kRowChunk; ++r) {
#pragma unroll
    for (int v = 0; v < Traits::kVecs; ++v) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
#pragma unroll
        for (int n = kWarpSize / 2; n >= Traits::kLanes; n /= 2) {
          acc[r][v][i] += __shfl_xor_sync(kAllLanes, acc[r][v][i], n);
        }
      }
      const int dim = 8 * (v * Traits::kLanes + lane_id() % Traits::kLanes);
      if (lane_id() < Traits::kLanes) store8(sums + (row + r) * Traits::kMaxDim + dim, acc[r][v]);
    }
  }
}

// Adds the slot warps in order and writes the block's partial sums.
template <typename Traits>
__device__ __forceinline__ void store_partials(const AttendArgs& args, const AttendBlock& block,
                                               const SumShare& share, const AttendRows& rows,
                                               const float* sums) {
  const int sum_rows = share.row_warps * Traits::kRowChunk;
  for (int row = warp_id(); row < rows.count; row += Traits::kWarps) {
    const int64_t partial = partial_index(args, rows.row[row], block.partial);
    float* target = args.partial_acc + partial * args.head_dim;
    for (int dim = lane_id(); dim < args.head_dim; dim += kWarpSize) {
      float sum = 0.0f;
      for (int warp = 0; warp < share.slot_warps; ++warp) {
        sum += sums[(warp * sum_rows + row) * Traits::kMaxDim + dim];
      }
      target[dim] = sum;
    }
  }
}

// The range is hidden from all rows of the block.
__device__ __forceinline__ void store_hidden(const AttendArgs& args, const SlotRange& range,
                                             const AttendRows& rows) {
  for (int row = warp_id(); row < rows.count; row += static_cast<int>(blockDim.x) / kWarpSize) {
    float* logits = logits_of(args, rows.row[row]);
    if (logits == nullptr) continue;
    for (int slot = lane_id(); slot < range.count; slot += kWarpSize) {
      logits[range.first + slot] = -INFINITY;
    }
  }
}

// ---- kernel
// --------------------------------------------------------------------------------------

template <typename Traits>
__global__ __launch_bounds__(Traits::kThreads,
                             Traits::kBlocks) void attend_split_kernel(const AttendArgs args) {
  SKV_DYNAMIC_SHARED(memory, AttendShared<Traits>);
  AttendShared<Traits>& shared = *memory;
  const AttendBlock block = attend_block(args);
  load_rows(args, block, shared.rows);
  __syncthreads();
  load_queries<Traits::kWarps, Traits::kMaxDim>(args, shared.rows, shared.queries());

  constexpr int kRowsOfWarp = kBlockRows / Traits::kWarps;
  RowStats stats[kRowsOfWarp];
  float acc[Traits::kRowChunk][Traits::kVecs][8] = {};
  const SumShare share = sum_share<Traits>(shared.rows.count);
  for (int done = 0; done < block.slots; done += kTableSlots) {
    const SlotRange range{block.first_slot + done, min(kTableSlots, block.slots - done)};
    // load: the slots' attributes, then the first tile
    __syncthreads();  // the table of before was read
    if (__syncthreads_or(load_slots<Traits>(args, block, range, shared)) == 0) {
      store_hidden(args, range, shared.rows);
      continue;
    }
    fetch_tile<Traits>(0, range.count, args.head_dim, shared);
    const int tiles = (range.count + Traits::kTileSlots - 1) / Traits::kTileSlots;
    for (int tile = 0; tile < tiles; ++tile) {
      copy_async_wait<0>();
      __syncthreads();  // tile landed; everybody has finished the stage that is filled next
      if (tile + 1 < tiles) fetch_tile<Traits>(tile + 1, range.count, args.head_dim, shared);

      // compute: dots, weights, weighted sums
      score_tile<Traits>(args, range, tile, shared);
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kRowsOfWarp; ++i) {
        const int row = warp_id() + i * Traits::kWarps;
        if (row < shared.rows.count) weigh_row<Traits>(args, range, tile, row, shared, stats[i]);
      }
      __syncthreads();
      accumulate_tile<Traits>(range, share, tile, args.head_dim, shared, acc);
    }
  }

  // reduce, store, and merge if this was the last split
  __syncthreads();  // the tiles are reused
  store_warp_sums<Traits>(share, acc, shared.sums());
  __syncthreads();
  store_partials<Traits>(args, block, share, shared.rows, shared.sums());
#pragma unroll
  for (int i = 0; i < kRowsOfWarp; ++i) {
    const int row = warp_id() + i * Traits::kWarps;
    if (row >= shared.rows.count || lane_id() != 0) continue;
    args.partial_stats[partial_index(args, shared.rows.row[row], block.partial)] =
        make_float2(stats[i].maximum, stats[i].sum);
  }
  finish_block<Traits::kThreads>(args, block, shared.rows, shared.sums());
}

// ---- launch
// --------------------------------------------------------------------------------------

template <typename Traits>
Status launch_attend_split(const AttendArgs& args, int64_t blocks, cudaStream_t stream) {
  return launch<attend_split_kernel<Traits>>("attend", {blocks}, dim3(Traits::kThreads),
                                             attend_shared_bytes<Traits>(kBlockRows), stream, args);
}

}  // namespace spindlekv::cuda
