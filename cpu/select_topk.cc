// Exact top-k of score rows with protected ends, floors across rows, and unions of rows.
//
// No sort: a radix count over canonical::score_key finds each row's cut, the key of the last
// selected slot and how many slots of that very key are taken; then one ordered pass writes the
// indices. Reads a row four times (three digits, one write), more across heads.
#include <algorithm>
#include <cstdint>

#include "core/canonical.h"
#include "core/ops.h"
#include "cpu/carve.h"
#include "cpu/entries.h"

namespace spindlekv::cpu {
namespace {

using canonical::score_key;

// Selected are the slots with a key above `key` and the first `ties` ones with this key.
struct Cut {
  uint32_t key;
  int64_t ties;
};

constexpr Cut kCutNothing{UINT32_MAX, 0};  // no float has this key
constexpr Cut kCutEverything{0, INT64_MAX};
constexpr int32_t kMaxUnion = 16;  // the bits of a mask

// The slots of a row that compete: those between the sinks and the recent ones.
struct Competing {
  const float* scores;
  int64_t first;
  int64_t last;
  int64_t count() const { return last - first; }
};

Competing competing(const SkvSelectTopkParams& params, int64_t row) {
  const int64_t length = params.lengths[row];
  const int64_t first = std::min<int64_t>(params.sinks, length);
  const int64_t last = std::max(first, length - params.recent);
  return {params.scores + row * params.stride, first, last};
}

// The cut that takes the `wanted` largest of `total` keys; each_key(use) calls use(key, times) for
// all of them, any order. Keys of 32 bits are told apart by 11, 11 and 10 bits.
template <class EachKey>
Cut find_cut(int64_t total, int64_t wanted, const EachKey& each_key) {
  if (wanted <= 0) return kCutNothing;
  if (wanted >= total) return kCutEverything;
  constexpr struct {
    int shift;
    int bits;
  } kDigits[] = {{21, 11}, {10, 11}, {0, 10}};
  uint32_t prefix = 0;       // the digits of the cut found so far
  uint32_t prefix_mask = 0;  // the bits they cover
  for (const auto& digit : kDigits) {
    int64_t counts[2048] = {};
    const uint32_t digit_mask = (1u << digit.bits) - 1u;
    each_key([&](uint32_t key, int64_t times) {
      if ((key & prefix_mask) == prefix) counts[(key >> digit.shift) & digit_mask] += times;
    });
    uint32_t value = digit_mask;
    while (counts[value] < wanted) wanted -= counts[value--];
    prefix |= value << digit.shift;
    prefix_mask |= digit_mask << digit.shift;
  }
  return {prefix, wanted};
}

template <class Use>
void each_key_of(const Competing& slots, const Use& use) {
  for (int64_t i = slots.first; i < slots.last; ++i) use(score_key(slots.scores[i]), 1);
}

Cut cut_row(const Competing& slots, int64_t wanted) {
  return find_cut(slots.count(), wanted, [&](const auto& use) { each_key_of(slots, use); });
}

int64_t count_equal(const Competing& slots, uint32_t key) {
  int64_t equal = 0;
  for (int64_t i = slots.first; i < slots.last; ++i) equal += score_key(slots.scores[i]) == key;
  return equal;
}

// Across-head mode: first the floor of every row, then the best of what is left over all rows.
void cut_pooled_rows(const SkvSelectTopkParams& params, int64_t set, Cut* cuts,
                     int64_t* left_ties) {
  const int64_t first_row = set * params.pool_rows;
  int64_t given = 0;
  int64_t left = 0;
  for (int64_t r = 0; r < params.pool_rows; ++r) {
    const Competing slots = competing(params, first_row + r);
    const int64_t floor = std::min<int64_t>(params.floor, slots.count());
    cuts[r] = cut_row(slots, floor);
    // A row whose floor took all has nothing left; otherwise what is left with the cut's own key.
    left_ties[r] = floor == slots.count() ? 0 : count_equal(slots, cuts[r].key) - cuts[r].ties;
    given += floor;
    left += slots.count() - floor;
  }
  const Cut shared = find_cut(left, params.k[set] - given, [&](const auto& use) {
    for (int64_t r = 0; r < params.pool_rows; ++r) {
      if (cuts[r].ties == INT64_MAX) continue;
      each_key_of(competing(params, first_row + r), [&](uint32_t key, int64_t times) {
        if (key < cuts[r].key) use(key, times);
      });
      use(cuts[r].key, left_ties[r]);
    }
  });
  int64_t shared_ties = shared.ties;
  for (int64_t r = 0; r < params.pool_rows; ++r) {
    Cut& cut = cuts[r];
    if (cut.ties == INT64_MAX || shared.key > cut.key) continue;
    if (shared.ties == INT64_MAX) {
      cut = kCutEverything;
      continue;
    }
    const bool is_same_key = shared.key == cut.key;
    const int64_t equal =
        is_same_key ? left_ties[r] : count_equal(competing(params, first_row + r), shared.key);
    const int64_t taken = std::min(equal, shared_ties);
    shared_ties -= taken;
    cut = {shared.key, is_same_key ? cut.ties + taken : taken};
  }
}

// Walks a row in order and says of each competing slot whether it is selected.
struct Selector {
  const float* scores;
  Cut cut;

