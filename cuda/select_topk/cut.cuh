// select_topk: the cut of a set of keys, found by one block.
//   the cut takes every key above cut.key and `ties` slots of just this key, the first ones
// Keys are 32 bits, told apart digit by digit from the top: the block counts the keys of each value
// of the digit in shared memory, then finds the bin that the wanted number ends in.
#pragma once

#include "core/canonical.h"
#include "core/ops.h"

#include "cuda/common/launch.h"
#include "cuda/common/reduce.cuh"
#include "cuda/select_topk/row.cuh"

namespace spindlekv::cuda {

// ---- types
// ---------------------------------------------------------------------------------------

struct SelectRadix {
  unsigned counts[SelectTraits::kBins];
  int bin;              // the one that the wanted number ends in
  unsigned bin_count;   // keys in it
  unsigned bin_wanted;  // of these, how many are taken
};

struct SelectCut {
  uint32_t key;
  int tie_end;    // slots of this very key are taken below here
  int ties;       // how many these are
  int left_ties;  // slots of this key that are not taken

  __device__ bool takes_all() const { return ties == INT32_MAX; }
};

// op.lengths and op.k are in device memory here.
struct SelectArgs {
  SkvSelectTopkParams op;
  SelectCut* cuts;  // [rows]
};

// ---- helpers
// -------------------------------------------------------------------------------------

// No float has this key or the one behind it.
__device__ __forceinline__ SelectCut nothing() { return {0xfffffffeu, 0, 0, 0}; }
__device__ __forceinline__ SelectCut everything() { return {0, INT32_MAX, INT32_MAX, 0}; }

// Counts keys by one digit. A thread adds up what falls in the same bin in a row, because equal
// and near scores would otherwise queue for one counter.
struct BinCounter {
  unsigned* counts;
  uint32_t prefix;       // the digits of the cut found so far
  uint32_t prefix_mask;  // the bits they cover
  int shift;
  uint32_t digit_mask;
  int bin = 0;
  unsigned pending = 0;

  __device__ void add(uint32_t key, unsigned times) {
    if ((key & prefix_mask) != prefix) return;
    const int of_key = static_cast<int>((key >> shift) & digit_mask);
    if (of_key != bin) {
      flush();
      bin = of_key;
    }
    pending += times;
  }
  __device__ void flush() {
    if (pending != 0) atomicAdd(&counts[bin], pending);
    pending = 0;
  }
};

__device__ __forceinline__ void count_keys(const Competing& slots, BinCounter& counter) {
  for (int64_t slot = slots.first + static_cast<int64_t>(threadIdx.x); slot < slots.last;
       slot += SelectTraits::kThreads) {
    counter.add(canonical::score_key(slots.scores[slot]), 1);
  }
}

// Finds the bin, from the top, in which the `wanted`-th key lies. All threads call. Keys are fewer
// than 2^32 in all.
__device__ __forceinline__ void find_bin(SelectRadix& radix, uint32_t wanted) {
  constexpr int kOwn = SelectTraits::kBinsPerThread;
  const int top = SelectTraits::kBins - 1 - static_cast<int>(threadIdx.x) * kOwn;
  uint32_t own = 0;
#pragma unroll
  for (int i = 0; i < kOwn; ++i) own += radix.counts[top - i];
  uint32_t above = block_exclusive_sum<SelectTraits::kThreads>(own).before;
  if (above < wanted && wanted <= above + own) {
    int bin = top;
    while (above + radix.counts[bin] < wanted) above += radix.counts[bin--];
    radix.bin = bin;
    radix.bin_count = radix.counts[bin];
    radix.bin_wanted = wanted - above;
  }
  __syncthreads();
}

// The cut that takes the `wanted` largest of `total` keys; each_key(counter) adds all of them, the
// threads of the block sharing the work. tie_end is left open unless the cut is trivial. Fewer than
// all digits give the first of the keys that share these with the cut's.
template <typename EachKey>
__device__ __forceinline__ SelectCut find_cut(SelectRadix& radix, int64_t total, int64_t wanted,
                                              int digits, const EachKey& each_key) {
  if (wanted <= 0) return nothing();
  if (wanted >= total) return everything();
  uint32_t prefix = 0;
  uint32_t prefix_mask = 0;
  for (int digit = 0; digit < digits; ++digit) {
    const int shift = digit == 0 ? 21 : digit == 1 ? 10 : 0;
    const uint32_t digit_mask = digit == 2 ? 0x3ffu : 0x7ffu;
    for (int bin = static_cast<int>(threadIdx.x); bin < SelectTraits::kBins;
         bin += SelectTraits::kThreads) {
      radix.counts[bin] = 0;
    }
    __syncthreads();
    BinCounter counter{radix.counts, prefix, prefix_mask, shift, digit_mask};
    each_key(counter);
    counter.flush();
    __syncthreads();
    find_bin(radix, static_cast<uint32_t>(wanted));
    wanted = radix.bin_wanted;
    prefix |= static_cast<uint32_t>(radix.bin) << shift;
    prefix_mask |= digit_mask << shift;
  }
  const int64_t left = static_cast<int64_t>(radix.bin_count) - wanted;
  __syncthreads();  // the radix may be used again
  return {prefix, 0, static_cast<int>(wanted), static_cast<int>(left)};
}

// Slots of a row that have the key. All threads call; all get the number.
__device__ __forceinline__ int count_equal(const Competing& slots, uint32_t key) {
  int equal = 0;
  for (int64_t slot = slots.first + static_cast<int64_t>(threadIdx.x); slot < slots.last;
       slot += SelectTraits::kThreads) {
    equal += canonical::score_key(slots.scores[slot]) == key ? 1 : 0;
  }
  return block_sum<SelectTraits::kThreads>(equal);
}

// The slot after the last tie that the cut takes. Reads the row only if it leaves some.
__device__ __forceinline__ int find_tie_end(const Competing& slots, const SelectCut& cut) {
  SKV_SHARED(tie_end, int);
  constexpr int kItems = SelectTraits::kNeighbours;
  if (cut.ties == 0) return 0;
  if (cut.left_ties == 0) return INT32_MAX;
  int seen = 0;
  for (int64_t chunk = slots.first; seen < cut.ties && chunk < slots.last;
       chunk += SelectTraits::kThreads * kItems) {
    const int64_t first = chunk + static_cast<int64_t>(threadIdx.x) * kItems;
    int equal = 0;
#pragma unroll
    for (int item = 0; item < kItems; ++item) {
      const int64_t slot = first + item;
      if (slot >= slots.last) continue;
      equal += canonical::score_key(slots.scores[slot]) == cut.key ? 1 : 0;
    }
    const ScanResult<int> place = block_exclusive_sum<SelectTraits::kThreads>(equal);
    int rank = seen + place.before;
    if (rank < cut.ties && rank + equal >= cut.ties) {
      for (int64_t slot = first;; ++slot) {
        if (canonical::score_key(slots.scores[slot]) != cut.key) continue;
        if (++rank == cut.ties) {
          tie_end = static_cast<int>(slot) + 1;
          break;
        }
      }
    }
    seen += place.total;
  }
  __syncthreads();
  const int result = tie_end;
  __syncthreads();  // the storage is shared by all calls
  return result;
}

}  // namespace spindlekv::cuda
