// Up to 64 consecutive slots of one KV head, described row by row whatever codec and page holds
// them.
//
// attend and window_scores read keys and values through tiles only, so a tile may span runs of
// different codecs. Tile t of a head covers its slots [64 t, 64 t + 64): the blocks of
// core/canonical.h. A piece of attend counts its tiles from its own first slot.
#pragma once

#include <cstdint>

#include "core/canonical.h"
#include "core/status.h"
#include "core/types.h"

namespace spindlekv::cpu {

inline constexpr int kTileSlots = canonical::kBlockSlots;

struct SlotTile {
  int count;  // slots; row pointers beyond it repeat the last one, the other arrays hold what they
              // hold
  bool is_adjacent;  // 64 slots of one raw run: row i of k and v lies i rows after row 0
  bool has_rows;     // k and v are written beyond row 0
  // Which of the arrays below mean something for this tile.
  bool has_turn, has_k_magnitude, has_v_magnitude, has_mask, has_beta;
  const void* k[kTileSlots];  // key row: D elements of the K dtype
  const void* v[kTileSlots];
  float k_magnitude[kTileSlots];  // the key is magnitude * row, turned
  float v_magnitude[kTileSlots];
  float beta[kTileSlots];
  int32_t mask[kTileSlots];  // bit g: visible to query head g of the group
  const int32_t* position;   // [64] logical: as they are stored, or position_copy
  int32_t position_copy[kTileSlots];
  int32_t turn[kTileSlots];  // row of the RoPE table to turn the key by, or -1: as it is
};

// What the reader needs to know of an op's parameters.
struct SlotSource {
  const SkvRun* runs;  // of one KV head, in slot order
  int n_runs;
  int slots;
  int32_t dtype;
  int head_dim;
  bool turn_keys;  // a table is given, so keys stored before RoPE turn while they are read
  bool reindex;    // they turn by slot index instead of position
};

template <class Params>
static inline SlotSource slot_source(const Params& params, int kv_head) {
  const SkvHead& head = params.heads[kv_head];
  return {
      params.runs + head.first_run,   head.n_runs,        head.slots, params.dtype, params.head_dim,
      params.rope.cos_sin != nullptr, params.reindex != 0};
}

static inline int tiles_of(int slots) {
  return static_cast<int>((int64_t{slots} + kTileSlots - 1) / kTileSlots);
}

// Fills *tile with slots [first_slot, first_slot + count) of the head, at least one.
void read_slots(const SlotSource& source, int first_slot, int count, SlotTile* tile);

// The same for a reader that finds the rows of adjacent tiles by itself: of theirs only row 0 is
// written. may_end_early: the tile may hold fewer slots, so that the next one begins where its run
// does and is adjacent.
void read_slots_lazily(const SlotSource& source, int first_slot, int count, bool may_end_early,
                       SlotTile* tile);

// Writes the rows that read_slots_lazily left out.
void write_rows(const SlotSource& source, SlotTile* tile);

// Fills *tile with slots [64 * index, ...) of the head.
static inline void read_tile(const SlotSource& source, int index, SlotTile* tile) {
  const int first_slot = index * kTileSlots;
  const int left = source.slots - first_slot;
  read_slots(source, first_slot, left < kTileSlots ? left : kTileSlots, tile);
}

// The RoPE table must reach every position that a key stored before RoPE turns by: an argument
// error otherwise, because a position beyond it would be read from foreign memory. `place` is what
// stands before `runs` in the message.
Status check_key_positions(const char* op, const SkvRun* runs, int32_t n_runs, const SkvRope& rope,
                           bool reindex, const char* place = "");

}  // namespace spindlekv::cpu
