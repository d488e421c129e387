// What the tensor core kernels of attend share of a tile: its size, the shared memory of a warp's
// ring of tiles, the queries in parts, and how a tile's slots are looked up and their rows copied.
// A ring's stage holds 16 rows of K and 16 of V (codewords for a codebook), each of kMaxDim
// elements, whose 16-byte words are permuted by row so that ldmatrix meets no bank twice. Loads of
// a slot's attributes are used a tile later than they are issued, so that none is waited for.
#pragma once

#include "cuda/attend/block.cuh"
#include "cuda/attend/params.h"
#include "cuda/attend/slots.cuh"
#include "cuda/attend/turn.cuh"
#include "cuda/common/async_copy.cuh"
#include "cuda/common/convert.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/reduce.cuh"

#include <cmath>

namespace spindlekv::cuda {

// ---- traits
// --------------------------------------------------------------------------------------

// The ring of a block takes 64 KiB of shared memory. sm_120 has 100 KiB on an SM: registers for
// more than one block would be saved for nothing.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
inline constexpr int kMostBlocks = 2;
#else
inline constexpr int kMostBlocks = 3;
#endif

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
  static constexpr int kBlocks = kTurns || kMaxDim > 128 ? 2 : kMostBlocks;
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

// Dims lane, lane + 32 and so on of a row's query after RoPE; zero beyond head_dim.
template <int kDims>
__device__ __forceinline__ void load_query_dims(const AttendArgs& args, const AttendRow& row,
                                                float (&x)[kDims]) {
  const QueryRow source = query_row(args, row);
#pragma unroll
  for (int i = 0; i < kDims; ++i) {
    const int dim = lane_id() + i * kWarpSize;
    x[i] = dim < args.head_dim ? rotated_query(source, dim) : 0.0f;
  }
}

template <int kDims>
__device__ __forceinline__ float largest_of(const float (&x)[kDims]) {
  float largest = 0.0f;
#pragma unroll
  for (int i = 0; i < kDims; ++i) largest = fmaxf(largest, fabsf(x[i]));
  return warp_max(largest);
}

// Queries after RoPE; zero beyond head_dim and beyond the block's rows.
template <typename Traits>
__device__ __forceinline__ void load_query_parts(const AttendArgs& args,
                                                 MmaShared<Traits>& shared) {
  for (int row = warp_id(); row < kBlockRows; row += Traits::kWarps) {
    float x[Traits::kDimsOfLane] = {};
    if (row < shared.rows.count) load_query_dims(args, shared.rows.row[row], x);
    const int exponent = row_exponent<Traits>(largest_of(x));
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

}  // namespace spindlekv::cuda
