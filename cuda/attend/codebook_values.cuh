// attend over a codebook run, its values: the slots of one tile of value codewords.
//   bins[c,r] = sum over v_s = c of exp(x[r,s] - m[r]) b_s;  acc[r] = sum_c bins[c,r] C_V[c]
//   l[r] = sum of the same exponentials; m[r] is the run's maximum
// Block = (run, tile of value codewords). Its warps go through all references of the run, 2 or 4
// bytes a slot and 16 a load, and queue the slots whose codeword is in the tile; 32 at a time they
// add their weights to the warp's own bins, in slot order where several have one codeword. Then the
// bins of the warps are added in order, and kLanes lanes share a codeword, 8 dims each. No float
// atomics: the order of every sum is that of slots and codewords.
// Bytes: references once a tile and logits once, out of L2; each codeword once. A codeword of
// weight 0 (seen by nobody, or too small) is not read, so that a NaN in it stays where it is. At 4
// rows a tile is 512 codewords: some 20 instructions for 32 slots that only pass by, 190 for 32
// that are added.
#pragma once

#include "cuda/attend/codebook_block.cuh"
#include "cuda/attend/merge.cuh"
#include "cuda/common/launch.h"

#include <cmath>

namespace spindlekv::cuda {

inline constexpr int kValueThreads = 128;
inline constexpr int kValueBlocks = 4;  // on an SM
inline constexpr int kValueWarps = kValueThreads / kWarpSize;
inline constexpr int kScanned = 8;  // references that a lane reads at once
inline constexpr int kQueue = 512;  // slots of a warp that wait
static_assert(kQueue >= kWarpSize * (kScanned + 1));

struct QueuedSlot {
  int slot;
  int word;  // of the tile
};

struct ValueShared {
  // [tile_words, pitch]; the first warp's take the sums, then the others' hold those of the dims.
  alignas(16) float bins[kValueWarps][kBinFloats];
  float sums[kValueWarps][kBlockRows][kWarpSize];  // of the exponentials
  int queue[kValueWarps][kQueue];                  // slots of the run
  AttendRows rows;
  float maximum[kBlockRows];
  float sum[kBlockRows];
};

// ---- weights
// --------------------------------------------------------------------------------------

// The run's maxima out of those of its key blocks; a warp a row.
__device__ __forceinline__ void load_maxima(const AttendArgs& args, const CodebookRun& book,
                                            ValueShared& shared) {
  for (int row = warp_id(); row < book.pitch; row += kValueWarps) {
    const float* source = args.maxima + book.first_maximum + row * book.key_splits;
    float maximum = -INFINITY;
    for (int split = lane_id(); split < book.key_splits; split += kWarpSize) {
      maximum = fmaxf(maximum, load_constant(source + split));
    }
    maximum = warp_max(maximum);
    if (lane_id() == 0) shared.maximum[row] = maximum;
  }
}

// Adds what up to 32 queued slots weigh, a lane each, to the warp's bins. Slots of one codeword
// take turns in the order of the queue.
template <typename Elem>
__device__ __forceinline__ void add_weights(const AttendArgs& args, const CodebookRun& book,
                                            const QueuedSlot& queued, bool is_there,
                                            ValueShared& shared) {
  const int none = -1 - lane_id();  // no two lanes have it
  const unsigned peers = __match_any_sync(kAllLanes, is_there ? queued.word : none);
  const int turn = __popc(peers & ((1u << lane_id()) - 1u));
  const int turns = warp_max(turn);
  const float magnitude = is_there ? load_magnitude<Elem>(book.run.v_magnitude, queued.slot) : 0.0f;
  const float* dots =
      args.dots + book.first_dot + static_cast<int64_t>(is_there ? queued.slot : 0) * book.pitch;
  float* bin = shared.bins[warp_id()] + (is_there ? queued.word : 0) * book.pitch;
  for (int row = 0; row < book.pitch; row += 4) {
    const float4 four = load_constant(reinterpret_cast<const float4*>(dots + row));
    float x[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const bool is_seen = is_there && x[r] != -INFINITY;
      x[r] = is_seen ? expf(x[r] - shared.maximum[row + r]) : 0.0f;
      shared.sums[warp_id()][row + r][lane_id()] += x[r];
      x[r] = x[r] == 0.0f ? 0.0f : x[r] * magnitude;
    }
#pragma unroll 1
    for (int i = 0; i <= turns; ++i) {
      if (is_there && turn == i) {
        auto* target = reinterpret_cast<float4*>(bin + row);
        const float4 sum = *target;
        *target = make_float4(sum.x + x[0], sum.y + x[1], sum.z + x[2], sum.w + x[3]);
      }
      __syncwarp();  // the next slot of the codeword is another lane's
    }
  }
}

// Eight references that follow one another, from a 16-byte aligned address.
__device__ __forceinline__ void load_short_refs(const void* refs, int (&word)[kScanned]) {
  const uint4 loaded = load_constant(static_cast<const uint4*>(refs));
  const unsigned pair[4] = {loaded.x, loaded.y, loaded.z, loaded.w};
#pragma unroll
  for (int i = 0; i < kScanned; ++i) {
    word[i] = static_cast<int>(i % 2 == 0 ? pair[i / 2] & 0xffffu : pair[i / 2] >> 16);
  }
}

__device__ __forceinline__ void load_long_refs(const void* refs, int (&word)[kScanned]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int4 loaded = load_constant(static_cast<const int4*>(refs) + i);
    word[4 * i] = loaded.x;
    word[4 * i + 1] = loaded.y;
    word[4 * i + 2] = loaded.z;
    word[4 * i + 3] = loaded.w;
  }
}

