// attend for many rows on a processor with AMX: the products of attend_block.cc by its matrix unit,
// with the vectors' work in between.
//
// A tile of 64 slots goes through these steps, 32 rows (a stack) at a time; on the right what the
// vectors do while the unit multiplies:
//   x = k . q of the first stack       values of this tile are packed
//   x = k . q of the next stacks       weights exp(x - m) of the stack before are made and packed
//   acc += p . v of the first stack    weights of the last stack
//   acc += p . v of the next stacks    keys of the next tile are packed
// The unit does three products of bf16 for each of f32: 6 D multiply-adds per row and slot, 512 a
// cycle. It is slow to begin after a pause, another reason to do both side by side.
#if defined(__AVX512F__)

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "cpu/isa/amx_products.h"
#include "cpu/isa/attend_block.h"

namespace spindlekv::cpu::SKV_ISA {
namespace {

constexpr int kQuad = 4;  // pairs of slots whose weights are made in a step

// The factors of the unit's products, in the scratch memory behind the vectors'.
BlockTiles carve_tiles(const AttendTask& task, const BlockMemory& memory) {
  BlockTiles tiles;
  tiles.row_groups = memory.lanes / kUnitRows;
  tiles.dim_blocks = dim_blocks(task.parts->params->head_dim);
  tiles.dim_groups = memory.dim / 16;
  tiles.queries = reinterpret_cast<char*>(memory.bit + memory.lanes);
  tiles.weights = tiles.queries + tiles.row_groups * tiles.query_step();
  tiles.keys = tiles.weights + tiles.row_groups * tiles.weight_step();
  tiles.values = tiles.keys + kTileSlots * tiles.key_stride();
  return tiles;
}

// [lanes, dim], behind the tiles.
float* odd_sums(const BlockTiles& tiles) {
  return reinterpret_cast<float*>(tiles.values + kTileSlots / 2 * tiles.value_stride());
}

// Slots of a pair of values.
int slot_of_pair(int pair, int i) { return pair / 16 * kHalfSlots + i * 16 + pair % 16; }

// Keys are packed as they are stored, and not from rows of floats.
bool has_raw_keys(const SlotTile& tile) { return !tile.has_turn && !tile.has_k_magnitude; }

template <class Element>
inline constexpr bool kIsBf16 = std::is_same_v<Element, Bf16>;

// What the vectors do beside the unit: one kind of work at a time, in small steps.
template <class Element>
class Beside {
 public:
  Beside(const AttendTask& task, const BlockMemory& memory, const BlockTiles& tiles)
      : task_(task), memory_(memory), tiles_(tiles), head_dim_(task.parts->params->head_dim) {}

  // The tile that is worked on, and the one after it or NULL; calls: how many are to come before
  // the next tile.
  void begin_tile(const BlockTile& place, const SlotTile* next, int calls) {
    place_ = &place;
    ahead_ = RowsAhead(next, head_dim_ * static_cast<int>(sizeof(Element)), calls);
  }

  // What is to be done within the next so many calls. What was begun before is finished first.
  void begin_values(int calls) {
    begin(Work::kValues, kTileSlots / 2, calls);
    probe_ = Probe();
  }
  void begin_keys(const SlotTile* tile, int calls) {
    begin(Work::kKeys, tile == nullptr ? 0 : kTileSlots, calls);
    keys_ = tile;
    probe_ = Probe();
  }
  void begin_weights(int first_group, int groups, int calls) {
    begin(Work::kWeights, groups + 2 * groups * kStepsOfHalf, calls);
    first_group_ = first_group;
    groups_ = groups;
  }

  void operator()() {
    ahead_.step();
    if (next_ < steps_) run(std::min(next_ + per_call_, steps_));
  }
  void finish() {
    if (next_ < steps_) run(steps_);
  }
  // Whether odd rows are among the keys or values that were packed last.
  bool found_odd() const { return probe_.found(); }

 private:
  enum class Work { kNothing, kValues, kKeys, kWeights };
  static constexpr int kQuadsOfHalf = 16 / kQuad;
  static constexpr int kStepsOfHalf = kQuadsOfHalf + 2;  // then both parts are transposed

  static constexpr Stored kRaw = kIsBf16<Element> ? Stored::kBf16 : Stored::kF16;

  void begin(Work work, int steps, int calls) {
    finish();
    work_ = work;
    steps_ = steps;
    per_call_ = (steps + calls - 1) / calls;
    next_ = 0;
  }

  // The steps before `end`. Not inlined: it is called from many places.
  [[gnu::noinline]] void run(int end) {
    switch (work_) {
      case Work::kNothing:
        return;
      case Work::kValues:
        return pack_value_pairs(end);
      case Work::kKeys:
        return pack_some_keys(end);
      case Work::kWeights:
        for (; next_ < end; ++next_) weigh(next_);
    }
  }

