// Exact top-k of score rows with protected ends, floors across rows, and unions of rows.
//
// No sort: a radix count over canonical::score_key finds each row's cut, the key of the last
// selected slot and how many slots of that very key are taken; then one ordered pass writes the
// indices. Reads a row four times (three digits, one write), more across heads.
#include <algorithm>
#include <bit>
#include <cstdint>

#include "core/ops.h"
#include "cpu/carve.h"
#include "cpu/entries.h"

namespace spindlekv::cpu {
namespace {

// Selected are the slots with a key above `key` and the first `ties` ones with this key.
struct Cut {
  uint32_t key;
  int64_t ties;
};

constexpr Cut kCutNothing{UINT32_MAX, 0};  // no float has this key
constexpr Cut kCutEverything{0, INT64_MAX};
constexpr int64_t kBlock = 256;  // slots whose keys are made at once

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

// The keys of the slots [first, first + count) of a row; canonical::score_key without its branches.
void load_keys(const float* scores, int64_t first, int64_t count, uint32_t* keys) {
  for (int64_t i = 0; i < count; ++i) {
    const float score = scores[first + i] + 0.0f;  // -0 becomes +0
    const uint32_t bits = std::bit_cast<uint32_t>(score);
    const uint32_t flip = static_cast<uint32_t>(static_cast<int32_t>(bits) >> 31) | 0x80000000u;
    keys[i] = score != score ? 0u : bits ^ flip;
  }
}

// Calls use(keys, count) for the competing slots, kBlock or fewer at a time.
template <class Use>
void each_block_of(const Competing& slots, const Use& use) {
  uint32_t keys[kBlock];
  for (int64_t first = slots.first; first < slots.last; first += kBlock) {
    const int64_t count = std::min(kBlock, slots.last - first);
    load_keys(slots.scores, first, count, keys);
    use(keys, count);
  }
}

template <class Use>
void each_key_of(const Competing& slots, const Use& use) {
  each_block_of(slots, [&](const uint32_t* keys, int64_t count) {
    for (int64_t i = 0; i < count; ++i) use(keys[i], 1);
  });
}

Cut cut_row(const Competing& slots, int64_t wanted) {
  return find_cut(slots.count(), wanted, [&](const auto& use) { each_key_of(slots, use); });
}

int64_t count_equal(const Competing& slots, uint32_t wanted) {
  int64_t equal = 0;
  each_key_of(slots, [&](uint32_t key, int64_t) { equal += key == wanted; });
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

// Sets `bit` in the masks of the slots of a block that the cut takes, and uses up its ties.
void mark_selected(const uint32_t* keys, int64_t count, uint16_t bit, Cut* cut, uint16_t* masks) {
  for (int64_t i = 0; i < count; ++i) masks[i] |= keys[i] > cut->key ? bit : 0;
  for (int64_t i = 0; cut->ties > 0 && i < count; ++i) {
    if (keys[i] != cut->key) continue;
    masks[i] |= bit;
    --cut->ties;
  }
}

// Writes the selected slots of a row, or of the union of rows, in ascending order.
class RowWriter {
 public:
  RowWriter(const SkvSelectTopkParams& params, int64_t out_row)
      : indices_(params.indices + out_row * params.out_stride),
        masks_(params.masks == nullptr ? nullptr : params.masks + out_row * params.out_stride) {}

  void put_all(int64_t first, int64_t last, uint16_t mask) {
    for (int64_t slot = first; slot < last; ++slot) {
      indices_[count_] = static_cast<int32_t>(slot);
      if (masks_ != nullptr) masks_[count_] = mask;
      ++count_;
    }
  }

  // The slots of a block whose mask is not 0, gathered aside without branches: which ones is
  // random.
  void put_marked(int64_t first, int64_t count, const uint16_t* masks) {
    int32_t kept[kBlock];
    uint16_t kept_masks[kBlock];
    int64_t n = 0;
    for (int64_t i = 0; i < count; ++i) {
      kept[n] = static_cast<int32_t>(first + i);
      kept_masks[n] = masks[i];
      n += masks[i] != 0;
    }
    std::copy(kept, kept + n, indices_ + count_);
    if (masks_ != nullptr) std::copy(kept_masks, kept_masks + n, masks_ + count_);
    count_ += n;
  }

  int32_t count() const { return static_cast<int32_t>(count_); }

 private:
  int32_t* indices_;
  uint16_t* masks_;
  int64_t count_ = 0;
};

void write_row(const SkvSelectTopkParams& params, int64_t out_row, Cut* cuts) {
  const int32_t group = params.union_group;
  const int64_t first_row = out_row * group;
  const Competing slots = competing(params, first_row);
  const uint16_t all = static_cast<uint16_t>((1u << group) - 1u);
  RowWriter writer(params, out_row);
  uint32_t keys[kBlock];
  uint16_t masks[kBlock];

  writer.put_all(0, slots.first, all);
  for (int64_t first = slots.first; first < slots.last; first += kBlock) {
    const int64_t count = std::min(kBlock, slots.last - first);
    std::fill(masks, masks + count, uint16_t{0});
    for (int32_t g = 0; g < group; ++g) {
      load_keys(params.scores + (first_row + g) * params.stride, first, count, keys);
      mark_selected(keys, count, static_cast<uint16_t>(1u << g), cuts + first_row + g, masks);
    }
    writer.put_marked(first, count, masks);
  }
  writer.put_all(slots.last, params.lengths[first_row], all);
  params.counts[out_row] = writer.count();
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