// Those of them that are the run's; -1 for the others.
__device__ __forceinline__ void load_edge_refs(const CodebookRun& book, int first,
                                               int (&word)[kScanned]) {
#pragma unroll
  for (int i = 0; i < kScanned; ++i) {
    const int slot = first + i;
    word[i] = -1;
    if (slot < 0 || slot >= book.run.slots) continue;
    word[i] = static_cast<int>(codeword_of(book.run.v_ref, book.run.ref_bytes, slot));
  }
}

// Which of a lane's slots, from `first` on, refer to codewords [first_word, first_word + words): a
// bit each. The first may lie before the run, the last behind it.
__device__ __forceinline__ unsigned own_slots(const CodebookRun& book, int first, int first_word,
                                              int words) {
  const char* refs = static_cast<const char*>(book.run.v_ref) + int64_t{first} * book.run.ref_bytes;
  int word[kScanned];
  if (first < 0 || first + kScanned > book.run.slots) {
    load_edge_refs(book, first, word);
  } else if (book.run.ref_bytes == 2) {
    load_short_refs(refs, word);
  } else {
    load_long_refs(refs, word);
  }
  unsigned own = 0;
#pragma unroll
  for (int i = 0; i < kScanned; ++i) {
    // -1 is in no tile: no codeword has so large a number.
    const auto in_tile = static_cast<unsigned>(word[i] - first_word);
    if (in_tile < static_cast<unsigned>(words)) own |= 1u << i;
  }
  return own;
}

