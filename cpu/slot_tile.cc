// Walks the runs of a head and writes down where the rows of a tile are.
#include "cpu/slot_tile.h"

#include <algorithm>
#include <cstring>

#include "cpu/convert.h"
#include "cpu/prefetch.h"

namespace spindlekv::cpu {
namespace {

const char* row_at(const void* rows, int64_t index, size_t row_bytes) {
  return static_cast<const char*>(rows) + index * static_cast<int64_t>(row_bytes);
}

int64_t reference(const void* refs, int ref_bytes, int slot) {
  return ref_bytes == 2 ? int64_t{static_cast<const uint16_t*>(refs)[slot]}
                        : int64_t{static_cast<const int32_t*>(refs)[slot]};
}

float magnitude(const void* values, int32_t dtype, int slot) {
  switch (dtype) {
    case SKV_F16:
      return to_float(static_cast<const F16*>(values)[slot]);
    case SKV_BF16:
      return to_float(static_cast<const Bf16*>(values)[slot]);
    default:
      return static_cast<const float*>(values)[slot];
  }
}

// The run that holds `slot`: the last one that begins at or before it and is not empty. Pages of
// one size are found where they must be; a search through many of them misses the caches.
int find_run(const SlotSource& source, int slot) {
  if (source.n_runs == 1) return 0;
  const int guess = static_cast<int>(int64_t{slot} * source.n_runs / source.slots);
  for (int i = std::max(guess - 1, 0); i < std::min(guess + 2, source.n_runs); ++i) {
    const int first = slot - source.runs[i].slot_base;
    if (first >= 0 && first < source.runs[i].slots) return i;
  }
  const SkvRun* const end = source.runs + source.n_runs;
  const SkvRun* const after = std::upper_bound(
      source.runs, end, slot, [](int wanted, const SkvRun& run) { return wanted < run.slot_base; });
  return static_cast<int>(after - source.runs) - 1;
}

size_t row_bytes_of(const SlotSource& source) {
  return dtype_bytes(source.dtype) * static_cast<size_t>(source.head_dim);
}

void add_raw_rows(const void* k, const void* v, int n, size_t row_bytes, int at, SlotTile* tile) {
  for (int i = 0; i < n; ++i) {
    tile->k[at + i] = row_at(k, i, row_bytes);
    tile->v[at + i] = row_at(v, i, row_bytes);
  }
}

void add_codeword_rows(const SkvRun& run, int32_t dtype, int first, int n, size_t row_bytes, int at,
                       SlotTile* tile) {
  for (int i = 0; i < n; ++i) {
    const int slot = first + i;
    tile->k[at + i] = row_at(run.k, reference(run.k_ref, run.ref_bytes, slot), row_bytes);
    tile->v[at + i] = row_at(run.v, reference(run.v_ref, run.ref_bytes, slot), row_bytes);
    tile->k_magnitude[at + i] = magnitude(run.k_magnitude, dtype, slot);
    tile->v_magnitude[at + i] = magnitude(run.v_magnitude, dtype, slot);
  }
}

// Marks an optional array as present; the slots before this run's get the neutral value.
template <class T>
void switch_on(bool* has, T* values, T neutral) {
  if (*has) return;
  *has = true;
  std::fill_n(values, kTileSlots, neutral);
}

void add_run(const SlotSource& source, const SkvRun& run, int first, int n, int at, bool is_lazy,
             SlotTile* tile) {
  const size_t row_bytes = row_bytes_of(source);
  if (run.codec == SKV_CODEC_CODEBOOK) {
    switch_on(&tile->has_k_magnitude, tile->k_magnitude, 1.0f);
    switch_on(&tile->has_v_magnitude, tile->v_magnitude, 1.0f);
    add_codeword_rows(run, source.dtype, first, n, row_bytes, at, tile);
  } else {
    tile->is_adjacent = n == kTileSlots;
    tile->has_rows = !(is_lazy && tile->is_adjacent);
    add_raw_rows(row_at(run.k, first, row_bytes), row_at(run.v, first, row_bytes),
                 tile->has_rows ? n : 1, row_bytes, at, tile);
  }
  if (tile->is_adjacent) {
    tile->position = run.positions + first;
  } else {
    tile->position = tile->position_copy;
    std::memcpy(tile->position_copy + at, run.positions + first,
                sizeof(int32_t) * static_cast<size_t>(n));
  }
  if (run.mask != nullptr) {
    switch_on(&tile->has_mask, tile->mask, int32_t{0xffff});
    for (int i = 0; i < n; ++i) tile->mask[at + i] = run.mask[first + i];
  }
  if (run.beta != nullptr) {
    switch_on(&tile->has_beta, tile->beta, 0.0f);
    std::memcpy(tile->beta + at, run.beta + first, sizeof(float) * static_cast<size_t>(n));
  }
  if (source.turn_keys && run.rotated == 0) {
    switch_on(&tile->has_turn, tile->turn, int32_t{-1});
    for (int i = 0; i < n; ++i) {
      tile->turn[at + i] = source.reindex ? run.slot_base + first + i : run.positions[first + i];
    }
  }
}

// Positions of the tile that begins at `slot`, in the run given or the one after it: each page has
// its own.
SKV_PREFETCH void prefetch_positions(const SlotSource& source, int run_index, int slot) {
  const SkvRun* run = source.runs + run_index;
  if (slot >= run->slot_base + run->slots) {
    if (run_index + 1 >= source.n_runs) return;
    ++run;
  }
  prefetch_bytes(run->positions + (slot - run->slot_base), kTileSlots * sizeof(int32_t));
}

// Whether a tile that ends before run `index` is followed by whole ones.
bool begins_whole_tile(const SlotSource& source, int index) {
  return index < source.n_runs && source.runs[index].codec == SKV_CODEC_RAW &&
         source.runs[index].slots >= kTileSlots;
}

void fill_tile(const SlotSource& source, int first_slot, int count, bool is_lazy,
               bool may_end_early, SlotTile* tile) {
  tile->count = count;
  tile->has_turn = tile->has_k_magnitude = tile->has_v_magnitude = false;
  tile->has_mask = tile->has_beta = false;
  tile->is_adjacent = false;
  tile->has_rows = true;

  int run_index = find_run(source, first_slot);
  int filled = 0;
  while (filled < tile->count) {
    const SkvRun& run = source.runs[run_index++];
    const int first = first_slot + filled - run.slot_base;
    const int n = std::min(tile->count - filled, run.slots - first);
    if (n <= 0) continue;  // an empty run
    add_run(source, run, first, n, filled, is_lazy, tile);
    filled += n;
    if (may_end_early && begins_whole_tile(source, run_index)) tile->count = filled;
  }
  prefetch_positions(source, run_index - 1, first_slot + filled);
  std::fill(tile->k + filled, tile->k + kTileSlots, tile->k[filled - 1]);
  std::fill(tile->v + filled, tile->v + kTileSlots, tile->v[filled - 1]);
}

}  // namespace

void read_slots(const SlotSource& source, int first_slot, int count, SlotTile* tile) {
  fill_tile(source, first_slot, count, false, false, tile);
}

void read_slots_lazily(const SlotSource& source, int first_slot, int count, bool may_end_early,
                       SlotTile* tile) {
  fill_tile(source, first_slot, count, true, may_end_early, tile);
}

void write_rows(const SlotSource& source, SlotTile* tile) {
  if (tile->has_rows) return;
  tile->has_rows = true;
  add_raw_rows(tile->k[0], tile->v[0], kTileSlots, row_bytes_of(source), 0, tile);
}

Status check_key_positions(const char* op, const SkvRun* runs, int32_t n_runs, const SkvRope& rope,
                           bool reindex, const char* place) {
  if (rope.cos_sin == nullptr || reindex) return ok_status();
  for (int32_t r = 0; r < n_runs; ++r) {
    const SkvRun& run = runs[r];
    if (run.rotated != 0) continue;
    // Negative positions are too large as unsigned numbers.
    uint32_t largest = 0;
    for (int32_t i = 0; i < run.slots; ++i) {
      largest = std::max(largest, static_cast<uint32_t>(run.positions[i]));
    }
    if (run.slots > 0 && largest >= static_cast<uint32_t>(rope.positions)) {
      return error_status(SKV_ARGUMENT, op,
                          "expected positions below %d (the RoPE table) for %sruns[%d], got %d",
                          rope.positions, place, r, static_cast<int32_t>(largest));
    }
  }
  return ok_status();
}

}  // namespace spindlekv::cpu
