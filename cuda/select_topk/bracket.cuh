// select_topk: the cut of a row by one reading of it. Two keys that lie around the cut, guessed
// from a sample, are the bracket: slots above it are counted, those inside are listed in shared
// memory, where the cut is then found exactly. A row that fits in the list needs no sample.
//   wanted-th key of the row = (wanted - above)-th key of the list, if the list holds it
// A guess that misses the cut, or a list too short for the bracket (many equal scores), is noticed:
// then all keys of the row are counted digit by digit, with the same result.
#pragma once

#include "core/canonical.h"

#include "cuda/common/launch.h"
#include "cuda/common/reduce.cuh"
#include "cuda/select_topk/cut.cuh"
#include "cuda/select_topk/row.cuh"

#include <cmath>

namespace spindlekv::cuda {

// ---- traits
// --------------------------------------------------------------------------------------

struct BracketTraits {
  static constexpr int kListed = 8192;
  static constexpr int kSamples = 2048;
  // Half the width in standard deviations of the sample's rank: misses one row of 15000.
  static constexpr float kDeviations = 4.0f;
  // Of the list, how much half of the bracket may fill by the sample's word.
  static constexpr float kFilled = 0.45f;
  // Digits of its ends: the rest of them makes no difference to what they enclose.
  static constexpr int kEndDigits = 2;
  static constexpr uint32_t kEndRest = 0x3ff;
  static_assert(kSamples <= kListed);
};

struct ListedSlot {
  float score;
  int slot;
};

// In no order.
struct SelectList {
  ListedSlot entries[BracketTraits::kListed];
  int count;  // may be more than there is room for
};

struct Bracket {
  uint32_t low;
  uint32_t high;  // both inside
};

// What is looked for, one after the other.
enum class CutSearch {
  kHigh,    // the bracket's ends, among the samples
  kLow,     //
  kListed,  // the cut, among the slots inside
  kTies,    // the last tie that it takes, among these
  kRow,     // the cut, among all slots of the row
  kDone
};

// ---- helpers
// -------------------------------------------------------------------------------------

__device__ __forceinline__ void list_samples(const Competing& slots, SelectList& list) {
  for (int i = static_cast<int>(threadIdx.x); i < BracketTraits::kSamples;
       i += SelectTraits::kThreads) {
    const int64_t slot = slots.first + i * slots.count() / BracketTraits::kSamples;
    list.entries[i] = {slots.scores[slot], static_cast<int>(slot)};
  }
  __syncthreads();
}

// Half of the bracket's width, in samples.
__device__ __forceinline__ float margin_of(float share, int64_t count) {
  constexpr float kSamples = BracketTraits::kSamples;
  const float deviation = sqrtf(kSamples * share * (1.0f - share));
  const float room =
      BracketTraits::kFilled * BracketTraits::kListed * kSamples / static_cast<float>(count);
  return fminf(BracketTraits::kDeviations * deviation + 1.0f, room);
}

// Which of a thread's items are inside the bracket; adds up how many are above it. Numbers are in
// the order of their keys.
__device__ __forceinline__ ItemBits items_inside(const float (&score)[SelectTraits::kItems],
                                                 const Bracket& bracket, int& above) {
  const float low = canonical::score_of_key(bracket.low);
  const float high = canonical::score_of_key(bracket.high);
  ItemBits reach = 0;
  ItemBits pass = 0;
#pragma unroll
  for (int item = 0; item < SelectTraits::kItems; ++item) {
    if (score[item] >= low) reach |= 1u << item;
    if (score[item] > high) pass |= 1u << item;
  }
  above += __popc(pass);
  return reach & ~pass;
}

// The same for a bracket that begins with NaN, which is in no order and has the lowest key. If it
// ends there as well, too many are inside, which is noticed.
__device__ __forceinline__ ItemBits items_down_to_nan(const float (&score)[SelectTraits::kItems],
                                                      const Bracket& bracket, int& above) {
  const float high = canonical::score_of_key(bracket.high);
  ItemBits pass = 0;
#pragma unroll
  for (int item = 0; item < SelectTraits::kItems; ++item) {
    if (score[item] > high) pass |= 1u << item;
  }
  above += __popc(pass);
  return kAllItems & ~pass;
}

// Lists the slots inside the bracket and gives the number of those above it.
__device__ __forceinline__ int list_bracket(const Competing& slots, const Bracket& bracket,
                                            SelectList& list) {
  constexpr int kItems = SelectTraits::kItems;
  if (threadIdx.x == 0) list.count = 0;
  __syncthreads();
  int above = 0;
  const int first = slots.first / SelectTraits::kNeighbours * SelectTraits::kNeighbours;
  for (int64_t chunk = first; chunk < slots.last; chunk += SelectTraits::kChunk) {
    // load
    float score[kItems];
    ItemBits inside = load_scores(slots, static_cast<int>(chunk), score);
    const int slot = own_slot(static_cast<int>(chunk));
    inside &= bracket.low == 0 ? items_down_to_nan(score, bracket, above)
                               : items_inside(score, bracket, above);
    // list: places for the whole warp at once
    const int own = __popc(inside);
    const int through = warp_inclusive_sum(own);
    int place = 0;
    if (lane_id() == kWarpSize - 1) place = atomicAdd(&list.count, through);
    place = __shfl_sync(kAllLanes, place, kWarpSize - 1) + through - own;
    if (place + own > BracketTraits::kListed) continue;
    ListedSlot* entry = list.entries + place;
#pragma unroll
    for (int item = 0; item < kItems; ++item) {
      if ((inside >> item & 1u) != 0) *entry++ = {score[item], slot + item_offset(item)};
    }
  }
  return block_sum<SelectTraits::kThreads>(above);
}

// The cut that takes the `wanted` best slots.
__device__ __forceinline__ SelectCut find_row_cut(SelectRadix& radix, SelectList& list,
                                                  const Competing& slots, int64_t wanted) {
  const int64_t count = slots.count();
  if (wanted <= 0) return nothing();
  if (wanted >= count) return everything();
  constexpr int kSamples = BracketTraits::kSamples;
  const float share = static_cast<float>(wanted) / static_cast<float>(count);
  const float margin = margin_of(share, count);

  Bracket bracket{0u, UINT32_MAX};
  SelectCut cut{};
  CutSearch search = CutSearch::kListed;
  int64_t among = kSamples;
  auto rank = static_cast<int64_t>(kSamples * share - margin);
  if (count > BracketTraits::kListed) {
    list_samples(slots, list);
    search = CutSearch::kHigh;
  }
  while (search != CutSearch::kDone) {
    if (search == CutSearch::kListed) {
      rank = wanted - list_bracket(slots, bracket, list);
      among = list.count;
      if (among > BracketTraits::kListed || rank <= 0 || rank >= among) {
        search = CutSearch::kRow;
        among = count;
        rank = wanted;
      }
    }
    const bool is_tie = search == CutSearch::kTies;
    const int listed = is_tie ? list.count : static_cast<int>(among);
    const auto each_key = [&](BinCounter& counter) {
      if (search == CutSearch::kRow) return count_keys(slots, counter);
      for (int i = static_cast<int>(threadIdx.x); i < listed; i += SelectTraits::kThreads) {
        const ListedSlot entry = list.entries[i];
        const uint32_t key = canonical::score_key(entry.score);
        // The ties taken are the first ones: the largest of their numbers' complements.
        if (is_tie && key != cut.key) continue;
        counter.add(is_tie ? ~static_cast<uint32_t>(entry.slot) : key, 1);
      }
    };
    const bool is_end = search == CutSearch::kHigh || search == CutSearch::kLow;
    const int digits = is_end ? BracketTraits::kEndDigits : SelectTraits::kDigits;
    const SelectCut found = find_cut(radix, among, rank, digits, each_key);
    switch (search) {
      case CutSearch::kHigh:
        bracket.high = found.key == 0 ? 0 : found.key | BracketTraits::kEndRest;
        search = CutSearch::kLow;
        rank = static_cast<int64_t>(kSamples * share + margin) + 1;
        break;
      case CutSearch::kLow:
        bracket.low = found.key == 0 ? 0 : max(found.key, canonical::score_key(-INFINITY));
        search = CutSearch::kListed;
        break;
      case CutSearch::kListed:
        cut = found;
        cut.tie_end = INT32_MAX;
        search = cut.left_ties == 0 ? CutSearch::kDone : CutSearch::kTies;
        among = static_cast<int64_t>(cut.ties) + cut.left_ties;
        rank = cut.ties;
        break;
      case CutSearch::kTies:
        cut.tie_end = static_cast<int>(~found.key) + 1;
        search = CutSearch::kDone;
        break;
      default:
        cut = found;
        cut.tie_end = find_tie_end(slots, cut);
        search = CutSearch::kDone;
    }
  }
  return cut;
}

}  // namespace spindlekv::cuda
