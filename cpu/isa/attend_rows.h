// The rows of a piece: those of its parts one after the other, query t of head g of a part being
// its row g * n_queries + t.
#pragma once

#include "cpu/attend_task.h"
#include "cpu/isa/rows.h"

namespace spindlekv::cpu::SKV_ISA {

// Calls row(r, params, head_in_group, query_position) for every row.
template <class Row>
static inline void for_each_row(const AttendTask& task, const Row& row) {
  int r = 0;
  for (int i = 0; i < task.n_parts; ++i) {
    const AttendPart& part = task.parts[i];
    const SkvAttendParams& params = *part.params;
    for (int g = 0; g < params.group; ++g) {
      for (int t = 0; t < part.n_queries; ++t) {
        row(r++, params, g, params.query_position + part.first_query + t);
      }
    }
  }
}

// Tile `index` of the piece.
static inline void read_tile_of(const AttendTask& task, int index, SlotTile* tile) {
  const int first = index * kTileSlots;
  const int left = task.n_slots - first;
  read_slots(task.source, task.first_slot + first, left < kTileSlots ? left : kTileSlots, tile);
}

// The queries of all rows, turned; rows up to row_count become 0.
static inline void load_all_queries(const AttendTask& task, int row_count, int padded_dim,
                                    float* out) {
  int r = 0;
  for (int i = 0; i < task.n_parts; ++i) {
    const AttendPart& part = task.parts[i];
    const int rows = part.params->group * part.n_queries;
    const bool is_last = i + 1 == task.n_parts;
    load_queries(*part.params, part.kv_head, part.first_query, part.n_queries,
                 is_last ? row_count - r : rows, padded_dim, out + int64_t{r} * padded_dim);
    r += rows;
  }
}

}  // namespace spindlekv::cpu::SKV_ISA
