// Reading rows of K and Q as float, with the rotation of core/canonical.h done on the way.
//
// A "turn" is the row of the cos/sin table for one position: turn[i] = (cos, sin) of pair i, or
// null for no rotation. Eight dims are read at a time; the partners of a NEOX row lie n_rot/2 dims
// away and are read again from the row, which is in cache or shared memory.
#pragma once

#include "core/canonical.h"
#include "core/types.h"

#include "cuda/common/convert.cuh"

namespace spindlekv::cuda {

// The table's row for `position`, or null when the op has no table.
__device__ __forceinline__ const float2* turn_at(const SkvRope& rope, int64_t position) {
  if (rope.cos_sin == nullptr) return nullptr;
  return reinterpret_cast<const float2*>(rope.cos_sin) + position * (rope.n_rot / 2);
}

// Element `index` of an array whose dtype is known at run time.
__device__ __forceinline__ float load_element(const void* data, int32_t dtype, int64_t index) {
  if (dtype == SKV_F32) return static_cast<const float*>(data)[index];
  if (dtype == SKV_F16) return to_float(static_cast<const f16*>(data)[index]);
  return to_float(static_cast<const bf16*>(data)[index]);
}

__device__ __forceinline__ void store_element(void* data, int32_t dtype, int64_t index,
                                              float value) {
  if (dtype == SKV_F32) {
    static_cast<float*>(data)[index] = value;
  } else if (dtype == SKV_F16) {
    static_cast<f16*>(data)[index] = from_float<f16>(value);
  } else {
    static_cast<bf16*>(data)[index] = from_float<bf16>(value);
  }
}

// Elements [index, index + 8): 16-byte loads where the address allows them.
template <typename Elem>
__device__ __forceinline__ void load8_anywhere(const void* data, int64_t index, float (&out)[8]) {
  const Elem* source = static_cast<const Elem*>(data) + index;
  if (reinterpret_cast<uintptr_t>(source) % 16 == 0) {
    load8(source, out);
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) out[i] = to_float(source[i]);
}

// Reads rows of a dtype known at run time, at any alignment.
struct AnyRow {
  const void* data;
  int32_t dtype;
  int64_t offset;  // elements

  __device__ float one(int dim) const { return load_element(data, dtype, offset + dim); }
  __device__ void eight(int dim, float (&out)[8]) const {
    if (dtype == SKV_F32) {
      load8_anywhere<float>(data, offset + dim, out);
    } else if (dtype == SKV_F16) {
      load8_anywhere<f16>(data, offset + dim, out);
    } else {
      load8_anywhere<bf16>(data, offset + dim, out);
    }
  }
};

// Reads 16-byte aligned rows of Elem, times a magnitude (1 where there is none: exact).
template <typename Elem>
struct ScaledRow {
  const Elem* data;
  float magnitude;

  __device__ float one(int dim) const { return to_float(data[dim]) * magnitude; }
  __device__ void eight(int dim, float (&out)[8]) const {
    load8(data + dim, out);
#pragma unroll
    for (int i = 0; i < 8; ++i) out[i] *= magnitude;
  }
};

// Dim `dim` of the row after the turn.
template <typename Row>
__device__ __forceinline__ float rotated_one(const Row& row, int dim, const float2* turn, int n_rot,
                                             int style) {
  if (turn == nullptr || dim >= n_rot) return row.one(dim);
  const int half = n_rot / 2;
  const int pair = style == SKV_ROPE_NORM ? dim / 2 : (dim < half ? dim : dim - half);
  const bool is_first = style == SKV_ROPE_NORM ? dim % 2 == 0 : dim < half;
  float x = row.one(style == SKV_ROPE_NORM ? 2 * pair : pair);
  float y = row.one(style == SKV_ROPE_NORM ? 2 * pair + 1 : pair + half);
  canonical::rotate_pair(x, y, turn[pair].x, turn[pair].y);
  return is_first ? x : y;
}

// x[0..8) hold dims [first, first + 8), all in one half of a NEOX row: turns them in place.
template <typename Row>
__device__ __forceinline__ void turn_half8(const Row& row, int first, const float2* turn, int half,
                                           float (&x)[8]) {
  float other[8];
  if (first < half) {
    row.eight(first + half, other);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      canonical::rotate_pair(x[i], other[i], turn[first + i].x, turn[first + i].y);
    }
  } else {
    row.eight(first - half, other);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      canonical::rotate_pair(other[i], x[i], turn[first - half + i].x, turn[first - half + i].y);
    }
  }
}

// Dims [first, first + 8) of the row after the turn; first is a multiple of 8.
template <typename Row>
__device__ __forceinline__ void rotated_eight(const Row& row, int first, const float2* turn,
                                              int n_rot, int style, float (&x)[8]) {
  row.eight(first, x);
  if (turn == nullptr || first >= n_rot) return;
  if (style == SKV_ROPE_NORM) {
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
      if (first + i >= n_rot) continue;
      const float2 angle = turn[(first + i) / 2];
      canonical::rotate_pair(x[i], x[i + 1], angle.x, angle.y);
    }
  } else if (n_rot % 16 == 0) {
    turn_half8(row, first, turn, n_rot / 2, x);
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] = rotated_one(row, first + i, turn, n_rot, style);
  }
}

}  // namespace spindlekv::cuda
