// build_codebook, GRAPH: which pairs of rows have a cosine above theta, as bits.
//   G[a,b] = dot(u_a, u_b) > theta, or a == b, or rows a and b are exact duplicates
// units [n, D] f32 -> graph [n, ceil(n/64)] u64. Canonical (core/canonical.h).
// A block owns one 64 x 64 tile of the upper triangle, a thread 4 x 4 pairs of it (dot_tile.cuh);
// a dot product is the same bits both ways round, so the lower triangle is the tile transposed.
// Compute-bound: n^2 D / 2 fma; writes n^2 / 8 bytes. The floats never leave the registers.
// Source: SpindleKV (arXiv 2507.06517), eq. 8 and 9.
#pragma once

#include "cuda/build_codebook/params.h"
#include "cuda/build_codebook/rows.cuh"
#include "cuda/common/launch.h"
#include "cuda/nearest_codeword/dot_tile.cuh"

#include <cmath>

namespace spindlekv::cuda {

// ---- helpers
// -------------------------------------------------------------------------------------

struct TilePlace {
  int64_t row;     // of 64 rows
  int64_t column;  // of 64 columns, >= row
};

// Tile number t of the upper triangle, taken column by column: column (column + 1) / 2 tiles lie
// before a column.
__device__ __forceinline__ TilePlace tile_place(int64_t t) {
  auto column = static_cast<int64_t>((sqrt(8.0 * static_cast<double>(t) + 1.0) - 1.0) / 2.0);
  while ((column + 1) * (column + 2) / 2 <= t) ++column;
  while (column * (column + 1) / 2 > t) --column;
  return {t - column * (column + 1) / 2, column};
}

// Bit 4 i + j: the thread's pair (i, j) is joined. Duplicates are compared one after the other,
// out of the unrolled part: few pairs are both alike in hash and not above theta.
template <typename Elem>
__device__ __forceinline__ unsigned joined_pairs(const CodebookArgs& args, const CodebookWork& work,
                                                 const TilePlace& tile, const DotTile& dots) {
  constexpr int kOwn = DotTraits::kOwn;
  const int64_t first_row = tile.row * DotTraits::kTile + own_row();
  const int64_t first_column = tile.column * DotTraits::kTile + own_column();
  unsigned joined = 0;
  unsigned alike = 0;
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    if (first_row + i >= work.loaded) continue;
    const uint64_t hash = work.hashes[first_row + i];
#pragma unroll
    for (int j = 0; j < kOwn; ++j) {
      if (first_column + j >= work.loaded) continue;
      const unsigned bit = 1u << (i * kOwn + j);
      if (dots[i][j] > work.problem.theta || first_row + i == first_column + j) {
        joined |= bit;
      } else if (hash == work.hashes[first_column + j]) {
        alike |= bit;
      }
    }
  }
  for (; alike != 0; alike &= alike - 1) {
    const int pair = __ffs(static_cast<int>(alike)) - 1;
    const int64_t row = first_row + pair / kOwn;
    const int64_t column = first_column + pair % kOwn;
    if (are_duplicates<Elem>(work, args.head_dim, row, column)) joined |= 1u << pair;
  }
  return joined;
}

// words[r] bit c: of the tile, collected over the half warp that shares the row.
__device__ __forceinline__ void store_bits(unsigned joined, uint64_t* words) {
#pragma unroll
  for (int i = 0; i < DotTraits::kOwn; ++i) {
    unsigned long long bits = joined >> (i * DotTraits::kOwn) & ((1u << DotTraits::kOwn) - 1u);
    bits <<= own_column();
#pragma unroll
    for (int n = DotTraits::kGroups / 2; n >= 1; n /= 2) {
      bits |= __shfl_xor_sync(kAllLanes, bits, n);
    }
    if (own_column() == 0) words[own_row() + i] = bits;
  }
}

// ---- kernel
// --------------------------------------------------------------------------------------

// Grid: (tiles of the upper triangle, problems).
template <typename Elem>
__global__ __launch_bounds__(DotTraits::kThreads) void codebook_graph_kernel(
    const CodebookArgs args) {
  SKV_SHARED(pieces, DotPieces);
  SKV_SHARED(words, uint64_t[DotTraits::kTile]);
  const CodebookWork& work = args.works[blockIdx.y];
  const int64_t graph_words = codebook_words(work.loaded);
  if (work.builds_graph == 0 || blockIdx.x >= graph_words * (graph_words + 1) / 2) return;
  const TilePlace tile = tile_place(blockIdx.x);

  // compute
  const auto load_unit = [&](int64_t row, int dim, float (&out)[8]) {
    if (row >= work.loaded) return zero8(out);
    load8(work.units + row * args.head_dim + dim, out);
  };
  DotTile dots;
  dot_tile(
      pieces, args.head_dim,
      [&](int line, int dim, float (&out)[8]) {
        load_unit(tile.row * DotTraits::kTile + line, dim, out);
      },
      [&](int line, int dim, float (&out)[8]) {
        load_unit(tile.column * DotTraits::kTile + line, dim, out);
      },
      dots);
  store_bits(joined_pairs<Elem>(args, work, tile, dots), words);
  __syncthreads();

  // store: the tile, and its transpose
  const int line = static_cast<int>(threadIdx.x);
  if (line >= DotTraits::kTile) return;
  const int64_t row = tile.row * DotTraits::kTile + line;
  if (row < work.loaded) work.graph[row * graph_words + tile.column] = words[line];
  const int64_t column = tile.column * DotTraits::kTile + line;
  if (tile.row == tile.column || column >= work.loaded) return;
  uint64_t mirrored = 0;
  for (int r = 0; r < DotTraits::kTile; ++r) mirrored |= (words[r] >> line & 1u) << r;
  work.graph[column * graph_words + tile.row] = mirrored;
}

// ---- launch
// --------------------------------------------------------------------------------------

template <typename Elem>
Status launch_codebook_graph(const CodebookArgs& args, int64_t most_rows, cudaStream_t stream) {
  const int64_t words = codebook_words(most_rows);
  return launch<codebook_graph_kernel<Elem>>("build_codebook",
                                             {words * (words + 1) / 2, args.n_works},
                                             dim3(DotTraits::kThreads), 0, stream, args);
}

}  // namespace spindlekv::cuda
