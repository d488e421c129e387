// What the attend kernels are launched with: the tables that the planner (plan.h) made of one op or
// of a batch, on the device, and the workspace.
//
// Head: one KV head of one item. Row: one query of one query head. Partial: (m, l, acc) of a row
// over one split of its slots. Span: blocks that cut one stretch of slots into splits for one or
// more row tiles; a head has a span of its own slots and, where its first runs are those of other
// heads too, takes part in a span that reads these for all of them.
#pragma once

#include <cuda_runtime.h>

#include "core/ops.h"
#include "cuda/attend/codebook.h"

namespace spindlekv::cuda {

// Rows that a block works on: the 16 rows of a tensor core tile, one group of any allowed size.
inline constexpr int kBlockRows = 16;
// Slots are split by their own number alone, so that results depend on nothing else: into pieces of
// 128, or of that times the least power of two that leaves at most 64 pieces. 8 heads of 8k slots
// and more are then 264 to 512 blocks, a single head 33 to 64.
inline constexpr int kLeastSplit = 128;
inline constexpr int kMostSplits = 64;
// A stretch that several heads have in common is read once for all from this many slots on.
inline constexpr int kLeastShared = 64;
// Most partials of a row: of the shared stretch and of its own; or of the slots before and behind a
// codebook's, and of the codebook's tiles.
inline constexpr int kMostPartials = 2 * kMostSplits + kMostCodebookTiles;
// Queries are taken in rounds whose partials and logits fit in about this much workspace.
inline constexpr int64_t kAttendWorkspaceTarget = int64_t{64} << 20;

inline constexpr int32_t split_slots(int32_t slots) {
  int32_t size = kLeastSplit;
  while (int64_t{size} * kMostSplits < slots) size *= 2;
  return size;
}

struct alignas(16) AttendItem {
  SkvAttendParams op;     // its runs and heads are on the host: not to be followed
  int32_t round_queries;  // queries of a round
  int32_t block_queries;  // queries of a row tile: kBlockRows / group
};

struct alignas(16) AttendHead {
  int64_t first_partial;  // of row 0 of a round; row r, split b: + r * splits + b
  int64_t first_logit;    // of row 0; row r: + r * logit_stride
  int64_t first_row;      // in row_stats
  int64_t logit_stride;
  int32_t item;
  int32_t kv_head;
  int32_t first_run;  // in the table of runs
  int32_t n_runs;
  int32_t slots;
  int32_t splits;        // partials of a row, at least 1
  int32_t first_ticket;  // one for each row tile
  int32_t first_score_block;
};

struct alignas(16) AttendSpan {
  int32_t first_block;  // of the launch; block = first_block + split * tiles + tile
  int32_t tiles;        // row tiles
  int32_t head;         // its head; with members: the first of them, as an index into `members`
  int32_t members;      // heads whose rows are stacked in the (one) tile; 0: one head's own span
  int32_t first_slot;
  int32_t slots;
  int32_t split_slots;
  int32_t first_split;  // among the partials of a row
  int32_t first_run;    // of its head, and the number: what the slots are read from
  int32_t n_runs;
};

// Rows of a head and round are numbered [query of the round][query head of the group].
struct AttendArgs {
  const AttendItem* items;
  const AttendHead* heads;
  const SkvRun* runs;
  const int32_t* members;
  const AttendSpan* spans;  // of the round
  unsigned* tickets;        // 0 before and after a launch
  float* partial_acc;       // [partials, D], not normalised
  float2* partial_stats;    // [partials] maximum and sum of exponentials
  float2* row_stats;        // [rows] (m, 1 / l) of the whole row; 0 where it saw nothing
  float* logits;            // -inf where not visible; rows of items with score_sum only
  const CodebookRun* codebooks;
  float* products;  // codebook.h
  float* dots;
  float* maxima;
  int32_t n_codebooks;
  int32_t n_spans;
  int32_t n_heads;
  int32_t round;
  int32_t head_dim;
  int32_t group;
  int32_t q_dtype;
};

}  // namespace spindlekv::cuda