  void pack_some_keys(int end) {
    const SlotTile& tile = *keys_;
    Probe probe = probe_;
    if (has_raw_keys(tile)) {
      for (; next_ < end; ++next_) {
        const void* const row = tile.k[std::min(next_, tile.count - 1)];
        pack_key<kRaw>(static_cast<const Element*>(row), head_dim_, tiles_.key(next_, 0), &probe);
      }
    } else {
      alignas(64) float row[kKeyStride];
      for (; next_ < end; ++next_) {
        load_key<Element>(tile, std::min(next_, tile.count - 1), task_.parts->params->rope, row,
                          head_dim_, memory_.dim);
        pack_key<Stored::kFloats>(row, head_dim_, tiles_.key(next_, 0), &probe);
      }
    }
    probe_ = probe;
  }

  void pack_value_pairs(int end) {
    const SlotTile& tile = place_->tile;
    Probe probe = probe_;
    for (; next_ < end; ++next_) {
      const int first = std::min(slot_of_pair(next_, 0), tile.count - 1);
      const int second = std::min(slot_of_pair(next_, 1), tile.count - 1);
      char* const to = tiles_.value(next_, 0);
      if (tile.has_v_magnitude) {
        alignas(64) float rows[2][kKeyStride];
        load_value<Element>(tile, first, rows[0], head_dim_);
        load_value<Element>(tile, second, rows[1], head_dim_);
        pack_values<Stored::kFloats, kIsBf16<Element>>(rows[0], rows[1], head_dim_, to, &probe);
      } else {
        pack_values<kRaw, kIsBf16<Element>>(static_cast<const Element*>(tile.v[first]),
                                            static_cast<const Element*>(tile.v[second]), head_dim_,
                                            to, &probe);
      }
    }
    probe_ = probe;
  }

  void weigh(int i) {
    if (i < groups_) return finish_group(first_group_ + i);
    i -= groups_;
    const int half = i / (groups_ * kStepsOfHalf);
    i %= groups_ * kStepsOfHalf;
    const int group = first_group_ + i / kStepsOfHalf;
    i %= kStepsOfHalf;
    if (i < kQuadsOfHalf) return weigh_quad(group, half, i);
    const int part = i - kQuadsOfHalf;
    char* const to = tiles_.weight(group, half) + part * kUnitTileBytes;
    transpose_16x16(pairs_[part], kUnitRows, reinterpret_cast<float*>(to), 16);
  }

  void finish_group(int group) {
    const int lane = group * kUnitRows;
    finish_rows(task_, memory_, place_->tile, place_->extent, lane);
    if (place_->kept == nullptr || lane >= task_.rows) return;
    keep_logits(memory_, lane, std::min(lane + kUnitRows, task_.rows), place_->tile.count,
                place_->kept);
  }

  // Of four pairs of slots.
  void weigh_quad(int group, int half, int quad) {
    const int lane = group * kUnitRows;
    const Vec pivot = load(memory_.pivot + lane);
    Vec sum[2] = {zero(), zero()};
    for (int j = quad * kQuad; j < (quad + 1) * kQuad; ++j) {
      Vec weight[2];
      for (int k = 0; k < 2; ++k) {
        const int slot = slot_of_pair(half * 16 + j, k);
        const float* const x = memory_.weights + slot * memory_.lanes + lane;
        weight[k] = slot < place_->tile.count ? weight_of(x, pivot) : zero();
        sum[k] = add(sum[k], weight[k]);
      }
      const Parts parts = split_parts<false>(weight[0], weight[1]);
      store_part(pairs_[0] + j * kUnitRows, parts.high);
      store_part(pairs_[1] + j * kUnitRows, parts.low);
    }
    store(task_.l + lane, add(load(task_.l + lane), add(sum[0], sum[1])));
  }

  const AttendTask& task_;
  const BlockMemory& memory_;
  const BlockTiles& tiles_;
  int head_dim_;
  const BlockTile* place_ = nullptr;
  const SlotTile* keys_ = nullptr;
  RowsAhead ahead_{nullptr, 0, 1};
  Probe probe_;
  Work work_ = Work::kNothing;
  int steps_ = 0, per_call_ = 0, next_ = 0;
  int first_group_ = 0, groups_ = 0;
  alignas(64) float pairs_[2][16 * kUnitRows];  // [part][pair][row]
};

// A piece.
template <class Element>
class Block {
 public:
  explicit Block(const AttendTask& task)
      : task_(task),
        head_dim_(task.parts->params->head_dim),
        memory_(carve_block(task)),
        tiles_(carve_tiles(task, memory_)),
        beside_(task, memory_, tiles_) {}

