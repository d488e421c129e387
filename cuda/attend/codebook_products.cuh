// attend over a codebook run, keys after RoPE: one product a key codeword, which the slots look up.
//   product[c,r] = <q'[r], C_K[c]>;   x[r,s] = scale a_s product[k_s,r] + beta[s]
// codebook_products_kernel: kLanes lanes share a codeword and 4 rows, 8 dims a lane. Reads a
// codeword once, 16 bytes a lane and load: memory-bound for up to 8 rows. codebook_gather_kernel:
// thread = slot. Reads 12 bytes a slot and 4 a row out of the products, which lie in L2; writes the
// logit of each row and the maxima of the block.
#pragma once

#include "cuda/attend/codebook_block.cuh"
#include "cuda/common/launch.h"

namespace spindlekv::cuda {

inline constexpr int kProductThreads = 128;
inline constexpr int kProductBlocks =
    4;  // on an SM; left to itself, ptxas saves registers and spills

template <typename Traits>
struct ProductShared {
  alignas(16) float query[kBlockRows][Traits::kMaxDim];
  AttendRows rows;
};

// Products of codewords [first, end) with 4 rows.
template <typename Traits>
__device__ __forceinline__ void multiply_words(const AttendArgs& args, const CodebookRun& book,
                                               int first, int end, int first_row,
                                               const float (&query)[Traits::kRowChunk][8]) {
  constexpr int kSideBySide = kProductThreads / Traits::kLanes;
  const int dim = 8 * (lane_id() % Traits::kLanes);
  const auto* words = static_cast<const typename Traits::Elem*>(book.run.k);
  const int own = static_cast<int>(threadIdx.x) / Traits::kLanes;
#pragma unroll 1
  for (int at = first; at < end; at += kSideBySide * Traits::kAhead) {
    float dot[Traits::kAhead][Traits::kRowChunk] = {};
#pragma unroll
    for (int n = 0; n < Traits::kAhead; ++n) {
      const int word = min(at + n * kSideBySide + own, end - 1);
      float x[8] = {};
      if (dim < args.head_dim)
        load_eight(words + static_cast<int64_t>(word) * args.head_dim + dim, x);
#pragma unroll
      for (int r = 0; r < Traits::kRowChunk; ++r) {
#pragma unroll
        for (int i = 0; i < 8; ++i) dot[n][r] = fmaf(query[r][i], x[i], dot[n][r]);
      }
    }
#pragma unroll
    for (int n = 0; n < Traits::kAhead; ++n) {
      const int word = at + n * kSideBySide + own;
      transpose_sum<Traits::kRowChunk, Traits::kLanes>(dot[n]);
      constexpr int kOwners = Traits::kLanes / Traits::kRowChunk;
      const int row = lane_id() % Traits::kLanes / kOwners;
      if (word < end && lane_id() % kOwners == 0) {
        args.products[book.first_product + static_cast<int64_t>(word) * book.pitch + first_row +
                      row] = dot[n][0];
      }
    }
  }
}

template <typename Traits>
__global__ __launch_bounds__(kProductThreads,
                             kProductBlocks) void codebook_products_kernel(const AttendArgs args) {
  SKV_DYNAMIC_SHARED(memory, ProductShared<Traits>);
  ProductShared<Traits>& shared = *memory;
  const CodebookBlock block = codebook_block(args, &CodebookRun::first_product_block);
  load_rows(args, rows_block(block), shared.rows);
  __syncthreads();
  load_queries<kProductThreads / kWarpSize, Traits::kMaxDim>(args, shared.rows, shared.query);
  __syncthreads();
  const int first = block.index * kProductWords;
  const int end = min(first + kProductWords, block.book.run.k_codewords);
  for (int row = 0; row < block.book.pitch; row += Traits::kRowChunk) {
    float query[Traits::kRowChunk][8];
    load_query_chunk<Traits>(shared.query, row, shared.rows.count, query);
    multiply_words<Traits>(args, block.book, first, end, row, query);
  }
}

struct GatherShared {
  AttendRows rows;
  RowSights sights;
  WarpMaxima<kProductThreads / kWarpSize> maxima;
};

template <typename Elem>
__global__ __launch_bounds__(kProductThreads) void codebook_gather_kernel(const AttendArgs args) {
  SKV_SHARED(shared, GatherShared);
  const CodebookBlock block = codebook_block(args, &CodebookRun::first_gather_block);
  const CodebookRun& book = block.book;
  load_rows(args, rows_block(block), shared.rows);
  __syncthreads();
  load_sights(args, shared.rows, shared.sights);
  __syncthreads();
  for (int row = 0; row < book.pitch; row += 4) {
    const auto products = [&](int slot) {
      const int64_t word = codeword_of(book.run.k_ref, book.run.ref_bytes, slot);
      return load_constant(reinterpret_cast<const float4*>(args.products + book.first_product +
                                                           word * book.pitch + row));
    };
    finish_four_rows<Elem, kProductThreads>(args, block, shared.sights, row, products,
                                            shared.maxima);
  }
  __syncthreads();
  store_maxima(args, block, shared.maxima);
}

}  // namespace spindlekv::cuda
