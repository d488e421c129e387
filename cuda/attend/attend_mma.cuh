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
#pragma once

#include "cuda/attend/block.cuh"
#include "cuda/attend/merge.cuh"
#include "cuda/attend/params.h"
#include "cuda/attend/slots.cuh"
#include "cuda/attend/turn.cuh"
#include "cuda/common/async_copy.cuh"
#include "cuda/common/convert.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/mma.cuh"
#include "cuda/common/reduce.cuh"

#include <cmath>

namespace spindlekv::cuda {

// ---- traits
// --------------------------------------------------------------------------------------

template <typename Elem_, int kMaxDim_, bool kTurns_>
struct MmaTraits {
  using Elem = Elem_;
  static constexpr bool kTurns = kTurns_;  // some keys are stored before RoPE
  static constexpr bool kIsHalf = std::is_same_v<Elem, f16>;
  static constexpr int kMaxDim = kMaxDim_;
  static constexpr int kWarps = kMaxDim <= 128 ? 4 : 2;
  static constexpr int kThreads = kWarps * kWarpSize;
  static constexpr int kStages = kMaxDim <= 64 ? 4 : 2;  // tiles of a warp under way
  // Blocks on an SM: registers for 3 where shared memory allows them, and no spills elsewhere.
  static constexpr int kBlocks = kTurns || kMaxDim > 128 ? 2 : 3;
  static constexpr int kTile = 16;                // slots
  static constexpr int kSteps = kMaxDim / 16;     // of 16 dims
  static constexpr int kWords = kMaxDim / 8;      // of 16 bytes in a row
  static constexpr int kParts = kIsHalf ? 2 : 3;  // that sum up to q'
  static constexpr int kDimsOfLane = kMaxDim / kWarpSize;
  static constexpr int kSlotsOfLane = kTile * kWords / kWarpSize;  // whose words a lane copies
  static constexpr int kSumPitch = kMaxDim + 8;  // floats; rows start 8 banks apart
  static_assert(kWords >= 8, "the swizzle spreads 8 rows over 8 words");
  static_assert(kTile == kBlockRows && kWarpSize == 2 * kTile);
  static_assert(!kTurns || kMaxDim <= 2 * kTurnPairs);
};

struct NoTurns {};

// What the weights need to know of a tile's slots.
struct TileSlots {
  static constexpr int kCount = 16;
  alignas(8) float key_magnitude[kCount];
  alignas(8) float value_magnitude[kCount];
  alignas(8) float beta[kCount];
  alignas(8) int position[kCount];
  alignas(8) unsigned flags[kCount];  // 0 where no row of the block sees the slot
};

// Sums of a warp over its slots.
template <typename Traits>
struct WarpResult {
  alignas(16) float acc[kBlockRows][Traits::kSumPitch];  // in units of value_scale
  float2 stats[kBlockRows];                              // maximum and sum of exponentials
  float value_scale;
};

template <typename Traits>
struct WarpRing {
  using Elem = typename Traits::Elem;
  alignas(16) Elem key[Traits::kStages][Traits::kTile][Traits::kMaxDim];
  alignas(16) Elem value[Traits::kStages][Traits::kTile][Traits::kMaxDim];
  TileSlots slots[Traits::kStages];