  void attend() {
    load_rows(task_, memory_);
    find_odd_rows();
    pack_queries(task_.acc, memory_.dim, tiles_);
    clear_sums(task_, memory_);

    const TileUnit unit;
    BlockReader reader(task_, memory_);
    BlockTile places[2];
    bool has_tile = reader.read(&places[0]);
    if (has_tile) beside_.begin_keys(&places[0].tile, 1);
    for (int i = 0; has_tile; ++i) {
      const BlockTile& place = places[i % 2];
      BlockTile& next = places[(i + 1) % 2];
      has_tile = reader.read(&next);
      add_tile(place, has_tile ? &next.tile : nullptr);
    }
    for (int r = 0; has_odd_sums_ && r < task_.rows; ++r) {
      const int64_t at = int64_t{r} * memory_.dim;
      add_scaled_row(odd_sums(tiles_) + at, 1.0f, task_.acc + at, memory_.dim);
    }
  }

 private:
  // Rows whose query holds infinity or NaN.
  void find_odd_rows() {
    for (int r = 0; r < task_.rows; ++r) {
      const float* const row = task_.acc + int64_t{r} * memory_.dim;
      if (has_nonfinite(row, memory_.dim)) odd_rows_[n_odd_rows_++] = r;
    }
  }

  // Calls of beside_ while the unit multiplies keys, or values, for one stack.
  int key_calls() const { return 2 * tiles_.dim_blocks; }
  int value_calls() const { return (tiles_.dim_groups + 1) / 2 * 2; }

  // The keys of the tile have been packed, or are being packed.
  void add_tile(const BlockTile& place, const SlotTile* next) {
    const SlotTile& tile = place.tile;
    const int stacks = (tiles_.row_groups + 1) / 2;
    beside_.finish();
    n_odd_keys_ = n_odd_values_ = 0;
    if (beside_.found_odd()) find_odd_keys(tile);
    beside_.begin_tile(place, next, stacks * (key_calls() + value_calls()));
    beside_.begin_values(key_calls());
    for (int stack = 0; stack < stacks; ++stack) {
      const int group = 2 * stack;
      score_rows(tile, group);
      if (stack == 0) {
        beside_.finish();
        if (beside_.found_odd()) find_odd_values(tile);
      }
      const bool is_last = stack == stacks - 1;
      beside_.begin_weights(group, groups_from(group), is_last ? value_calls() : key_calls());
    }
    // The weights of the only stack are waited for.
    const int first_with_keys = stacks > 1 ? 1 : 0;
    for (int stack = 0; stack < stacks; ++stack) {
      if (stack == first_with_keys) {
        beside_.begin_keys(next, (stacks - first_with_keys) * value_calls());
      }
      if (!kIsBf16<Element> || tile.has_v_magnitude) {
        add_rows<true>(2 * stack);
      } else {
        add_rows<false>(2 * stack);
      }
    }
    if (has_odd_sums_ || n_odd_values_ > 0) add_odd_values(tile);
  }

  int groups_from(int group) const { return std::min(2, tiles_.row_groups - group); }

  // x = k . q of the rows of one or two groups.
  void score_rows(const SlotTile& tile, int group) {
    if (!kIsBf16<Element> || !has_raw_keys(tile)) {
      score_groups<true>(group);
    } else {
      score_groups<false>(group);
    }
    const int begin = group * kUnitRows, end = (group + groups_from(group)) * kUnitRows;
    for (int i = 0; i < n_odd_rows_; ++i) {
      if (odd_rows_[i] < begin || odd_rows_[i] >= end) continue;
      for (int slot = 0; slot < tile.count; ++slot) {
        score_apart(tile, slot, odd_rows_[i], odd_rows_[i] + 1);
      }
    }
    for (int i = 0; i < n_odd_keys_; ++i) score_apart(tile, odd_keys_[i], begin, end);
  }

  template <bool kHasLow>
  void score_groups(int group) {
    if (groups_from(group) == 2) {
      multiply_keys<kHasLow, 2>(tiles_, group, memory_.weights, memory_.lanes, beside_);
    } else {
      multiply_keys<kHasLow, 1>(tiles_, group, memory_.weights, memory_.lanes, beside_);
    }
  }

  // Scores of a slot for rows [begin, end).
  void score_apart(const SlotTile& tile, int slot, int begin, int end) {
    alignas(64) float key[kKeyStride];
    load_key(tile, slot, key);
    for (int r = begin; r < end; ++r) {
      float sum = 0.0f;
      for (int d = 0; d < head_dim_; ++d) sum += key[d] * memory_.queries[d * memory_.lanes + r];
      memory_.weights[slot * memory_.lanes + r] = sum;
    }
  }

  void load_key(const SlotTile& tile, int slot, float* key) const {
    SKV_ISA::load_key<Element>(tile, slot, task_.parts->params->rope, key, head_dim_, memory_.dim);
  }

