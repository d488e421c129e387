// attend over a codebook run, keys before RoPE: a codeword row a slot, turned in registers.
//   angle(p) = angle(B b) + angle(r), p = B b + r, B = 64 for head dims up to 128
//   <R(p) k, q> = <R(r) k, R(-B b) q>
// kLanes lanes share a slot, 8 dims each, both halves of 4 pairs. Their queries are turned back by
// B b in registers whenever the block of positions changes, once for up to B slots; a codeword is
// turned on by r with the sines and cosines of r < B in shared memory, 4 FMA a pair for 4 rows.
// A lane group takes slots that follow one another; the references of kLanes of them are read at
// once, and 4 rows are on their way while it computes.
// Bytes: D elements a slot out of L2, where the codewords are. About 45 instructions of a warp a
// slot at D = 128 and 4 rows: issue and L2 are balanced. Source: rows of the table compose
// (core/rope_table.h). Not here: tables of unequal steps.
#pragma once

#include "core/canonical.h"

#include "cuda/attend/codebook_block.cuh"
#include "cuda/common/launch.h"

namespace spindlekv::cuda {

inline constexpr int kTurnedThreads = 256;

template <typename Traits>
struct TurnedShared {
  static constexpr int kPairs = Traits::kMaxDim / 2;
  static constexpr int kPositions = Traits::kMaxDim <= 128 ? 64 : 32;  // B
  // Cosine and sine of r over the magnitude. Pair 4 l + i of lane l lies at [i / 2][l][i % 2], so
  // that the lanes of a group read what follows one another.
  alignas(16) float4 angle[kPositions][2][Traits::kLanes];
  alignas(16) float query[kBlockRows][Traits::kMaxDim];
  float4 dots[kKeySplit];
  AttendRows rows;
  WarpMaxima<kTurnedThreads / kWarpSize> maxima;
};

// Where the 8 dims of a lane begin: 4 first halves of pairs and 4 second ones (half-split pairs),
// or 8 dims that follow one another.
struct LaneDims {
  int low;
  int high;
  bool is_split;  // pairs are (i, 4 + i) of the 8, else (2 i, 2 i + 1)
  bool is_there;
};

template <typename Traits>
__device__ __forceinline__ LaneDims lane_dims(const SkvRope& rope, int head_dim) {
  const int lane = lane_id() % Traits::kLanes;
  const bool is_split = rope.style != SKV_ROPE_NORM && 8 * lane < rope.n_rot;
  const bool is_there = 8 * lane < head_dim;
  if (is_split) return {4 * lane, rope.n_rot / 2 + 4 * lane, true, is_there};
  return {8 * lane, 8 * lane + 4, false, is_there};
}

template <typename Elem>
struct alignas(4 * sizeof(Elem)) FourElements {
  Elem element[4];
};

// What a lane holds of a codeword.
template <typename Elem>
struct LaneWord {
  FourElements<Elem> low, high;
};

template <typename Elem>
__device__ __forceinline__ LaneWord<Elem> load_word(const Elem* row, const LaneDims& dims) {
  LaneWord<Elem> word{};
  if (!dims.is_there) return word;
  word.low = load_constant(reinterpret_cast<const FourElements<Elem>*>(row + dims.low));
  word.high = load_constant(reinterpret_cast<const FourElements<Elem>*>(row + dims.high));
  return word;
}

// Turns the 4 pairs of a lane by (cosine, sine) each.
__device__ __forceinline__ void turn_pairs(bool is_split, const float2 (&angle)[4], float (&x)[8]) {
  if (is_split) {
#pragma unroll
    for (int i = 0; i < 4; ++i) canonical::rotate_pair(x[i], x[4 + i], angle[i].x, angle[i].y);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      canonical::rotate_pair(x[2 * i], x[2 * i + 1], angle[i].x, angle[i].y);
    }
  }
}