  // The ring is reused for what the warp ends with, and for the weights of a merge.
  __device__ WarpResult<Traits>& result() {
    return *reinterpret_cast<WarpResult<Traits>*>(&key[0][0][0]);
  }
  static_assert(2 * Traits::kStages * sizeof(Elem) * Traits::kMaxDim * Traits::kTile >=
                sizeof(WarpResult<Traits>));
};

template <typename Traits>
struct MmaShared {
  using Elem = typename Traits::Elem;
  WarpRing<Traits> ring[Traits::kWarps];
  alignas(16) Elem query[Traits::kParts][kBlockRows][Traits::kMaxDim];
  AttendRows rows;
  float row_scale[kBlockRows];  // undoes the power of two in the query as well
  std::conditional_t<Traits::kTurns, TurnTable, NoTurns> turns;
};

// Where word `word` (16 bytes) of row `row` lies in a row of a tile.
__device__ __forceinline__ int swizzled(int row, int word) { return word ^ (row & 7); }

// 2^exponent, for -126 <= exponent <= 127.
__device__ __forceinline__ float power_of_two(int exponent) {
  return __int_as_float((exponent + 127) << 23);
}

// The exponent of |x|: of 1 <= |x| < 2 it is 0.
__device__ __forceinline__ int exponent_of(float x) {
  return (__float_as_int(x) >> 23 & 0xff) - 127;
}

// How keys turn that are stored before RoPE.
struct KeyTurns {
  const SkvRope* rope;
  bool reindex;
};

// ---- queries
// -------------------------------------------------------------------------------------

// The power of two that brings a row's largest element to 2^13 (f16: far above its subnormals and
// below its end) or to 1 (bf16, whose range is that of float). 0 for zero and non-finite rows.
template <typename Traits>
__device__ __forceinline__ int row_exponent(float largest) {
  if (largest == 0.0f || !(largest <= 3.4028234e38f)) return 0;
  const int wanted = (Traits::kIsHalf ? 13 : 0) - exponent_of(largest);
  return max(-100, min(100, wanted));
}

// Splits x into parts of Elem that add up to it.
template <typename Traits>
__device__ __forceinline__ void store_parts(MmaShared<Traits>& shared, int row, int dim, float x) {
  using Elem = typename Traits::Elem;
  const int place = 8 * swizzled(row, dim / 8) + dim % 8;
#pragma unroll
  for (int part = 0; part < Traits::kParts; ++part) {
    const Elem rounded = from_float<Elem>(x);
    shared.query[part][row][place] = rounded;
    const float rest = x - to_float(rounded);
    x = rest == rest ? rest : 0.0f;  // of an infinity nothing is left
  }
}

// Queries after RoPE; zero beyond head_dim and beyond the block's rows.
template <typename Traits>
__device__ __forceinline__ void load_query_parts(const AttendArgs& args,
                                                 MmaShared<Traits>& shared) {
  for (int row = warp_id(); row < kBlockRows; row += Traits::kWarps) {
    float x[Traits::kDimsOfLane] = {};
    float largest = 0.0f;
    if (row < shared.rows.count) {
      const QueryRow source = query_row(args, shared.rows.row[row]);
#pragma unroll
      for (int i = 0; i < Traits::kDimsOfLane; ++i) {
        const int dim = lane_id() + i * kWarpSize;
        if (dim < args.head_dim) x[i] = rotated_query(source, dim);
        largest = fmaxf(largest, fabsf(x[i]));
      }
    }
    const int exponent = row_exponent<Traits>(warp_max(largest));
#pragma unroll
    for (int i = 0; i < Traits::kDimsOfLane; ++i) {
      store_parts<Traits>(shared, row, lane_id() + i * kWarpSize, x[i] * power_of_two(exponent));
    }
    if (lane_id() == 0 && row < shared.rows.count) {
      shared.row_scale[row] = shared.rows.row[row].scale * power_of_two(-exponent);
    }
  }
}

// ---- slots
// ---------------------------------------------------------------------------------------

// The run that a lane's slots lie in, so that most slots need no search. Lanes 0 to 15 read the
// keys of the 16 slots of a tile, lanes 16 to 31 the values; refs, rows and magnitudes are of
// these.
template <typename Elem>
struct RunCursor {
  int first = 0;  // slot of the head
  int end = 0;    // past the last one
  const Elem* rows = nullptr;
  const void* refs = nullptr;  // null: rows are slots
  const Elem* magnitudes = nullptr;
  const int* positions = nullptr;
  const uint16_t* mask = nullptr;
  const float* beta = nullptr;
  bool has_short_refs = false;
  bool turns = false;
};

template <typename Elem>
__device__ __forceinline__ void move_cursor(const HeadSlots& head, int slot,
                                            RunCursor<Elem>& cursor) {
  const SkvRun run = load_constant(find_run(head, slot));
  const bool is_value = lane_id() >= kWarpSize / 2;
  const bool is_codebook = run.codec != SKV_CODEC_RAW;
  cursor.first = run.slot_base;
  cursor.end = run.slot_base + run.slots;
  cursor.rows = static_cast<const Elem*>(is_value ? run.v : run.k);
  cursor.refs = !is_codebook ? nullptr : is_value ? run.v_ref : run.k_ref;
  cursor.magnitudes = static_cast<const Elem*>(is_value ? run.v_magnitude : run.k_magnitude);
  cursor.positions = run.positions;
  cursor.mask = run.mask;
  cursor.beta = run.beta;
  cursor.has_short_refs = run.ref_bytes == 2;
  cursor.turns = run.rotated == 0;
}

// What a lane read about its slot of a tile, before anything is computed from it, so that the loads
// need not have arrived.
template <typename Elem>
struct PendingSlot {
  const Elem* rows = nullptr;  // of the run
  int64_t index = 0;           // of the row among them
  Elem magnitude;              // of a codebook
  bool is_codebook = false;
  bool is_there = false;
  bool turns = false;
  unsigned mask = 0;
  int position = 0;
  float beta = 0.0f;
};

// Which slots the warps of the block take.
struct SlotStream {
  HeadSlots head;
  int first;
  int count;
};

template <typename Traits>
__device__ __forceinline__ PendingSlot<typename Traits::Elem> load_slot(
    const SlotStream& stream, int tile, RunCursor<typename Traits::Elem>& cursor) {
  using Elem = typename Traits::Elem;
  PendingSlot<Elem> pending;
  pending.magnitude = from_float<Elem>(1.0f);
  const int in_block = tile * Traits::kTile + lane_id() % Traits::kTile;
  pending.is_there = in_block < stream.count;
  if (!pending.is_there) return pending;
  const int slot = stream.first + in_block;
  if (slot >= cursor.end) move_cursor(stream.head, slot, cursor);
  const int index = slot - cursor.first;
  pending.rows = cursor.rows;
  pending.index = index;
  pending.is_codebook = cursor.refs != nullptr;
  if (pending.is_codebook) {
    pending.index = codeword_of(cursor.refs, cursor.has_short_refs ? 2 : 4, index);
    pending.magnitude = load_constant(cursor.magnitudes + index);
  }
  pending.turns = cursor.turns;
  pending.mask = cursor.mask == nullptr ? 0xffffu : load_constant(cursor.mask + index);
  pending.position = load_constant(cursor.positions + index);
  pending.beta = cursor.beta == nullptr ? 0.0f : load_constant(cursor.beta + index);
  return pending;
}

// The rows of a block together: a slot that none of them sees is not read.
struct RowsSeen {
  unsigned bits;  // of the group, that some row has
  int limit;      // the furthest
};

__device__ __forceinline__ RowsSeen rows_seen(const AttendArgs& args, const AttendRows& rows) {
  RowsSeen seen{0, INT_MIN};
  for (int row = 0; row < rows.count; ++row) {
    seen.bits |= 1u << rows.row[row].row % args.group;
    seen.limit = max(seen.limit, rows.row[row].limit);
  }
  return seen;
}

// Starts the copies of a tile into a stage; every lane commits one group. A lane copies one word of
// kSlotsOfLane rows that follow one another; words beyond head_dim become zeros.
template <typename Traits>
__device__ __forceinline__ void fetch_slots(const AttendArgs& args, const RowsSeen& seen,
                                            const PendingSlot<typename Traits::Elem>& pending,
                                            int stage, WarpRing<Traits>& ring) {
  using Elem = typename Traits::Elem;
  const bool is_seen =
      pending.is_there && (pending.mask & seen.bits) != 0 && pending.position <= seen.limit;
  const int own = lane_id() % Traits::kTile;
  const float magnitude = pending.is_codebook ? to_float(pending.magnitude) : 1.0f;
  TileSlots& slots = ring.slots[stage];
  if (lane_id() < Traits::kTile) {
    slots.key_magnitude[own] = magnitude;
    slots.position[own] = pending.position;
    slots.flags[own] = is_seen ? pending.mask | (pending.turns ? kTurnsKey : 0u) : 0u;
  } else {
    slots.value_magnitude[own] = pending.is_there ? magnitude : 0.0f;
    slots.beta[own] = pending.beta;
  }
  // Null for rows that are not read; zeros take their place, so that 0 * value is 0.
  const unsigned long long row =
      is_seen ? reinterpret_cast<uintptr_t>(pending.rows + pending.index * args.head_dim) : 0ull;
  const int word = lane_id() % Traits::kWords;
  const int first = lane_id() / Traits::kWords * Traits::kSlotsOfLane;
  const bool is_dim = 8 * word < args.head_dim;
#pragma unroll
  for (int i = 0; i < Traits::kSlotsOfLane; ++i) {
    const auto key = __shfl_sync(kAllLanes, row, first + i);
    const auto value = __shfl_sync(kAllLanes, row, first + i + Traits::kTile);
    const bool is_read = is_dim && key != 0;
    const int place = 8 * swizzled(first + i, word);
    copy_async_16_or_zero(&ring.key[stage][first + i][place],
                          reinterpret_cast<const Elem*>(key) + 8 * word, is_read);
    copy_async_16_or_zero(&ring.value[stage][first + i][place],
                          reinterpret_cast<const Elem*>(value) + 8 * word, is_read);
  }
}

// ---- logits
// --------------------------------------------------------------------------------------

// The two rows of a lane (lane / 4 and 8 more) and what it knows of them.
struct LaneRow {
  bool is_there;
  int bit;  // of the group
  int limit;
  float scale;
  float* logits;  // null: nobody asks
};

template <typename Traits>
__device__ __forceinline__ LaneRow lane_row(const AttendArgs& args, const MmaShared<Traits>& shared,
                                            int half) {
  const int row = lane_id() / 4 + 8 * half;
  if (row >= shared.rows.count) return {false, 0, INT_MIN, 0.0f, nullptr};
  const AttendRow& query = shared.rows.row[row];
  return {true, query.row % args.group, query.limit, shared.row_scale[row], logits_of(args, query)};
}

// This lane's address for ldmatrix of the query's dims [16 step, 16 step + 16).
template <typename Traits>
__device__ __forceinline__ const typename Traits::Elem* query_rows(const MmaShared<Traits>& shared,
                                                                   int part, int step) {
  const int row = lane_id() % 16;
  return &shared.query[part][row][8 * swizzled(row, 2 * step + lane_id() / 16)];
}

// The same of the keys of a tile: registers 0, 1 get slots 0 to 7, registers 2, 3 slots 8 to 15.
template <typename Traits>
__device__ __forceinline__ const typename Traits::Elem* key_rows(const WarpRing<Traits>& ring,
                                                                 int stage, int step) {
  const int slot = lane_id() / 16 * 8 + lane_id() % 8;
  return &ring.key[stage][slot][8 * swizzled(slot, 2 * step + lane_id() / 8 % 2)];
}

// dots[j][0..4) = <q[r], k[s]>: rows lane / 4 (elements 0, 1) and 8 more (2, 3), slots
// 8 j + 2 (lane % 4) + {0, 1}.
template <typename Traits>
__device__ __forceinline__ void multiply_keys(const AttendArgs& args,
                                              const MmaShared<Traits>& shared,
                                              const WarpRing<Traits>& ring, int stage,
                                              float (&dots)[2][4]) {
  using Elem = typename Traits::Elem;
#pragma unroll
  for (int step = 0; step < Traits::kSteps; ++step) {
    if (16 * step >= args.head_dim) break;
    uint32_t key[4];
    ldmatrix_x4(key, key_rows<Traits>(ring, stage, step));
    const uint32_t low[2] = {key[0], key[1]};
    const uint32_t high[2] = {key[2], key[3]};
#pragma unroll
    for (int part = 0; part < Traits::kParts; ++part) {
      uint32_t query[4];
      ldmatrix_x4(query, query_rows<Traits>(shared, part, step));
      mma_m16n8k16<Elem>(dots[0], query, low);
      mma_m16n8k16<Elem>(dots[1], query, high);
    }
  }
}

// As multiply_keys for keys that turn, and times kTurnedScale. A step of NEOX pairs comes with the
// one half the pairs on.
template <typename Traits>
__device__ __forceinline__ void multiply_turned_keys(
    const AttendArgs& args, const MmaShared<Traits>& shared, const WarpRing<Traits>& ring,
    int stage, const SkvRope& rope, const SlotTurn (&turns)[2], float (&dots)[2][4]) {
  using Elem = typename Traits::Elem;
  const int steps = (args.head_dim + 15) / 16;
  const int pairs = rope.cos_sin == nullptr ? 0 : rope.n_rot / 2;
  const int halves = rope.style == SKV_ROPE_NORM ? 0 : pairs / 16;  // steps that have a partner
  const auto load_key = [&](int step) {
    uint32_t key[4];
    ldmatrix_x4(key, key_rows<Traits>(ring, stage, step));
    return unpack_step<Elem>(key);
  };
  const auto multiply = [&](const KeyStep& key, int step) {
    multiply_parts<Elem, Traits::kParts>(
        key, [&](int part) { return query_rows<Traits>(shared, part, step); }, dots);
  };
#pragma unroll 1
  for (int step = 0; step < halves; ++step) {
    KeyStep lower = load_key(step);
    KeyStep upper = load_key(step + halves);
    turn_halves(turns, 16 * step, pairs, lower, upper);
    multiply(lower, step);
    multiply(upper, step + halves);
  }
#pragma unroll 1
  for (int step = 2 * halves; step < steps; ++step) {
    KeyStep key = load_key(step);
    turn_neighbours(turns, 16 * step, halves > 0 ? 0 : pairs, key);
    multiply(key, step);
  }
}

// Dots of a tile whose keys may be stored before RoPE.
template <typename Traits>
__device__ __forceinline__ void multiply_any_keys(const AttendArgs& args, const KeyTurns& keys,
                                                  const MmaShared<Traits>& shared,
                                                  const WarpRing<Traits>& ring, int stage,
                                                  int first_slot, float (&dots)[2][4]) {
  SlotTurn turns[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int slot = 8 * i + lane_id() / 4;
    const int position = keys.reindex ? first_slot + slot : ring.slots[stage].position[slot];
    turns[i] = slot_turn(*keys.rope, shared.turns, ring.slots[stage].flags[slot], position);
  }
  multiply_turned_keys<Traits>(args, shared, ring, stage, *keys.rope, turns, dots);
#pragma unroll
  for (int i = 0; i < 8; ++i) dots[i / 4][i % 4] *= kTurnedInverse;
}

// Maximum, sum and accumulators of a warp. A row's maximum is the same in its four lanes; its sum
// is that of the lane's own columns. acc is in units of value_scale, a power of two.
template <typename Traits>
struct WarpSums {
  float acc[2 * Traits::kSteps][4] = {};
  float maximum[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0.0f, 0.0f};
  float value_scale = Traits::kIsHalf ? 5.9604645e-8f : 1.0f;  // 2^-24, the least magnitude
};

// Dots to logits, -inf where the row does not see the slot; true if that is so for some slot that
// another row may see.
__device__ __forceinline__ bool make_logits(const LaneRow (&rows)[2], const TileSlots& slots,
                                            float (&x)[2][4]) {
  bool is_mixed = false;
#pragma unroll
  for (int j = 0; j < 2; ++j) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int slot = 8 * j + 2 * (lane_id() % 4) + c;
      const float magnitude = slots.key_magnitude[slot];
      const float beta = slots.beta[slot];
      const int position = slots.position[slot];
      const unsigned flags = slots.flags[slot];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const LaneRow& row = rows[half];
        const bool is_visible = (flags >> row.bit & 1u) != 0 && position <= row.limit;
        float& logit = x[j][2 * half + c];
        logit = is_visible ? logit * magnitude * row.scale + beta : -INFINITY;
        is_mixed |= row.is_there && !is_visible && flags != 0;
      }
    }
  }
  return is_mixed;
}