  // acc = acc f + p . v of the rows of one or two groups.
  template <bool kHasLow>
  void add_rows(int group) {
    const int groups = groups_from(group);
    for (int r = group * kUnitRows; r < (group + groups) * kUnitRows; ++r) {
      const float factor = memory_.factor[r];
      if (factor != 1.0f) scale_row(task_.acc + int64_t{r} * memory_.dim, factor, memory_.dim);
    }
    for (int d = 0; d < tiles_.dim_groups; d += 2) {
      const bool has_two = d + 1 < tiles_.dim_groups;
      if (groups == 2) {
        has_two ? add_block<kHasLow, 2, 2>(group, d) : add_block<kHasLow, 2, 1>(group, d);
      } else {
        has_two ? add_block<kHasLow, 1, 2>(group, d) : add_block<kHasLow, 1, 1>(group, d);
      }
    }
  }

  template <bool kHasLow, int kRows, int kDims>
  void add_block(int row_group, int dim_group) {
    multiply_values<kHasLow, kRows, kDims>(tiles_, row_group, dim_group, task_.acc, memory_.dim,
                                           beside_);
  }

  void find_odd_keys(const SlotTile& tile) {
    alignas(64) float key[kKeyStride];
    for (int i = 0; i < tile.count; ++i) {
      load_key(tile, i, key);
      if (has_nonfinite(key, memory_.dim)) odd_keys_[n_odd_keys_++] = i;
    }
  }

  // Packs the pairs of odd values again, without them.
  void find_odd_values(const SlotTile& tile) {
    for (int pair = 0; pair < kTileSlots / 2; ++pair) {
      alignas(64) float rows[2][kKeyStride];
      bool is_odd = false;
      for (int i = 0; i < 2; ++i) {
        const int slot = slot_of_pair(pair, i);
        load_value<Element>(tile, std::min(slot, tile.count - 1), rows[i], head_dim_);
        if (!is_odd_value(rows[i])) continue;
        std::memset(rows[i], 0, sizeof(rows[i]));
        is_odd = true;
        if (slot < tile.count) odd_values_[n_odd_values_++] = slot;
      }
      Probe seen;
      if (is_odd) {
        pack_values<Stored::kFloats, false>(rows[0], rows[1], head_dim_, tiles_.value(pair, 0),
                                            &seen);
      }
    }
  }

  bool is_odd_value(const float* row) const {
    Probe probe;
    for (int d = 0; d < memory_.dim; d += kWidth) {
      const Parts parts = parts_of<Stored::kFloats>(load(row + d), zero(), &probe);
      if (kIsBf16<Element>) probe.look_for_small(parts.high);
    }
    return probe.found();
  }

  // The second sums shrink as the first ones, and grow by the odd values that rows see.
  void add_odd_values(const SlotTile& tile) {
    float* const sums = odd_sums(tiles_);
    for (int r = 0; r < memory_.lanes; ++r) {
      float* const sum = sums + int64_t{r} * memory_.dim;
      if (has_odd_sums_) {
        scale_row(sum, memory_.factor[r], memory_.dim);
      } else {
        std::memset(sum, 0, sizeof(float) * static_cast<size_t>(memory_.dim));
      }
    }
    has_odd_sums_ = true;
    alignas(64) float value[kKeyStride], weights[kMostBlockRows];
    for (int i = 0; i < n_odd_values_; ++i) {
      load_value<Element>(tile, odd_values_[i], value, head_dim_);
      for (int lane = 0; lane < memory_.lanes; lane += kWidth) {
        store(weights + lane, weight_of(memory_.weights + odd_values_[i] * memory_.lanes + lane,
                                        load(memory_.pivot + lane)));
      }
      for (int r = 0; r < task_.rows; ++r) {
        float* const sum = sums + int64_t{r} * memory_.dim;
        if (weights[r] != 0.0f) add_scaled_row(value, weights[r], sum, memory_.dim);
      }
    }
  }

  const AttendTask& task_;
  int head_dim_;
  BlockMemory memory_;
  BlockTiles tiles_;
  Beside<Element> beside_;
  int odd_rows_[kMostBlockRows], odd_keys_[kTileSlots], odd_values_[kTileSlots];
  int n_odd_rows_ = 0, n_odd_keys_ = 0, n_odd_values_ = 0;
  bool has_odd_sums_ = false;
};

}  // namespace

void attend_block_amx(const AttendTask& task) {
  switch (task.parts->params->dtype) {
    case SKV_F16:
      return Block<F16>(task).attend();
    case SKV_BF16:
      return Block<Bf16>(task).attend();
    default:
      return attend_block(task);
  }
}

}  // namespace spindlekv::cpu::SKV_ISA

#endif
