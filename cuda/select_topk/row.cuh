// select_topk: how a block reads the scores of a row that compete.
//   a chunk is kChunk slots; of these a warp takes kWarpSlots in a row, in rounds of 128: lane i
//   reads slots 4i .. 4i + 3 of a round at once. Slots of a thread: round * 128 + lane * 4 + i.
// 16-byte loads where the row is aligned and the warp's slots all compete, single ones elsewhere.
#pragma once

#include "core/ops.h"

#include "cuda/common/launch.h"
#include "cuda/common/reduce.cuh"

#include <cmath>

namespace spindlekv::cuda {

// ---- traits
// --------------------------------------------------------------------------------------

struct SelectTraits {
  static constexpr int kThreads = 256;
  static constexpr int kNeighbours = 4;  // slots in a row that a thread reads at once
  static constexpr int kRounds = 4;
  static constexpr int kItems = kNeighbours * kRounds;  // slots of a thread in a chunk
  static constexpr int kRoundSlots = kNeighbours * kWarpSize;
  static constexpr int kWarpSlots = kRoundSlots * kRounds;
  static constexpr int kChunk = kThreads * kItems;
  static constexpr int kBins = 2048;
  static constexpr int kBinsPerThread = kBins / kThreads;
  static constexpr int kDigits = 3;  // of 11, 11 and 10 bits
  static_assert(kBins % kThreads == 0);
};

// The slots of a row that compete: those between the sinks and the recent ones.
struct Competing {
  const float* scores;
  int first;
  int last;

  __device__ int64_t count() const { return last - first; }
};

// A bit for each item of a thread in a chunk.
using ItemBits = unsigned;
inline constexpr ItemBits kAllItems = (1u << SelectTraits::kItems) - 1u;

// ---- helpers
// -------------------------------------------------------------------------------------

__device__ __forceinline__ Competing competing(const SkvSelectTopkParams& op, int64_t row) {
  const int length = op.lengths[row];
  const int first = min(op.sinks, length);
  const int last = max(first, length - op.recent);
  return {length == 0 ? nullptr : op.scores + row * op.stride, first, last};
}

// The thread's first slot of a chunk, and how far item `item` lies behind it.
__device__ __forceinline__ int own_slot(int chunk) {
  return chunk + warp_id() * SelectTraits::kWarpSlots + lane_id() * SelectTraits::kNeighbours;
}
__device__ __forceinline__ constexpr int item_offset(int item) {
  return item / SelectTraits::kNeighbours * SelectTraits::kRoundSlots +
         item % SelectTraits::kNeighbours;
}

// Reads the thread's scores of a chunk; the bits say which compete. The others are NaN, the lowest.
__device__ __forceinline__ ItemBits load_scores(const Competing& slots, int chunk,
                                                float (&score)[SelectTraits::kItems]) {
  constexpr int kNeighbours = SelectTraits::kNeighbours;
  const int warp_first = chunk + warp_id() * SelectTraits::kWarpSlots;
  const float* own = slots.scores + own_slot(chunk);
  if (warp_first >= slots.first && warp_first + SelectTraits::kWarpSlots <= slots.last &&
      reinterpret_cast<uintptr_t>(own) % 16 == 0) {
#pragma unroll
    for (int round = 0; round < SelectTraits::kRounds; ++round) {
      const float4 four = *reinterpret_cast<const float4*>(own + round * SelectTraits::kRoundSlots);
      score[round * kNeighbours] = four.x;
      score[round * kNeighbours + 1] = four.y;
      score[round * kNeighbours + 2] = four.z;
      score[round * kNeighbours + 3] = four.w;
    }
    return kAllItems;
  }
  ItemBits competes = 0;
#pragma unroll
  for (int item = 0; item < SelectTraits::kItems; ++item) {
    const int slot = own_slot(chunk) + item_offset(item);
    const bool is_there = slot >= slots.first && slot < slots.last;
    score[item] = is_there ? slots.scores[slot] : NAN;
    if (is_there) competes |= 1u << item;
  }
  return competes;
}

}  // namespace spindlekv::cuda