// Logits to memory, for the rows whose scores are asked for.
__device__ __forceinline__ void store_logits(const LaneRow (&rows)[2], int first_slot, int count,
                                             const float (&x)[2][4]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (rows[half].logits == nullptr) continue;
    float* target = rows[half].logits + first_slot;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int slot = 8 * (i / 2) + 2 * (lane_id() % 4) + i % 2;
      if (slot < count) target[slot] = x[i / 2][2 * half + i % 2];
    }
  }
}

// ---- weights
// -------------------------------------------------------------------------------------

// Largest power of two below the largest value magnitude of the tile, at most 2^16.
__device__ __forceinline__ float tile_value_scale(const TileSlots& slots) {
  const float own = fabsf(slots.value_magnitude[lane_id() % TileSlots::kCount]);
  const float largest = fminf(warp_max(own), 65536.0f);
  return __int_as_float(__float_as_int(largest) & 0x7f800000);
}

// Logits to weights exp(x - m); updates maxima, sums and the scale of the accumulators.
template <typename Traits>
__device__ __forceinline__ void weigh_tile(const TileSlots& slots, WarpSums<Traits>& sums,
                                           float (&x)[2][4]) {
  float rescale[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float& a = x[0][2 * half];
    float& b = x[0][2 * half + 1];
    float& c = x[1][2 * half];
    float& d = x[1][2 * half + 1];
    float maximum = fmaxf(fmaxf(a, b), fmaxf(c, d));
    maximum = fmaxf(maximum, __shfl_xor_sync(kAllLanes, maximum, 1));
    maximum = fmaxf(maximum, __shfl_xor_sync(kAllLanes, maximum, 2));
    maximum = fmaxf(maximum, sums.maximum[half]);
    const float base = maximum == -INFINITY ? 0.0f : maximum;
    rescale[half] = expf(sums.maximum[half] - base);  // 0 before the first visible slot
    sums.maximum[half] = maximum;
    a = a == -INFINITY ? 0.0f : expf(a - base);
    b = b == -INFINITY ? 0.0f : expf(b - base);
    c = c == -INFINITY ? 0.0f : expf(c - base);
    d = d == -INFINITY ? 0.0f : expf(d - base);
    sums.sum[half] = fmaf(sums.sum[half], rescale[half], (a + b) + (c + d));
  }
  float to_scale = 1.0f;
  if constexpr (Traits::kIsHalf) {
    const float scale = fmaxf(sums.value_scale, tile_value_scale(slots));
    to_scale = power_of_two(-exponent_of(scale));
    rescale[0] *= sums.value_scale * to_scale;
    rescale[1] *= sums.value_scale * to_scale;
    sums.value_scale = scale;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int slot = 8 * (i / 4) + 2 * (lane_id() % 4) + i % 2;
    float& weight = x[i / 4][i % 4];
    if (weight != 0.0f) weight *= slots.value_magnitude[slot] * to_scale;
  }
  if (__any_sync(kAllLanes, rescale[0] != 1.0f || rescale[1] != 1.0f) == 0) return;
#pragma unroll
  for (int n = 0; n < 2 * Traits::kSteps; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) sums.acc[n][i] *= rescale[i / 2];
  }
}

