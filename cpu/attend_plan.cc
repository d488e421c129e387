// Cuts attention into pieces; finds the runs that several items have in common.
//
// Lines are compared run by run: as long as all have the same next run it is read for all of them,
// then they part into classes by the run that follows, and each class goes on in the same way. A
// run of a line is looked at once, and a sort parts n lines.
#include "cpu/attend_plan.h"

#include <algorithm>
#include <cstring>

#include "cpu/carve.h"

namespace spindlekv::cpu {
namespace {

// At least 512 slots of one head: 256 KiB of K and V at D = 128, f16. A piece begins with queries
// to turn, sums to clear and a maximum to find, and reads a stretch of its own; so pieces are
// longer where there are enough of them. In the end they are shorter, for threads that are done
// wait for the others' last ones.
constexpr int kStreamSlots = 8 * kTileSlots;
constexpr int kMostStreamSlots = 128 * kTileSlots;
constexpr int kEnoughPieces = 16;
constexpr int kShortPieces = 8;  // that make up a long one
constexpr int kShortPart = 4;    // one in so many of an item's slots is read in short pieces
constexpr int kBlockSlots = 32 * kTileSlots;
// A codeword that a piece refers to costs as much as a value row, so pieces are long; the fewer
// heads there are, the shorter, so that there is work for all threads.
constexpr int kCodebookSlotsPerHead = 64 * kTileSlots;
constexpr int kFewestCodebookHeads = 4, kMostCodebookHeads = 8;
constexpr int kCodebookSlots = kMostCodebookHeads * kCodebookSlotsPerHead;  // at most
constexpr int kCodewordsPerSlot = 2;
// How often lines may part and still read on together; bounds the number of pieces.
constexpr int kSharedLevels = 4;
constexpr int64_t kWorkspaceTarget = int64_t{64} << 20;

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
int divide_up(int64_t n, int64_t by) { return static_cast<int>((n + by - 1) / by); }

// Codewords are worth a product of their own where slots refer to most of them.
bool shares_codewords(const SkvRun& run) {
  return run.codec == SKV_CODEC_CODEBOOK &&
         codebook_size(run) <= kCodewordsPerSlot * int64_t{run.slots};
}

PieceKind kind_of(const SkvRun& run, bool has_many_rows) {
  if (has_many_rows) return PieceKind::kBlock;
  return shares_codewords(run) ? PieceKind::kCodebook : PieceKind::kStream;
}

// Pieces of this kind hold slots of one run only.
bool is_within_run(PieceKind kind) { return kind == PieceKind::kCodebook; }

// Slots of the piece that begins `done` slots after the first of a head's `slots`, whatever the
// threads: sums depend on it.
int piece_slots(PieceKind kind, int kv_head, int kv_heads, int slots, int done) {
  if (kind == PieceKind::kCodebook) {
    return kCodebookSlotsPerHead * std::clamp(kv_heads, kFewestCodebookHeads, kMostCodebookHeads);
  }
  if (kind == PieceKind::kBlock) return kBlockSlots;
  const int64_t all = int64_t{kv_heads} * slots;
  const int64_t left = all - int64_t{kv_head} * slots - done;
  const int64_t most = std::min<int64_t>(all / kEnoughPieces, kMostStreamSlots);
  const int64_t wanted = left * kShortPart > all ? most : most / kShortPieces;
  return std::max(kStreamSlots, static_cast<int>(wanted / kTileSlots * kTileSlots));
}

// What a line that reads these slots alone may be cut into: also together with others, whose rows
// can make them a block.
int most_pieces(PieceKind kind, int slots) {
  return divide_up(slots, kind == PieceKind::kStream ? kStreamSlots : kBlockSlots);
}
static_assert(kStreamSlots <= kBlockSlots &&
              kBlockSlots <= kFewestCodebookHeads * kCodebookSlotsPerHead);

// Rows of acc that the kernel writes.
int acc_rows(PieceKind kind, int rows) {
  return kind == PieceKind::kBlock ? block_lanes(rows) : rows;
}

// Calls span(kind, first_slot, n_slots) for the ranges of runs that pieces are cut from.
template <class Span>
void for_each_span(const SkvRun* runs, int n_runs, bool has_many_rows, const Span& span) {
  int at = 0;
  while (at < n_runs) {
    const PieceKind kind = kind_of(runs[at], has_many_rows);
    int end = at + 1;
    while (end < n_runs && !is_within_run(kind) && kind_of(runs[end], has_many_rows) == kind) ++end;
    const int first = runs[at].slot_base;
    const int slots = runs[end - 1].slot_base + runs[end - 1].slots - first;
    if (slots > 0) span(kind, first, slots);
    at = end;
  }
}

int compare_bytes(const SkvRun& a, const SkvRun& b) { return std::memcmp(&a, &b, sizeof(SkvRun)); }
static_assert(sizeof(SkvRun) == 8 * sizeof(int32_t) + 9 * sizeof(void*), "no padding");
static_assert(sizeof(SkvRope) == 4 * sizeof(int32_t) + sizeof(void*), "no padding");

const SkvHead& head_of(const AttendLine& line) {
  return line.part.params->heads[line.part.kv_head];
}
const SkvRun* runs_of(const AttendLine& line) {
  return line.part.params->runs + head_of(line).first_run;
}

}  // namespace

QueryBlocks cut_many_queries(const SkvAttendParams& params) {
  const bool accumulates = params.score_mode != SKV_SCORE_NONE;
  const bool fits_stream = fits_a_stream(params);
  QueryBlocks cut{params.queries, 1, 1};

  int slots = 0;
  for (int h = 0; h < params.kv_heads; ++h) slots = std::max(slots, params.heads[h].slots);
  const int tiles = std::max(1, tiles_of(slots));
  if (!fits_stream) cut.queries = std::max(1, kMostBlockRows / params.group);
  const int64_t kept_per_query = int64_t{params.kv_heads} * params.group * tiles * kTileSlots;
  if (accumulates) {
    const int64_t most = kWorkspaceTarget / static_cast<int64_t>(sizeof(float)) / kept_per_query;
    cut.queries = static_cast<int>(std::clamp<int64_t>(most, 1, cut.queries));
  }
  cut.queries = std::min(cut.queries, params.queries);
  cut.blocks = divide_up(params.queries, cut.queries);
  if (cut.blocks == 1) return cut;

  const int rows = cut.queries * params.group;
  const int pieces = divide_up(slots, rows > kStreamRows ? kBlockSlots : kStreamSlots);
  const int64_t floats =
      int64_t{params.kv_heads} * pieces * block_lanes(rows) * (padded_dim(params.head_dim) + 2) +
      (accumulates ? kept_per_query * cut.queries : 0);
  const int64_t bytes = static_cast<int64_t>(sizeof(float)) * std::max<int64_t>(1, floats);
  cut.chunk = static_cast<int>(std::clamp<int64_t>(kWorkspaceTarget / bytes, 1, cut.blocks));
  return cut;
}

void AttendPlan::count(const SkvAttendParams& params, const QueryBlocks& cut, int blocks) {
  const int rows = cut.queries * params.group;
  const bool has_many_rows = rows > kStreamRows;
  head_dim_ = params.head_dim;
  // Sharing stacks rows up to a whole block of them.
  most_rows_ = std::max({most_rows_, rows, sharers_ > 1 ? kMostBlockRows : 0});
  for (int h = 0; h < params.kv_heads; ++h) {
    const SkvHead& head = params.heads[h];
    const int cuts = std::min({kSharedLevels, sharers_ - 1, head.n_runs});
    int64_t pieces = 1 + cuts;
    int64_t kept = 0;
    for_each_span(params.runs + head.first_run, head.n_runs, has_many_rows,
                  [&](PieceKind kind, int, int slots) {
                    pieces += most_pieces(kind, slots);
                    kept += tiles_of(slots) * kept_tile_floats(kind == PieceKind::kStream, rows);
                  });
    for (int i = 0; i < head.n_runs && !has_many_rows; ++i) {
      const SkvRun& run = params.runs[head.first_run + i];
      if (!shares_codewords(run)) continue;
      most_codewords_ = std::max(most_codewords_, codebook_size(run));
      most_codebook_slots_ = std::max(most_codebook_slots_, std::min(run.slots, kCodebookSlots));
    }
    most_lines_ += blocks;
    most_parts_ += int64_t{blocks} * (2 + cuts);
    most_partials_ += blocks * pieces;
    line_rows_ += blocks * block_lanes(rows);
    piece_rows_ += blocks * pieces * block_lanes(rows);
    // Rows of several lines together are rounded up to less than twice as many.
    const int most_acc_rows = has_many_rows ? block_lanes(rows) : sharers_ > 1 ? 2 * rows : rows;
    acc_floats_ += blocks * pieces * most_acc_rows * padded_dim(head_dim_);
    if (params.score_mode != SKV_SCORE_NONE) kept_floats_ += blocks * kept;
  }
}

size_t AttendPlan::carve(int lanes, void* base) {
  Carver carver(base);
  lines_ = carver.take<AttendLine>(most_lines_);
  order_ = carver.take<int>(most_lines_);
  parts_ = carver.take<AttendPart>(most_parts_);
  pieces_ = carver.take<AttendPiece>(most_partials_);
  partials_ = carver.take<AttendPartial>(most_partials_);
  lse_ = carver.take<float>(line_rows_);
  m_ = carver.take<float>(piece_rows_);
  l_ = carver.take<float>(piece_rows_);
  acc_ = carver.take<float>(acc_floats_);
  kept_ = carver.take<float>(kept_floats_);
  int64_t scratch_floats = std::max(attend_scratch_floats(most_rows_, head_dim_),
                                    attend_scratch_floats(kStreamRows, head_dim_));
  if (most_codewords_ > 0) {
    scratch_floats = std::max(scratch_floats,
                              codebook_scratch_floats(std::min(most_rows_, kStreamRows), head_dim_,
                                                      most_codebook_slots_, most_codewords_));
  }
  angle_floats_ = turn_angles_floats(head_dim_);
  lane_floats_ = round_up(scratch_floats + angle_floats_, 16);
  memory_ = carver.take<float>(lanes * lane_floats_);
  angles_ = carver.take<TurnAngles>(lanes);
  lanes_ = lanes;
  return carver.used();
}

void AttendPlan::add(const SkvAttendParams& params, const QueryBlocks& cut, int first_block,
                     int blocks) {
  for (int block = first_block; block < first_block + blocks; ++block) {
    const int first_query = block * cut.queries;
    const int queries = std::min(cut.queries, params.queries - first_query);
    for (int h = 0; h < params.kv_heads; ++h) {
      AttendLine& line = lines_[n_lines_];
      line.part = {&params, h, first_query, queries, n_lines_++};
      line.rows = queries * params.group;
      line.has_many_rows = cut.queries * params.group > kStreamRows;
      line.accumulates = params.score_mode != SKV_SCORE_NONE;
      line.kept = line.own_kept = nullptr;
      line.kept_floats = 0;
      line.n_partials = line.done = 0;
      line.lse = lse_ + line_rows_used_;
      line_rows_used_ += block_lanes(line.rows);
      // As many as count() found, for the pieces of a full block.
      const SkvHead& head = params.heads[h];
      line.partials = partials_ + partials_used_;
      partials_used_ += 1 + std::min({kSharedLevels, sharers_ - 1, head.n_runs});
      for_each_span(
          params.runs + head.first_run, head.n_runs, line.has_many_rows,
          [&](PieceKind kind, int, int slots) { partials_used_ += most_pieces(kind, slots); });
    }
  }
}

// What one that accumulates scores keeps belongs to it alone: its tiles are added up by whoever
// merges it.
bool AttendPlan::may_share(const AttendLine& line) const {
  return sharers_ > 1 && !line.accumulates && head_of(line).slots > 0;
}

void AttendPlan::cut() {
  for (int lane = 0; lane < lanes_; ++lane) {
    angles_[lane] = {
        .rope = {}, .rows = memory_ + lane * lane_floats_, .composes = false, .largest = 0.0f};
  }
  int* sharing = order_;
  for (int i = 0; i < n_lines_; ++i) {
    if (may_share(lines_[i])) {
      *sharing++ = i;
    } else {
      cut_alone(i, 0);
    }
  }
  // Keys are the same only if they turn by the same table.
  const auto compare = [this](int a, int b) {
    const AttendPart& x = lines_[a].part;
    const AttendPart& y = lines_[b].part;
    if (x.kv_head != y.kv_head) return x.kv_head - y.kv_head;
    if (x.params->reindex != y.params->reindex) return x.params->reindex - y.params->reindex;
    return std::memcmp(&x.params->rope, &y.params->rope, sizeof(SkvRope));
  };
  std::sort(order_, sharing, [&](int a, int b) {
    const int order = compare(a, b);
    return order != 0 ? order < 0 : a < b;
  });
  for (int* begin = order_; begin < sharing;) {
    int* end = begin + 1;
    while (end < sharing && compare(*begin, *end) == 0) ++end;
    share(begin, end, 0, 0);
    begin = end;
  }
}

// Lines that have runs [0, first_run) in common, which have been cut.
void AttendPlan::share(int* begin, int* end, int first_run, int level) {
  if (end - begin == 1 || level == kSharedLevels) {
    for (const int* i = begin; i < end; ++i) cut_alone(*i, first_run);
    return;
  }
  const auto has_run = [this](int line, int run) { return run < head_of(lines_[line]).n_runs; };
  const auto run_at = [this](int line, int run) -> const SkvRun& {
    return runs_of(lines_[line])[run];
  };
  int common = first_run;
  while (has_run(*begin, common) && std::all_of(begin + 1, end, [&](int line) {
           return has_run(line, common) &&
                  compare_bytes(run_at(line, common), run_at(*begin, common)) == 0;
         })) {
    ++common;
  }
  cut_for(begin, end, {first_run, common});

  // Lines that end here come first, then one class after the other.
  std::sort(begin, end, [&](int a, int b) {
    if (!has_run(a, common) || !has_run(b, common)) {
      return has_run(a, common) != has_run(b, common) ? has_run(b, common) : a < b;
    }
    const int order = compare_bytes(run_at(a, common), run_at(b, common));
    return order != 0 ? order < 0 : a < b;
  });
  while (begin < end && !has_run(*begin, common)) ++begin;
  const int next_level = common > first_run ? level + 1 : level;
  while (begin < end) {
    int* next = begin + 1;
    while (next < end && compare_bytes(run_at(*begin, common), run_at(*next, common)) == 0) ++next;
    share(begin, next, common, next_level);
    begin = next;
  }
}

void AttendPlan::cut_alone(int line, int first_run) {
  const int n_runs = head_of(lines_[line]).n_runs;
  cut_for(&line, &line + 1, {first_run, n_runs});
  if (lines_[line].n_partials > 0) return;
  AttendPart* const part = parts_ + parts_used_++;
  *part = lines_[line].part;
  pieces_[n_pieces_++] = {PieceKind::kNothing, 1, part, 0, 0, 0, nullptr, nullptr, nullptr, 0};
}

// Pieces over the runs for all the lines, as many of them together as make up a block of rows.
void AttendPlan::cut_for(const int* begin, const int* end, RunRange range) {
  if (range.first == range.end) return;
  while (begin < end) {
    int rows = lines_[*begin].rows;
    const int* next = begin + 1;
    while (next < end && rows + lines_[*next].rows <= kMostBlockRows) rows += lines_[*next++].rows;
    cut_rows(begin, next, rows, range);
    begin = next;
  }
}

void AttendPlan::cut_rows(const int* begin, const int* end, int rows, RunRange range) {
  AttendPart* const parts = parts_ + parts_used_;
  const int n_parts = static_cast<int>(end - begin);
  for (const int* i = begin; i < end; ++i) parts_[parts_used_++] = lines_[*i].part;
  for_each_span(runs_of(lines_[*begin]) + range.first, range.end - range.first,
                rows > kStreamRows || lines_[*begin].has_many_rows,
                [&](PieceKind kind, int first, int slots) {
                  const AttendPart& part = *parts;
                  for (int done = 0, size = 0; done < slots; done += size) {
                    size = piece_slots(kind, part.kv_head, part.params->kv_heads, slots, done);
                    size = std::min(size, slots - done);
                    add_piece(kind, parts, n_parts, rows, first + done, size);
                  }
                });
}

void AttendPlan::add_piece(PieceKind kind, const AttendPart* parts, int n_parts, int rows,
                           int first_slot, int n_slots) {
  AttendPiece& piece = pieces_[n_pieces_++];
  piece = {kind,
           n_parts,
           parts,
           rows,
           first_slot,
           n_slots,
           m_ + piece_rows_used_,
           l_ + piece_rows_used_,
           acc_ + acc_used_,
           0};
  piece_rows_used_ += block_lanes(rows);
  acc_used_ += int64_t{acc_rows(kind, rows)} * padded_dim(head_dim_);
  AttendLine& first = lines_[parts->line];
  if (first.accumulates) {
    // Its pieces follow each other.
    if (first.kept_floats == 0) first.own_kept = kept_ + kept_used_;
    piece.kept = first.kept_floats;
    const int64_t floats = tiles_of(n_slots) * kept_tile_floats(kind == PieceKind::kStream, rows);
    first.kept_floats += floats;
    kept_used_ += floats;
  }
  int row = 0;
  for (int i = 0; i < n_parts; ++i) {
    AttendLine& line = lines_[parts[i].line];
    line.partials[line.n_partials++] = {&piece, row};
    row += line.rows;
  }
}

}  // namespace spindlekv::cpu
