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

#include <climits>
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

template <typename Elem>
__device__ __forceinline__ float load_magnitude(const void* magnitudes, int slot) {
  return to_float(load_constant(static_cast<const Elem*>(magnitudes) + slot));
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

// Which slots a row sees; none past the last row.
struct alignas(8) RowSight {
  unsigned head;  // its bit of a slot's mask
  int limit;      // last position
};

struct RowSights {
  RowSight of[kBlockRows];
};

// Once the rows are loaded; the caller waits for the block.
__device__ __forceinline__ void load_sights(const AttendArgs& args, const AttendRows& rows,
                                            RowSights& sights) {
  const int row = static_cast<int>(threadIdx.x);
  if (row >= kBlockRows) return;
  sights.of[row] = {0, INT_MIN};
  if (row < rows.count) {
    sights.of[row] = {1u << rows.row[row].row % args.group, rows.row[row].limit};
  }
}

// What turns the dots of a run's slots into logits, read once.
struct LogitMaker {
  float scale;
  float* logits;         // of row 0 and the run's first slot; null: nobody asks
  int64_t logit_stride;  // to the next row
};

__device__ __forceinline__ LogitMaker logit_maker(const AttendArgs& args, const CodebookRun& book) {
  const AttendHead& head = args.heads[book.head];
  LogitMaker maker{args.items[head.item].op.scale, nullptr, head.logit_stride};
  if (head.logit_stride != 0) maker.logits = args.logits + head.first_logit + book.run.slot_base;
  return maker;
}

// Dots of 4 rows with one slot to logits: to the run's own table, and to the rows' own where scores
// are asked for. Raises the rows' maxima.
__device__ __forceinline__ void finish_slot(const AttendArgs& args, const CodebookRun& book,
                                            const RowSights& sights, const LogitMaker& maker,
                                            int first_row, int slot, float magnitude, float4 dots,
                                            float (&maximum)[4]) {
  const unsigned flags = slot_flags(book.run, slot);
  const int position = slot_position(book.run, slot);
  const float beta = slot_beta(book.run, slot);
  float x[4] = {dots.x, dots.y, dots.z, dots.w};
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const int row = first_row + r;
    const RowSight sight = sights.of[row];
    const bool is_seen = (flags & sight.head) != 0 && position <= sight.limit;
    x[r] = is_seen ? x[r] * magnitude * maker.scale + beta : -INFINITY;
    maximum[r] = fmaxf(maximum[r], x[r]);
    if (sight.head != 0 && maker.logits != nullptr)
      maker.logits[row * maker.logit_stride + slot] = x[r];
  }
  *reinterpret_cast<float4*>(args.dots + book.first_dot + static_cast<int64_t>(slot) * book.pitch +
                             first_row) = make_float4(x[0], x[1], x[2], x[3]);
}

// The same for all of a block's slots, by threads. `dots(slot)` gives those of a slot.
template <typename Elem, int kThreads, typename Dots>
__device__ __forceinline__ void finish_four_rows(const AttendArgs& args, const CodebookBlock& block,
                                                 const RowSights& sights, int first_row, Dots dots,
                                                 WarpMaxima<kThreads / kWarpSize>& maxima) {
  const CodebookRun& book = block.book;
  const int first = block.index * book.key_slots;
  const int end = min(first + book.key_slots, book.run.slots);
  const LogitMaker maker = logit_maker(args, book);
  float maximum[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
  for (int slot = first + static_cast<int>(threadIdx.x); slot < end; slot += kThreads) {
    const float magnitude = load_magnitude<Elem>(book.run.k_magnitude, slot);
    finish_slot(args, book, sights, maker, first_row, slot, magnitude, dots(slot), maximum);
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