// ---- values
// --------------------------------------------------------------------------------------

// acc += weights * values.
template <typename Traits>
__device__ __forceinline__ void multiply_values(const AttendArgs& args,
                                                const WarpRing<Traits>& ring, int stage,
                                                const float (&weight)[2][4],
                                                WarpSums<Traits>& sums) {
  using Elem = typename Traits::Elem;
  uint32_t high[4];
  uint32_t low[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float x = weight[i / 2][i % 2 * 2];
    const float y = weight[i / 2][i % 2 * 2 + 1];
    high[i] = pack_two<Elem>(x, y);
    const float2 rounded = unpack_two<Elem>(high[i]);
    low[i] = pack_two<Elem>(x - rounded.x, y - rounded.y);
  }
  const int slot = lane_id() % 16;
#pragma unroll
  for (int step = 0; step < Traits::kSteps; ++step) {
    if (16 * step >= args.head_dim) break;
    uint32_t value[4];
    ldmatrix_x4_transposed(value,
                           &ring.value[stage][slot][8 * swizzled(slot, 2 * step + lane_id() / 16)]);
    const uint32_t first[2] = {value[0], value[1]};
    const uint32_t second[2] = {value[2], value[3]};
    mma_m16n8k16<Elem>(sums.acc[2 * step], high, first);
    mma_m16n8k16<Elem>(sums.acc[2 * step + 1], high, second);
    mma_m16n8k16<Elem>(sums.acc[2 * step], low, first);
    mma_m16n8k16<Elem>(sums.acc[2 * step + 1], low, second);
  }
}