// Goes through the references of the run and adds the slots whose codeword is in [first_word,
// first_word + words).
template <typename Elem>
__device__ __forceinline__ void fill_bins(const AttendArgs& args, const CodebookRun& book,
                                          int first_word, int words, ValueShared& shared) {
  constexpr int kStride = kWarpSize * kScanned;
  int* queue = shared.queue[warp_id()];
  // Lanes read 16 bytes at aligned addresses, so the first of them may begin before the run.
  const auto address = reinterpret_cast<uintptr_t>(book.run.v_ref);
  const int skipped = static_cast<int>(address % 16) / book.run.ref_bytes;
  int head = 0;
  int waiting = 0;
#pragma unroll 1
  for (int at = warp_id() * kStride - skipped; at < book.run.slots; at += kValueWarps * kStride) {
    const int first = at + lane_id() * kScanned;
    unsigned own = own_slots(book, first, first_word, words);
    const int count = __popc(own);
    const int last = warp_inclusive_sum(count);
    auto place = static_cast<unsigned>(head + waiting + last - count);
    for (; own != 0; ++place, own &= own - 1) {
      queue[place % kQueue] = first + __ffs(static_cast<int>(own)) - 1;
    }
    waiting += __shfl_sync(kAllLanes, last, kWarpSize - 1);
    __syncwarp();  // the queue is read by other lanes
    const int least = at + kValueWarps * kStride < book.run.slots ? kWarpSize : 1;
#pragma unroll 1
    while (waiting >= least) {
      const bool is_there = lane_id() < waiting;
      const int slot = is_there ? queue[(head + lane_id()) % kQueue] : 0;
      const int64_t word = codeword_of(book.run.v_ref, book.run.ref_bytes, slot);
      add_weights<Elem>(args, book, {slot, static_cast<int>(word) - first_word}, is_there, shared);
      head = (head + kWarpSize) % kQueue;
      waiting = max(0, waiting - kWarpSize);
    }
    __syncwarp();  // the queue is written again
  }
}

// The bins of all warps to those of the first, and the sums of the rows, in the order of the warps.
__device__ __forceinline__ void gather_bins(int floats, int rows, ValueShared& shared) {
  for (int i = static_cast<int>(threadIdx.x); i < floats; i += kValueThreads) {
    float sum = shared.bins[0][i];
#pragma unroll
    for (int warp = 1; warp < kValueWarps; ++warp) sum += shared.bins[warp][i];
    shared.bins[0][i] = sum;
  }
  for (int row = warp_id(); row < rows; row += kValueWarps) {
    float sum = 0.0f;
#pragma unroll
    for (int warp = 0; warp < kValueWarps; ++warp)
      sum += warp_sum(shared.sums[warp][row][lane_id()]);
    if (lane_id() == 0) shared.sum[row] = sum;
  }
}

// ---- values
// --------------------------------------------------------------------------------------

// acc[r] = sum of bins * codewords over this lane's codewords of the tile, for 4 rows.
template <typename Traits>
__device__ __forceinline__ void add_words(const AttendArgs& args, const CodebookRun& book,
                                          int first_word, int words, int first_row,
                                          const ValueShared& shared,
                                          float (&acc)[Traits::kRowChunk][8]) {
  constexpr int kSideBySide = kValueThreads / Traits::kLanes;
  const int dim = 8 * (lane_id() % Traits::kLanes);
  const auto* rows = static_cast<const typename Traits::Elem*>(book.run.v) +
                     static_cast<int64_t>(first_word) * args.head_dim + dim;
#pragma unroll 1
  for (int at = static_cast<int>(threadIdx.x) / Traits::kLanes; at < words;
       at += kSideBySide * Traits::kAhead) {
    float4 weight[Traits::kAhead];
    float value[Traits::kAhead][8];
#pragma unroll
    for (int n = 0; n < Traits::kAhead; ++n) {
      const int word = at + n * kSideBySide;
      weight[n] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      if (word < words) {
        weight[n] =
            *reinterpret_cast<const float4*>(&shared.bins[0][word * book.pitch + first_row]);
      }
      const bool is_read = dim < args.head_dim && (weight[n].x != 0.0f || weight[n].y != 0.0f ||
                                                   weight[n].z != 0.0f || weight[n].w != 0.0f);
#pragma unroll
      for (int i = 0; i < 8; ++i) value[n][i] = 0.0f;
      if (is_read) load_eight(rows + static_cast<int64_t>(word) * args.head_dim, value[n]);
    }
#pragma unroll
    for (int n = 0; n < Traits::kAhead; ++n) {
      const float four[4] = {weight[n].x, weight[n].y, weight[n].z, weight[n].w};
#pragma unroll
      for (int r = 0; r < Traits::kRowChunk; ++r) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          if (four[r] != 0.0f) acc[r][i] = fmaf(four[r], value[n][i], acc[r][i]);
        }
      }
    }
  }
}

