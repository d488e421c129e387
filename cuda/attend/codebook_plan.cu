// Choosing and cutting codebook runs. See codebook_plan.h.
#include "cuda/attend/codebook_plan.h"

#include "cuda/common/launch.h"

#include <algorithm>

namespace spindlekv::cuda {
namespace {

int32_t pitch_of(int32_t rows) { return rows <= 4 ? 4 : rows <= 8 ? 8 : 16; }

bool turns(const SkvRun& run, const SkvRope& rope) {
  return run.rotated == 0 && rope.cos_sin != nullptr;
}

// Eight pairs of dims turn together or not at all, and f32 has no parts of 16 bits.
bool can_turn_codewords(const SkvAttendParams& op) {
  const bool is_aligned = reinterpret_cast<uintptr_t>(op.rope.cos_sin) % 16 == 0;
  return is_aligned && op.rope.n_rot % 16 == 0 && op.head_dim <= kMostTurnedDim &&
         op.dtype != SKV_F32;
}

// Work in codewords must be less than work in slots: no more codewords than slots.
bool gains(const SkvRun& run, const SkvAttendParams& op) {
  if (run.codec == SKV_CODEC_RAW || run.slots < kLeastCodebookSlots) return false;
  if (op.head_dim > kMostCodebookDim || run.v_codewords > run.slots) return false;
  const int32_t tile_words = kBinFloats / pitch_of(op.queries * op.group);
  if (ceil_div(run.v_codewords, tile_words) > kMostCodebookTiles) return false;
  // Keys that turn have no product of a codeword to share.
  return turns(run, op.rope) ? can_turn_codewords(op) : run.k_codewords <= run.slots;
}

}  // namespace

int32_t choose_codebook(const AttendPlan& plan, int32_t h) {
  const AttendHead& head = plan.heads[static_cast<size_t>(h)];
  const SkvAttendParams& op = plan.items[static_cast<size_t>(head.item)].op;
  int32_t chosen = -1;
  int32_t most = 0;
  for (int32_t r = head.first_run; r < head.first_run + head.n_runs; ++r) {
    const SkvRun& run = plan.runs[static_cast<size_t>(r)];
    if (run.slots <= most || !gains(run, op)) continue;
    chosen = r;
    most = run.slots;
  }
  return chosen;
}

int32_t add_codebook(AttendPlan& plan, int32_t h, int32_t run, int32_t first_partial) {
  const AttendHead& head = plan.heads[static_cast<size_t>(h)];
  const SkvAttendParams& op = plan.items[static_cast<size_t>(head.item)].op;
  CodebookTotals& totals = plan.codebook_totals;
  CodebookRun book{};
  book.run = plan.runs[static_cast<size_t>(run)];
  book.head = h;
  book.pitch = pitch_of(op.queries * op.group);
  const bool is_turned = turns(book.run, op.rope);
  book.key_slots = is_turned ? kTurnedSplit : kKeySplit;
  book.key_splits = static_cast<int32_t>(ceil_div(book.run.slots, book.key_slots));
  book.tile_words = kBinFloats / book.pitch;
  const auto tiles = static_cast<int32_t>(ceil_div(book.run.v_codewords, book.tile_words));
  book.first_partial = first_partial;
  book.first_product = totals.products;
  book.first_dot = totals.dots;
  book.first_maximum = totals.maxima;
  book.first_product_block = static_cast<int32_t>(totals.product_blocks);
  book.first_gather_block = static_cast<int32_t>(totals.gather_blocks);
  book.first_turned_block = static_cast<int32_t>(totals.turned_blocks);
  book.first_value_block = static_cast<int32_t>(totals.value_blocks);
  if (is_turned) {
    totals.turned_blocks += book.key_splits;
    totals.turned_pitch = std::max(totals.turned_pitch, book.pitch);
  } else {
    totals.products += int64_t{book.run.k_codewords} * book.pitch;
    totals.product_blocks += ceil_div(book.run.k_codewords, kProductWords);
    totals.gather_blocks += book.key_splits;
  }
  totals.dots += int64_t{book.run.slots} * book.pitch;
  totals.maxima += int64_t{book.key_splits} * book.pitch;
  totals.value_blocks += tiles;
  plan.codebooks.push_back(book);
  return tiles;
}

}  // namespace spindlekv::cuda