// Rows r of the table over the magnitude; pairs that do not turn get angle 0.
template <typename Traits>
__device__ __forceinline__ void load_angles(const SkvRope& rope, TurnedShared<Traits>& shared) {
  using Shared = TurnedShared<Traits>;
  const int pairs = rope.n_rot / 2;
  const auto* source = reinterpret_cast<const float2*>(rope.cos_sin);
  auto* target = reinterpret_cast<float2*>(&shared.angle[0][0][0]);
  for (int i = static_cast<int>(threadIdx.x); i < Shared::kPositions * Shared::kPairs;
       i += kTurnedThreads) {
    const int row = i / Shared::kPairs;
    const int pair = i % Shared::kPairs;
    float2 angle = make_float2(1.0f, 0.0f);
    if (pair < pairs && row < rope.positions) {
      const float magnitude = load_constant(source + pair).x;
      angle = load_constant(source + row * pairs + pair);
      angle.x /= magnitude;
      angle.y /= magnitude;
    }
    const int place = (pair % 4 / 2 * Traits::kLanes + pair / 4) * 2 + pair % 2;
    target[row * Shared::kPairs + place] = angle;
  }
}

// The lane's dims of 4 query rows, turned back by the angles of position `first`.
template <typename Traits>
__device__ __forceinline__ void turn_queries_back(const SkvRope& rope, const LaneDims& dims,
                                                  int first, int first_row,
                                                  const TurnedShared<Traits>& shared,
                                                  float (&query)[Traits::kRowChunk][8]) {
  const int pairs = rope.n_rot / 2;
  const auto* source =
      reinterpret_cast<const float2*>(rope.cos_sin) + static_cast<int64_t>(first) * pairs;
  const int first_pair = 4 * (lane_id() % Traits::kLanes);
  float2 angle[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    angle[i] = make_float2(1.0f, 0.0f);
    if (first_pair + i >= pairs) continue;
    angle[i] = load_constant(source + first_pair + i);
    angle[i].y = -angle[i].y;
  }
#pragma unroll
  for (int r = 0; r < Traits::kRowChunk; ++r) {
    const bool is_there = dims.is_there && first_row + r < shared.rows.count;
    const float* row = shared.query[first_row + r];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      query[r][i] = is_there ? row[dims.low + i] : 0.0f;
      query[r][4 + i] = is_there ? row[dims.high + i] : 0.0f;
    }
    turn_pairs(dims.is_split, angle, query[r]);
  }
}

// Dots of a turned codeword with the lane's queries; lane l of a group gets row l / (kLanes / 4).
template <typename Traits>
__device__ __forceinline__ float multiply_turned(const LaneWord<typename Traits::Elem>& word,
                                                 const LaneDims& dims, int in_block,
                                                 const TurnedShared<Traits>& shared,
                                                 const float (&query)[Traits::kRowChunk][8]) {
  const int lane = lane_id() % Traits::kLanes;
  const float4 first = shared.angle[in_block][0][lane];
  const float4 second = shared.angle[in_block][1][lane];
  const float2 angle[4] = {make_float2(first.x, first.y), make_float2(first.z, first.w),
                           make_float2(second.x, second.y), make_float2(second.z, second.w)};
  float x[8];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    x[i] = to_float(word.low.element[i]);
    x[4 + i] = to_float(word.high.element[i]);
  }
  turn_pairs(dims.is_split, angle, x);
  float dot[Traits::kRowChunk] = {};
#pragma unroll
  for (int r = 0; r < Traits::kRowChunk; ++r) {
#pragma unroll
    for (int i = 0; i < 8; ++i) dot[r] = fmaf(query[r][i], x[i], dot[r]);
  }
  transpose_sum<Traits::kRowChunk, Traits::kLanes>(dot);
  return dot[0];
}