  bool takes(int64_t slot) {
    const uint32_t key = score_key(scores[slot]);
    if (key != cut.key) return key > cut.key;
    return cut.ties > 0 && cut.ties-- > 0;
  }
};

void write_row(const SkvSelectTopkParams& params, int64_t out_row, const Cut* cuts) {
  const int32_t group = params.union_group;
  const int64_t first_row = out_row * group;
  const Competing slots = competing(params, first_row);
  int32_t* const indices = params.indices + out_row * params.out_stride;
  uint16_t* const masks =
      params.masks == nullptr ? nullptr : params.masks + out_row * params.out_stride;
  int64_t count = 0;
  const auto put = [&](int64_t slot, uint32_t mask) {
    indices[count] = static_cast<int32_t>(slot);
    if (masks != nullptr) masks[count] = static_cast<uint16_t>(mask);
    ++count;
  };
  const uint32_t all = (1u << group) - 1u;

  for (int64_t slot = 0; slot < slots.first; ++slot) put(slot, all);
  if (group == 1) {
    Selector selector{slots.scores, cuts[first_row]};
    for (int64_t slot = slots.first; slot < slots.last; ++slot) {
      if (selector.takes(slot)) put(slot, 1);
    }
  } else {
    Selector selectors[kMaxUnion];
    for (int32_t g = 0; g < group; ++g) {
      selectors[g] = {params.scores + (first_row + g) * params.stride, cuts[first_row + g]};
    }
    for (int64_t slot = slots.first; slot < slots.last; ++slot) {
      uint32_t mask = 0;
      for (int32_t g = 0; g < group; ++g) {
        mask |= static_cast<uint32_t>(selectors[g].takes(slot)) << g;
      }
      if (mask != 0) put(slot, mask);
    }
  }
  for (int64_t slot = slots.last; slot < params.lengths[first_row]; ++slot) put(slot, all);
  params.counts[out_row] = static_cast<int32_t>(count);
}

Cut* lay_out(const SkvSelectTopkParams& params, Carver& carver, int64_t** left_ties) {
  *left_ties = carver.take<int64_t>(params.pool_rows > 1 ? params.rows : 0);
  return carver.take<Cut>(params.rows);
}

}  // namespace

Status select_topk(SkvDevice& device, const SkvExec& exec, const SkvSelectTopkParams& params) {
  Carver carver(exec.workspace);
  int64_t* left_ties = nullptr;
  Cut* const cuts = lay_out(params, carver, &left_ties);
  device.pool.parallel_for(params.rows / params.pool_rows, [&](int64_t set, int) {
    if (params.pool_rows > 1) {
      const int64_t first_row = set * params.pool_rows;
      cut_pooled_rows(params, set, cuts + first_row, left_ties + first_row);
    } else {
      cuts[set] = cut_row(competing(params, set), params.k[set]);
    }
  });
  device.pool.parallel_for(params.rows / params.union_group,
                           [&](int64_t out_row, int) { write_row(params, out_row, cuts); });
  return ok_status();
}

size_t select_topk_workspace(SkvDevice&, const SkvSelectTopkParams& params) {
  Carver carver(nullptr);
  int64_t* left_ties = nullptr;
  lay_out(params, carver, &left_ties);
  return carver.used();
}

}  // namespace spindlekv::cpu
