// A warp's sums over the slots of one tile, on tensor cores: 16 rows by 16 slots.
//   x = q' k' (multiply_keys), logits (make_logits), weights exp(x - m) (weigh_tile), acc += w v
// A lane holds rows lane / 4 and 8 more, of slots 8 j + 2 (lane % 4) + {0, 1}: the accumulator of
// the first product is laid out as the operand of the second.
#pragma once

#include "cuda/attend/mma_tile.cuh"
#include "cuda/attend/turn.cuh"
#include "cuda/common/convert.cuh"
#include "cuda/common/mma.cuh"
#include "cuda/common/reduce.cuh"

#include <cmath>

namespace spindlekv::cuda {

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

}  // namespace spindlekv::cuda
