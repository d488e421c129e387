// attend on tensor cores, keys before RoPE: they turn between shared memory and the tensor core,
// once per key for all 16 rows, and leave as the sum of 16-bit parts.
//   angle(p) = angle(32 b) + angle(r), p = 32 b + r
// The sines and cosines of r < 32 are in shared memory; a row for 32 b is read from the table once
// for up to 32 neighbouring slots, out of L1. Composing two rows needs what core/rope_table.h
// gives: angles that grow with the position and one magnitude a pair, divided out of the rows of r.
// A quarter of the key is split into parts, so that no turned f16 overflows; the caller multiplies
// by kTurnedInverse. Costs 8 FMA a pair for the angle and its turn, and 3 (f16) or 6 (bf16)
// products of parts: three times the instructions of a key after RoPE, so bound by issue, not by
// memory.
#pragma once

#include "core/canonical.h"

#include "cuda/attend/block.cuh"
#include "cuda/common/convert.cuh"
#include "cuda/common/mma.cuh"

namespace spindlekv::cuda {

inline constexpr int kTurnRows = 32;       // positions r
inline constexpr int kTurnPairs = 64;      // of a head dim of 128
inline constexpr int kTurnPitch = 64 + 8;  // pairs; rows start 16 banks apart
inline constexpr float kTurnedScale = 0.25f;
inline constexpr float kTurnedInverse = 4.0f;

struct TurnTable {
  alignas(16) float2 row[kTurnRows][kTurnPitch];
};

// True if turned keys can be made here: the pairs of a lane's 16 dims must lie in one lane.
inline bool can_turn(const SkvRope& rope) {
  const bool is_aligned = reinterpret_cast<uintptr_t>(rope.cos_sin) % 16 == 0;
  const int32_t block = rope.style == SKV_ROPE_NORM ? 4 : 32;
  return is_aligned && rope.n_rot % block == 0 && rope.n_rot <= 2 * kTurnPairs;
}

// Rows r over the magnitude and times kTurnedScale. The caller waits for the block.
template <int kThreads>
__device__ __forceinline__ void load_turns(const SkvRope& rope, TurnTable& table) {
  if (rope.cos_sin == nullptr) return;
  const int pairs = rope.n_rot / 2;
  const auto* source = reinterpret_cast<const float2*>(rope.cos_sin);
  for (int i = static_cast<int>(threadIdx.x); i < kTurnRows * pairs; i += kThreads) {
    const int row = i / pairs;
    const int pair = i % pairs;
    if (row >= rope.positions) continue;
    const float magnitude = load_constant(source + pair).x;
    const float2 angle = load_constant(source + row * pairs + pair);
    table.row[row][pair] =
        make_float2(angle.x / magnitude * kTurnedScale, angle.y / magnitude * kTurnedScale);
  }
}

// How the key of one slot turns.
struct SlotTurn {
  const float2* high;  // row 32 b of the table; null: not at all
  const float2* low;   // row r in shared memory
};

__device__ __forceinline__ SlotTurn slot_turn(const SkvRope& rope, const TurnTable& table,
                                              unsigned flags, int position) {
  if (rope.cos_sin == nullptr || (flags & kTurnsKey) == 0) return {nullptr, nullptr};
  const int row = position % kTurnRows;
  const auto* source = reinterpret_cast<const float2*>(rope.cos_sin);
  return {source + static_cast<int64_t>(position - row) * (rope.n_rot / 2), table.row[row]};
}

__device__ __forceinline__ float2 composed(float2 a, float2 b) {
  return make_float2(fmaf(-a.y, b.y, a.x * b.x), fmaf(a.y, b.x, a.x * b.y));
}

// Cosine and sine (times kTurnedScale) of pairs `pair` and the next; pair is even.
__device__ __forceinline__ void two_angles(const SlotTurn& turn, int pair, int pairs,
                                           float2 (&angle)[2]) {
  angle[0] = angle[1] = make_float2(kTurnedScale, 0.0f);
  if (turn.high == nullptr || pair >= pairs) return;
  const float4 high = load_constant(reinterpret_cast<const float4*>(turn.high + pair));
  const float4 low = *reinterpret_cast<const float4*>(turn.low + pair);
  angle[0] = composed(make_float2(high.x, high.y), make_float2(low.x, low.y));
  angle[1] = composed(make_float2(high.z, high.w), make_float2(low.z, low.w));
}

__device__ __forceinline__ float2 one_angle(const SlotTurn& turn, int pair, int pairs) {
  if (turn.high == nullptr || pair >= pairs) return make_float2(kTurnedScale, 0.0f);
  return composed(load_constant(turn.high + pair), turn.low[pair]);
}

// Eight key elements of a lane for one step of 16 dims, as ldmatrix gives them for the keys of
// slots lane / 4 (registers 0, 1) and 8 more (2, 3): dims 2 (lane % 4) + {0, 1} and 8 more.
struct KeyStep {
  float x[4][2];
};

template <typename Elem>
__device__ __forceinline__ KeyStep unpack_step(const uint32_t (&key)[4]) {
  KeyStep step;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = unpack_two<Elem>(key[i]);
    step.x[i][0] = pair.x;
    step.x[i][1] = pair.y;
  }
  return step;
}

// Pairs (2 i, 2 i + 1): both in one register.
__device__ __forceinline__ void turn_neighbours(const SlotTurn (&turns)[2], int first_dim,
                                                int pairs, KeyStep& key) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int dim = first_dim + i % 2 * 8 + 2 * (lane_id() % 4);
    const float2 angle = one_angle(turns[i / 2], dim / 2, pairs);
    canonical::rotate_pair(key.x[i][0], key.x[i][1], angle.x, angle.y);
  }
}

// Pairs (i, i + n_rot / 2): in the same place of two steps.
__device__ __forceinline__ void turn_halves(const SlotTurn (&turns)[2], int first_dim, int pairs,
                                            KeyStep& lower, KeyStep& upper) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    float2 angle[2];
    two_angles(turns[i / 2], first_dim + i % 2 * 8 + 2 * (lane_id() % 4), pairs, angle);
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      canonical::rotate_pair(lower.x[i][e], upper.x[i][e], angle[e].x, angle[e].y);
    }
  }
}

// dots += query * key, both in parts; products of parts that together are below the last one's
// precision are left out. `query_rows(part)` is this lane's ldmatrix address for the step.
template <typename Elem, int kParts, typename QueryRows>
__device__ __forceinline__ void multiply_parts(const KeyStep& key, QueryRows query_rows,
                                               float (&dots)[2][4]) {
  uint32_t packed[kParts][4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    uint32_t parts[kParts];
    pack_parts<Elem>(key.x[i][0], key.x[i][1], parts);
#pragma unroll
    for (int part = 0; part < kParts; ++part) packed[part][i] = parts[part];
  }
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    uint32_t query[4];
    ldmatrix_x4(query, query_rows(part));
#pragma unroll
    for (int of_key = 0; of_key < kParts - part; ++of_key) {
      const uint32_t low[2] = {packed[of_key][0], packed[of_key][1]};
      const uint32_t high[2] = {packed[of_key][2], packed[of_key][3]};
      mma_m16n8k16<Elem>(dots[0], query, low);
      mma_m16n8k16<Elem>(dots[1], query, high);
    }
  }
}

}  // namespace spindlekv::cuda