// Dots of the block's slots with 4 rows, to shared memory.
template <typename Traits>
__device__ __forceinline__ void multiply_slots(const AttendArgs& args, const CodebookBlock& block,
                                               int first_row, TurnedShared<Traits>& shared) {
  using Elem = typename Traits::Elem;
  using Shared = TurnedShared<Traits>;
  constexpr int kGroups = kTurnedThreads / Traits::kLanes;
  constexpr int kOwnSlots = kKeySplit / kGroups;  // of a lane group
  constexpr int kOwners = Traits::kLanes / Traits::kRowChunk;
  constexpr int kBatch = kOwnSlots < Traits::kLanes ? kOwnSlots : Traits::kLanes;
  static_assert(kOwnSlots % kBatch == 0 && kBatch % Traits::kAhead == 0);
  const SkvAttendParams& op = item_of_keys(args, shared.rows).op;
  const SkvRope rope = op.rope;
  const SkvRun& run = block.book.run;
  const LaneDims dims = lane_dims<Traits>(rope, args.head_dim);
  const int lane = lane_id() % Traits::kLanes;
  const int group = static_cast<int>(threadIdx.x) / Traits::kLanes;
  const int first = block.index * kKeySplit + group * kOwnSlots;
  const auto* words = static_cast<const Elem*>(run.k);
  int turned_by = -1;
  float query[Traits::kRowChunk][8] = {};
#pragma unroll 1
  for (int at = 0; at < kOwnSlots; at += kBatch) {
    // Slots past the end repeat the last one.
    const int own = min(first + at + lane % kBatch, run.slots - 1);
    const int own_word = static_cast<int>(codeword_of(run.k_ref, run.ref_bytes, own));
    const int own_position = op.reindex != 0 ? run.slot_base + own : slot_position(run, own);
#pragma unroll 1
    for (int i = 0; i < kBatch; i += Traits::kAhead) {
      LaneWord<Elem> word[Traits::kAhead];
#pragma unroll
      for (int n = 0; n < Traits::kAhead; ++n) {
        const int index = __shfl_sync(kAllLanes, own_word, i + n, Traits::kLanes);
        word[n] = load_word(words + static_cast<int64_t>(index) * args.head_dim, dims);
      }
#pragma unroll
      for (int n = 0; n < Traits::kAhead; ++n) {
        const int position = __shfl_sync(kAllLanes, own_position, i + n, Traits::kLanes);
        const int in_block = position % Shared::kPositions;
        if (position - in_block != turned_by) {
          turned_by = position - in_block;
          turn_queries_back<Traits>(rope, dims, turned_by, first_row, shared, query);
        }
        const float dot = multiply_turned<Traits>(word[n], dims, in_block, shared, query);
        if (lane % kOwners == 0) {
          reinterpret_cast<float*>(&shared.dots[group * kOwnSlots + at + i + n])[lane / kOwners] =
              dot;
        }
      }
    }
  }
}

template <typename Traits>
__global__ __launch_bounds__(kTurnedThreads, 2) void codebook_turned_kernel(const AttendArgs args) {
  SKV_DYNAMIC_SHARED(memory, TurnedShared<Traits>);
  TurnedShared<Traits>& shared = *memory;
  const CodebookBlock block = codebook_block(args, &CodebookRun::first_turn_block);
  load_rows(args, rows_block(block), shared.rows);
  __syncthreads();
  load_queries<kTurnedThreads / kWarpSize, Traits::kMaxDim>(args, shared.rows, shared.query);
  load_angles<Traits>(item_of_keys(args, shared.rows).op.rope, shared);
  __syncthreads();
  for (int row = 0; row < block.book.pitch; row += Traits::kRowChunk) {
    multiply_slots<Traits>(args, block, row, shared);
    __syncthreads();  // dots are read by other threads
    finish_four_rows<kTurnedThreads>(
        args, block, shared.rows, row, [&](int i) { return shared.dots[i]; }, shared.maxima);
    __syncthreads();  // dots are written again, and the maxima are complete
  }
  store_maxima(args, block, shared.maxima);
}

}  // namespace spindlekv::cuda