// Adds the lane groups' sums of 4 rows in their order and writes the rows' partials.
template <typename Traits>
__device__ __forceinline__ void store_four_rows(const AttendArgs& args, const AttendBlock& block,
                                                int first_row,
                                                const float (&acc)[Traits::kRowChunk][8],
                                                ValueShared& shared) {
  constexpr int kGroups = kValueThreads / Traits::kLanes;
  auto* sums = reinterpret_cast<float (*)[Traits::kRowChunk][Traits::kMaxDim]>(&shared.bins[1][0]);
  static_assert(sizeof(float) * kGroups * Traits::kRowChunk * Traits::kMaxDim <=
                sizeof(float) * (kValueWarps - 1) * kBinFloats);
  const int group = static_cast<int>(threadIdx.x) / Traits::kLanes;
#pragma unroll
  for (int r = 0; r < Traits::kRowChunk; ++r) {
    store8(&sums[group][r][8 * (lane_id() % Traits::kLanes)], acc[r]);
  }
  __syncthreads();
  const int rows = min(Traits::kRowChunk, shared.rows.count - first_row);
  for (int i = static_cast<int>(threadIdx.x); i < rows * args.head_dim; i += kValueThreads) {
    const int row = i / args.head_dim;
    const int dim = i % args.head_dim;
    float sum = 0.0f;
#pragma unroll
    for (int g = 0; g < kGroups; ++g) sum += sums[g][row][dim];
    const int64_t partial = partial_index(args, shared.rows.row[first_row + row], block.partial);
    args.partial_acc[partial * args.head_dim + dim] = sum;
  }
  __syncthreads();  // the sums are written again
}

template <typename Traits>
__global__ __launch_bounds__(kValueThreads,
                             kValueBlocks) void codebook_values_kernel(const AttendArgs args) {
  SKV_DYNAMIC_SHARED(memory, ValueShared);
  ValueShared& shared = *memory;
  const CodebookBlock own = codebook_block(args, &CodebookRun::first_value_block);
  const CodebookRun& book = own.book;
  const AttendBlock block = rows_block(own);
  const int first_word = own.index * book.tile_words;
  const int words = min(book.tile_words, book.run.v_codewords - first_word);
  load_rows(args, block, shared.rows);
  load_maxima(args, book, shared);
  for (int i = lane_id(); i < book.tile_words * book.pitch; i += kWarpSize) {
    shared.bins[warp_id()][i] = 0.0f;
  }
  for (int row = 0; row < book.pitch; ++row) shared.sums[warp_id()][row][lane_id()] = 0.0f;
  __syncthreads();
  fill_bins<typename Traits::Elem>(args, book, first_word, words, shared);
  __syncthreads();  // all warps' bins are full
  gather_bins(words * book.pitch, shared.rows.count, shared);
  __syncthreads();
  for (int row = 0; row < shared.rows.count; row += Traits::kRowChunk) {
    float acc[Traits::kRowChunk][8] = {};
    add_words<Traits>(args, book, first_word, words, row, shared, acc);
    store_four_rows<Traits>(args, block, row, acc, shared);
  }
  const int row = static_cast<int>(threadIdx.x);
  if (row < shared.rows.count) {
    args.partial_stats[partial_index(args, shared.rows.row[row], block.partial)] =
        make_float2(shared.maximum[row], shared.sum[row]);
  }
  finish_block<kValueThreads>(args, block, shared.rows, &shared.bins[1][0]);
}

}  // namespace spindlekv::cuda
