// The work of attend and attend_batch as an explicit list, made before any of it runs.
//
// A *line* is one KV head of one item over one block of its queries: what has one result. A *piece*
// is a range of slots that one kernel reads for one or several lines. Pieces have a fixed number of
// slots and end where the kernel changes or their lines part, so the split depends on the items
// alone, not on the number of threads. A line's *partials* are the pieces that it has a share in,
// in slot order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/ops.h"
#include "cpu/attend_task.h"

namespace spindlekv::cpu {

enum class PieceKind : int32_t {
  kNothing,   // a line without slots: nothing to read, but a result to write
  kStream,    // few rows: K and V straight from their storage
  kCodebook,  // few rows over references: codewords once for all slots of the piece
  kBlock,     // many rows: both become floats once for all of them
};

struct AttendPiece {
  PieceKind kind;
  int n_parts;
  const AttendPart* parts;  // of its lines, in the order of their rows
  int rows;
  int first_slot, n_slots;
  float* m;      // [block_lanes]
  float* l;      // [block_lanes]
  float* acc;    // [rows of the kernel, padded_dim]
  int64_t kept;  // floats behind the first of its line, if that accumulates scores
};

// A line's share of a piece.
struct AttendPartial {
  const AttendPiece* piece;
  int first_row;
};

struct AttendLine {
  AttendPart part;
  int rows;
  bool has_many_rows;  // as most blocks of its item: the shorter last one uses the same kernel
  bool accumulates;    // scores: its pieces keep what those are made of
  float* kept;         // own_kept, or that of a line that is finished (attend.cc)
  float* own_kept;
  int64_t kept_floats;        // of own_kept
  int64_t kept_room;          // behind kept
  AttendLine* next_finished;  // whose `kept` another line may take
  AttendPartial* partials;
  int n_partials;
  float* lse;    // [rows]
  int32_t done;  // partials that are there
};

// How an item's queries are cut into blocks, and how many blocks a plan takes at a time so that
// partials and what is kept for scores stay within bounds.
struct QueryBlocks {
  int queries;  // per block
  int blocks, chunk;
};
static inline bool fits_a_stream(const SkvAttendParams& params) {
  return params.queries * int64_t{params.group} <= kStreamRows;
}
QueryBlocks cut_many_queries(const SkvAttendParams& params);
// Most steps are one block of a stream; asked several times a call.
static inline QueryBlocks cut_queries(const SkvAttendParams& params) {
  const bool is_one = params.score_mode == SKV_SCORE_NONE && fits_a_stream(params);
  return is_one ? QueryBlocks{params.queries, 1, 1} : cut_many_queries(params);
}

// Use: count() all lines, carve() the workspace, add() the same lines, cut().
class AttendPlan {
 public:
  // sharers: how many items may read slots together; such an item has one block of queries.
  explicit AttendPlan(int sharers) : sharers_(sharers) {}

  // Counts what `blocks` blocks of an item need.
  void count(const SkvAttendParams& params, const QueryBlocks& cut, int blocks);
  // Lays out the arrays; base == NULL only measures. Returns the bytes they take.
  size_t carve(int lanes, void* base);
  // The lines [block][KV head] of blocks [first_block, first_block + blocks).
  void add(const SkvAttendParams& params, const QueryBlocks& cut, int first_block, int blocks);
  // The pieces of all lines, and lanes that have no angles yet.
  void cut();

  int n_lines() const { return n_lines_; }
  int n_pieces() const { return n_pieces_; }
  AttendLine* lines() const { return lines_; }
  const AttendPiece& piece(int64_t i) const { return pieces_[i]; }
  float* scratch(int lane) const { return memory_ + lane * lane_floats_ + angle_floats_; }
  TurnAngles* angles(int lane) const { return angles_ + lane; }

 private:
  // Runs [first, end) of a head.
  struct RunRange {
    int first, end;
  };

  bool may_share(const AttendLine& line) const;
  void share(int* begin, int* end, int first_run, int level);
  void cut_alone(int line, int first_run);
  void cut_for(const int* begin, const int* end, RunRange range);
  void cut_rows(const int* begin, const int* end, int rows, RunRange range);
  void add_piece(PieceKind kind, const AttendPart* parts, int n_parts, int rows, int first_slot,
                 int n_slots);

  // What was counted.
  int64_t most_lines_ = 0, most_parts_ = 0, most_partials_ = 0;
  int64_t line_rows_ = 0, piece_rows_ = 0, acc_floats_ = 0, kept_floats_ = 0;
  int most_rows_ = 0, head_dim_ = 0;
  int most_codewords_ = 0, most_codebook_slots_ = 0;  // of a run that is read as a codebook
  int sharers_;

  // What is there, and how much of it is taken.
  AttendLine* lines_ = nullptr;
  AttendPart* parts_ = nullptr;
  AttendPiece* pieces_ = nullptr;
  AttendPartial* partials_ = nullptr;
  int* order_ = nullptr;
  float *m_ = nullptr, *l_ = nullptr, *acc_ = nullptr, *kept_ = nullptr, *lse_ = nullptr;
  float* memory_ = nullptr;  // of every lane: rows of angles, scratch
  int64_t lane_floats_ = 0, angle_floats_ = 0;
  TurnAngles* angles_ = nullptr;
  int lanes_ = 0;
  int n_lines_ = 0, n_pieces_ = 0;
  int64_t parts_used_ = 0, partials_used_ = 0;
  int64_t line_rows_used_ = 0, piece_rows_used_ = 0, acc_used_ = 0, kept_used_ = 0;
};

}  // namespace spindlekv::cpu
