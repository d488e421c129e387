// What the kernels of a codebook run have in common: which run and which part of it a block has,
// the block's rows, and how a dot of a slot becomes a logit.
#pragma once

#include "cuda/attend/block.cuh"
#include "cuda/attend/codebook.h"
#include "cuda/attend/params.h"
#include "cuda/attend/slots.cuh"
#include "cuda/common/convert.cuh"
#include "cuda/common/global.cuh"
#include "cuda/common/reduce.cuh"

#include <cmath>

namespace spindlekv::cuda {

// ---- traits
// --------------------------------------------------------------------------------------

// kLanes lanes share a codeword, 8 dims each.
template <typename Elem_, int kLanes_>
struct CodebookTraits {
  using Elem = Elem_;
  static constexpr int kLanes = kLanes_;
  static constexpr int kMaxDim = 8 * kLanes;
  static constexpr int kSideBySide = kWarpSize / kLanes;  // codewords a warp reads at once
  static constexpr int kRowChunk = 4;                     // rows in registers at once
  static constexpr int kAhead = 4;                        // codewords of a lane on their way
  static_assert(kMaxDim <= kMostCodebookDim);
};

// ---- blocks
// --------------------------------------------------------------------------------------

struct CodebookBlock {
  CodebookRun book;
  int index;  // of the book's blocks in this launch
};

// `first_block` of CodebookRun is the one that counts this launch's blocks.
__device__ __forceinline__ CodebookBlock codebook_block(const AttendArgs& args,
                                                        int32_t CodebookRun::* first_block) {
  const int index = static_cast<int>(blockIdx.x);
  const int owner = find_owner(args.n_codebooks, index, [&](int i) {
    return load_constant(&(args.codebooks[i].*first_block));
  });
  CodebookBlock block;
  block.book = load_constant(args.codebooks + owner);
  block.index = index - block.book.*first_block;
  return block;
}

// The rows of the head, which are one tile, and where the block's partials go.
__device__ __forceinline__ AttendBlock rows_block(const CodebookBlock& block) {
  AttendBlock rows{};
  rows.span.head = block.book.head;
  rows.partial = block.book.first_partial + block.index;
  return rows;
}

// ---- loads
// ---------------------------------------------------------------------------------------

template <typename Elem>
struct alignas(16) EightElements {
  Elem element[8];
};

// Eight elements of a codeword, 16-byte aligned.
template <typename Elem>
__device__ __forceinline__ void load_eight(const Elem* source, float (&x)[8]) {
  const auto eight = load_constant(reinterpret_cast<const EightElements<Elem>*>(source));
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = to_float(eight.element[i]);
}

__device__ __forceinline__ float load_magnitude(const void* magnitudes, int dtype, int slot) {
  if (dtype == SKV_F32) return load_constant(static_cast<const float*>(magnitudes) + slot);
  if (dtype == SKV_F16) return to_float(load_constant(static_cast<const f16*>(magnitudes) + slot));
  return to_float(load_constant(static_cast<const bf16*>(magnitudes) + slot));
}

// The 8 dims of this lane of query rows first_row and on; zero beyond the rows.
template <typename Traits>
__device__ __forceinline__ void load_query_chunk(const float (*queries)[Traits::kMaxDim],
                                                 int first_row, int rows,
                                                 float (&query)[Traits::kRowChunk][8]) {
#pragma unroll
  for (int r = 0; r < Traits::kRowChunk; ++r) {
#pragma unroll
    for (int i = 0; i < 8; ++i) query[r][i] = 0.0f;
    if (first_row + r < rows) {
      load8(queries[first_row + r] + 8 * (lane_id() % Traits::kLanes), query[r]);
    }
  }
}

// ---- logits
// --------------------------------------------------------------------------------------

// Where a block that makes logits keeps the maxima of its warps.
template <int kWarps>
struct WarpMaxima {
  float of[kBlockRows][kWarps];
};

// Dots of 4 rows of the block's slots to logits, by threads over slots: to the run's own table, and
// to the rows' own where scores are asked for. `dots(i)` gives those of slot i of the block.
template <int kThreads, typename Dots>
__device__ __forceinline__ void finish_four_rows(const AttendArgs& args, const CodebookBlock& block,
                                                 const AttendRows& rows, int first_row, Dots dots,
                                                 WarpMaxima<kThreads / kWarpSize>& maxima) {
  const CodebookRun& book = block.book;
  const SkvAttendParams& op = item_of_keys(args, rows).op;
  const int first = block.index * kKeySplit;
  const int count = min(kKeySplit, book.run.slots - first);
  float maximum[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
    const int slot = first + i;
    const unsigned flags = slot_flags(book.run, slot);
    const int position = slot_position(book.run, slot);
    const float beta = slot_beta(book.run, slot);
    const float magnitude = load_magnitude(book.run.k_magnitude, op.dtype, slot);
    const float4 four = dots(i);
    float x[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int row = first_row + r;
      const bool is_row = row < rows.count;
      const bool is_seen = is_row && sees(rows.row[row], args.group, flags, position);
      x[r] = is_seen ? x[r] * magnitude * op.scale + beta : -INFINITY;
      maximum[r] = fmaxf(maximum[r], x[r]);
      float* logits = is_row ? logits_of(args, rows.row[row]) : nullptr;
      if (logits != nullptr) logits[book.run.slot_base + slot] = x[r];
    }
    *reinterpret_cast<float4*>(args.dots + book.first_dot +
                               static_cast<int64_t>(slot) * book.pitch + first_row) =
        make_float4(x[0], x[1], x[2], x[3]);
  }
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const float most = warp_max(maximum[r]);
    if (lane_id() == 0) maxima.of[first_row + r][warp_id()] = most;
  }
}

// The block's maxima, once all rows are finished and the threads have met.
template <int kWarps>
__device__ __forceinline__ void store_maxima(const AttendArgs& args, const CodebookBlock& block,
                                             const WarpMaxima<kWarps>& maxima) {
  const int row = static_cast<int>(threadIdx.x);
  if (row >= block.book.pitch) return;
  float maximum = -INFINITY;
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp) maximum = fmaxf(maximum, maxima.of[row][warp]);
  args.maxima[block.book.first_maximum + row * block.book.key_splits + block.index] = maximum;
}

}  // namespace spindlekv::cuda
