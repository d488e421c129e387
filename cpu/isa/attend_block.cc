// attend for many rows (prompts, and slots that several items share), all products by vectors.
// Compute-bound: 4 D flops per row and slot. The next tile is prefetched meanwhile; tiles in the
// future of every query are skipped.
#include "cpu/isa/attend_block.h"

namespace spindlekv::cpu::SKV_ISA {
namespace {

template <class Element>
void add_tile(const AttendTask& task, const BlockMemory& memory, const SlotTile& tile,
              const Extent& extent, float* kept, const SlotTile* next) {
  const int head_dim = task.parts->params->head_dim;
  RowsAhead ahead(next, head_dim * static_cast<int>(sizeof(Element)),
                  (kTileSlots / kKeySlots) * blocks_of(kKeySlots, memory.lanes) +
                      blocks_of(memory.lanes, memory.dim));
  score<Element>(task, memory, tile, &ahead);
  for (int lane = 0; lane < memory.lanes; lane += kWidth) {
    finish_rows(task, memory, tile, extent, lane);
  }
  if (kept != nullptr) keep_logits(memory, 0, task.rows, tile.count, kept);
  for (int lane = 0; lane < memory.lanes; lane += kWidth) {
    weigh_rows(task, memory, tile.count, lane);
  }
  load_values<Element>(tile, memory, head_dim);
  add_loaded_values(task, memory, tile, extent, &ahead);
}

template <class Element>
void attend(const AttendTask& task) {
  const BlockMemory memory = carve_block(task);
  load_rows(task, memory);
  clear_sums(task, memory);
  BlockReader reader(task, memory);
  BlockTile places[2];
  bool has_tile = reader.read(&places[0]);
  for (int i = 0; has_tile; ++i) {
    const BlockTile& place = places[i % 2];
    BlockTile& next = places[(i + 1) % 2];
    has_tile = reader.read(&next);
    add_tile<Element>(task, memory, place.tile, place.extent, place.kept,
                      has_tile ? &next.tile : nullptr);
  }
}

}  // namespace

void attend_block(const AttendTask& task) {
  switch (task.parts->params->dtype) {
    case SKV_F16:
      return attend<F16>(task);
    case SKV_BF16:
      return attend<Bf16>(task);
    default:
      return attend<float>(task);
  }
}

}  // namespace spindlekv::cpu::SKV_ISA