// True if a value of the tile is infinite or NaN.
template <typename Traits>
__device__ __forceinline__ bool holds_nonfinite(const AttendArgs& args,
                                                const WarpRing<Traits>& ring, int stage) {
  constexpr unsigned kExponent = Traits::kIsHalf ? 0x7c00u : 0x7f80u;
  bool is_found = false;
  for (int word = lane_id(); word < Traits::kTile * Traits::kWords; word += kWarpSize) {
    const int slot = word / Traits::kWords;
    const int in_row = word % Traits::kWords;
    if (8 * in_row >= args.head_dim) continue;
    const uint4 packed =
        *reinterpret_cast<const uint4*>(&ring.value[stage][slot][8 * swizzled(slot, in_row)]);
    const unsigned pair[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      is_found |= (pair[i] & kExponent) == kExponent;
      is_found |= (pair[i] >> 16 & kExponent) == kExponent;
    }
  }
  return __any_sync(kAllLanes, is_found) != 0;
}

// As multiply_values, one product after the other and only where the weight is not 0.
template <typename Traits>
__device__ __forceinline__ void add_values(const AttendArgs& args, WarpRing<Traits>& ring,
                                           int stage, const float (&weight)[2][4],
                                           WarpSums<Traits>& sums) {
  // The keys of the stage have been used.
  auto* table = reinterpret_cast<float (*)[Traits::kTile]>(&ring.key[stage][0][0]);
  static_assert(sizeof(ring.key[0]) >= sizeof(float) * Traits::kTile * kBlockRows);
  const int row = lane_id() / 4;
  const int column = 2 * (lane_id() % 4);
  __syncwarp();
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    table[row + i % 4 / 2 * 8][8 * (i / 4) + column + i % 2] = weight[i / 4][i % 4];
  }
  __syncwarp();
  for (int slot = 0; slot < Traits::kTile; ++slot) {
    const float upper = table[row][slot];
    const float lower = table[row + 8][slot];
#pragma unroll
    for (int n = 0; n < 2 * Traits::kSteps; ++n) {
      if (8 * n >= args.head_dim) break;
      const uint32_t packed = *reinterpret_cast<const uint32_t*>(
          &ring.value[stage][slot][8 * swizzled(slot, n) + column]);
      const float2 value = unpack_two<typename Traits::Elem>(packed);
      float (&acc)[4] = sums.acc[n];
      if (upper != 0.0f) acc[0] = fmaf(upper, value.x, acc[0]);
      if (upper != 0.0f) acc[1] = fmaf(upper, value.y, acc[1]);
      if (lower != 0.0f) acc[2] = fmaf(lower, value.x, acc[2]);
      if (lower != 0.0f) acc[3] = fmaf(lower, value.y, acc[3]);
    }
  }
}

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
    for (int dim = lane_id(); dim < args.head_dim; dim += kWarpSize) {
      float total = 0.0f;
#pragma unroll
      for (int warp = 0; warp < Traits::kWarps; ++warp) {
        const float part = shared.ring[warp].result().acc[row][dim];
        total = weight[warp] == 0.0f ? total : fmaf(part, weight[warp], total);
      }
      target[dim] = total;
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
