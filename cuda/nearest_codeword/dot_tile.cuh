// Canonical dot products of 64 rows with 64 columns: a tile that never leaves the registers.
//   acc[i][j] = dot(rows[4r + i], columns[4c + j]) by thread 16 r + c, d ascending, fma
// Rows and columns pass through shared memory in pieces of 32 dims, as float and transposed, so
// that a thread reads four of each at once: 16 fma for two 16-byte shared loads. Compute-bound.
#pragma once

#include "cuda/common/convert.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/reduce.cuh"

#include <cmath>

namespace spindlekv::cuda {

struct DotTraits {
  static constexpr int kThreads = 256;
  static constexpr int kTile = 64;  // rows, and columns
  static constexpr int kOwn = 4;    // rows, and columns, of a thread
  static constexpr int kGroups = kTile / kOwn;
  static constexpr int kDims = 32;  // of a piece
  static constexpr int kVecs = kDims / 8;
  static constexpr int kPitch = kTile + 4;  // floats; keeps float4 alignment
  static_assert(kGroups * kGroups == kThreads);
  static_assert(kTile * kVecs == kThreads, "a thread loads eight dims of one row and one column");
  static_assert(2 * kGroups == kWarpSize, "half a warp shares its rows");
};

struct DotPieces {
  alignas(16) float rows[DotTraits::kDims][DotTraits::kPitch];
  alignas(16) float columns[DotTraits::kDims][DotTraits::kPitch];
};

using DotTile = float[DotTraits::kOwn][DotTraits::kOwn];

// The first of the thread's four rows, and of its four columns.
__device__ __forceinline__ int own_row() {
  return static_cast<int>(threadIdx.x) / DotTraits::kGroups * DotTraits::kOwn;
}
__device__ __forceinline__ int own_column() {
  return static_cast<int>(threadIdx.x) % DotTraits::kGroups * DotTraits::kOwn;
}

// load_row(row, dim, out) and load_column(column, dim, out) give eight dims from `dim` on, or zeros
// where there is no such row. All threads of the block call; pieces are free at return.
template <typename LoadRow, typename LoadColumn>
__device__ __forceinline__ void dot_tile(DotPieces& pieces, int head_dim, const LoadRow& load_row,
                                         const LoadColumn& load_column, DotTile& acc) {
#pragma unroll
  for (int i = 0; i < DotTraits::kOwn; ++i) {
#pragma unroll
    for (int j = 0; j < DotTraits::kOwn; ++j) acc[i][j] = 0.0f;
  }
  const int line = static_cast<int>(threadIdx.x) % DotTraits::kTile;
  const int own_dim = static_cast<int>(threadIdx.x) / DotTraits::kTile * 8;
  for (int first = 0; first < head_dim; first += DotTraits::kDims) {
    const int dims = min(DotTraits::kDims, head_dim - first);
    if (own_dim < dims) {
      float row[8];
      float column[8];
      load_row(line, first + own_dim, row);
      load_column(line, first + own_dim, column);
#pragma unroll
      for (int d = 0; d < 8; ++d) {
        pieces.rows[own_dim + d][line] = row[d];
        pieces.columns[own_dim + d][line] = column[d];
      }
    }
    __syncthreads();
#pragma unroll 8
    for (int d = 0; d < dims; ++d) {
      const float4 r = *reinterpret_cast<const float4*>(&pieces.rows[d][own_row()]);
      const float4 c = *reinterpret_cast<const float4*>(&pieces.columns[d][own_column()]);
      const float row[DotTraits::kOwn] = {r.x, r.y, r.z, r.w};
      const float column[DotTraits::kOwn] = {c.x, c.y, c.z, c.w};
#pragma unroll
      for (int i = 0; i < DotTraits::kOwn; ++i) {
#pragma unroll
        for (int j = 0; j < DotTraits::kOwn; ++j) acc[i][j] = fmaf(row[i], column[j], acc[i][j]);
      }
    }
    __syncthreads();
  }
}

__device__ __forceinline__ void zero8(float (&out)[8]) {
#pragma unroll
  for (int d = 0; d < 8; ++d) out[d] = 0.0f;
}

}  // namespace spindlekv::cuda
