// How attend, alone or in a batch, is cut into blocks. Runs on the host, from the items' own sizes;
// its tables travel to the device as one piece.
//
// Heads whose first runs are equal in every field share them: these slots become a span of their
// own, whose row tiles hold the rows of several heads. Each head's other slots are another span.
// The partials of a row are numbered in slot order, shared ones first.
// A head that shares nothing may have one run taken through its codewords (codebook.h). Its other
// slots, before and behind, are a span each; the codebook's partials come last.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/ops.h"
#include "cuda/attend/params.h"

namespace spindlekv::cuda {

struct AttendRound {
  int32_t first_span;
  int32_t n_spans;
  int64_t blocks;
};

struct AttendPlan {
  std::vector<AttendItem> items;
  std::vector<AttendHead> heads;
  std::vector<SkvRun> runs;
  std::vector<int32_t> members;
  std::vector<AttendSpan> spans;  // round after round
  std::vector<AttendRound> rounds;
  std::vector<CodebookRun> codebooks;
  CodebookTotals codebook_totals;
  int64_t tickets = 0;
  int64_t partials = 0;
  int64_t rows = 0;
  int64_t logits = 0;
  int64_t score_blocks = 0;
};

// Slots of a block of the score kernel: one a thread.
inline constexpr int kScoreSlots = 128;

// Items without queries are left out.
AttendPlan plan_attend(const SkvAttendParams* items, int32_t n_items);

}  // namespace spindlekv::cuda
