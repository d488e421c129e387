// attend and attend_batch on the CPU: plan the pieces, run the kernels of cpu/isa/, merge in order.
//
// Items with one block of queries (a step of many sequences) are one plan, so that threads share
// the pieces of all and slots that items have in common are read once. An item with more blocks (a
// prompt) reads nothing together with others: its own rows share every slot already. Its blocks are
// planned in chunks that keep partials and what is kept for scores within bounds.
#include "cpu/attend.h"

#include <algorithm>
#include <mutex>

#include "core/op_entry.h"
#include "cpu/attend_plan.h"
#include "cpu/attend_task.h"
#include "cpu/entries.h"

namespace spindlekv::cpu {
namespace {

// Where lines keep what scores are made of. It is needed until those of the line are added up; then
// the next line writes over it while it is in the cache, and memory sees little of it. Those of
// several blocks are added up when all are there: none is given back, each line has its own.
class KeptMemory {
 public:
  // Called by every piece of the line.
  float* take(AttendLine& line) {
    float* const taken = __atomic_load_n(&line.kept, __ATOMIC_ACQUIRE);
    if (taken != nullptr) return taken;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (line.kept != nullptr) return line.kept;
    float* kept = line.own_kept;
    line.kept_room = line.kept_floats;
    if (finished_ != nullptr && finished_->kept_room >= line.kept_floats) {
      kept = finished_->kept;
      line.kept_room = finished_->kept_room;
      finished_ = finished_->next_finished;
    }
    __atomic_store_n(&line.kept, kept, __ATOMIC_RELEASE);
    return kept;
  }

  void give_back(AttendLine& line) {
    const std::lock_guard<std::mutex> lock(mutex_);
    line.next_finished = finished_;
    finished_ = &line;
  }

 private:
  std::mutex mutex_;
  AttendLine* finished_ = nullptr;  // the last one first; guarded by mutex_
};

class Wave {
 public:
  // blocks: of one item, or 1 if every item has one.
  Wave(SkvDevice& device, const SkvExec& exec, const AttendPlan& plan, int blocks)
      : device_(device),
        exec_(exec),
        plan_(plan),
        kernels_(kernels_of_attend(device.isa)),
        blocks_(blocks) {}

  // Whoever finishes the last piece of a line merges it and, while what it kept is still in the
  // cache, adds its scores; the other threads go on with the pieces of the next line.
  void run() {
    device_.pool.parallel_for(plan_.n_pieces(), [&](int64_t index, int lane) {
      if (is_cancelled(exec_)) return;
      const AttendPiece& piece = plan_.piece(index);
      attend_piece(piece, lane);
      for (int i = 0; i < piece.n_parts; ++i) {
        AttendLine& line = plan_.lines()[piece.parts[i].line];
        if (__atomic_add_fetch(&line.done, 1, __ATOMIC_ACQ_REL) < line.n_partials) continue;
        merge(line, lane);
        if (line.accumulates && blocks_ == 1) {
          for (int p = 0; p < line.n_partials; ++p) add_scores(line, p);
          kept_.give_back(line);
        }
      }
    });
    if (blocks_ > 1 && plan_.lines()->accumulates) accumulate_scores();
  }

 private:
  void attend_piece(const AttendPiece& piece, int lane) {
    AttendTask task;
    task.parts = piece.parts;
    task.n_parts = piece.n_parts;
    task.rows = piece.rows;
    task.source = slot_source(*piece.parts->params, piece.parts->kv_head);
    task.first_slot = piece.first_slot;
    task.n_slots = piece.n_slots;
    task.m = piece.m;
    task.l = piece.l;
    task.acc = piece.acc;
    task.kept = kept_of(piece);
    task.scratch = plan_.scratch(lane);
    task.angles = plan_.angles(lane);
    switch (piece.kind) {
      case PieceKind::kNothing:
        return;
      case PieceKind::kStream:
        return kernels_.stream(task);
      case PieceKind::kCodebook:
        return kernels_.codebook(task);
      case PieceKind::kBlock:
        return kernels_.block(task);
    }
  }

  float* kept_of(const AttendPiece& piece) {
    AttendLine& line = plan_.lines()[piece.parts->line];
    return line.accumulates ? kept_.take(line) + piece.kept : nullptr;
  }

  void merge(const AttendLine& line, int lane) {
    const SkvAttendParams& params = *line.part.params;
    MergeTask task;
    task.params = &params;
    task.partials = line.partials;
    task.n_partials = line.n_partials;
    task.acc_scratch = plan_.scratch(lane);
    for (task.row = 0; task.row < line.rows; ++task.row) {
      task.query_head = line.part.kv_head * params.group + task.row / line.part.n_queries;
      task.query = line.part.first_query + task.row % line.part.n_queries;
      task.lse = line.lse + task.row;
      kernels_.merge(task);
      if (params.lse != nullptr) {
        params.lse[int64_t{task.query_head} * params.queries + task.query] = *task.lse;
      }
    }
  }

  // The columns of score_sum under one piece.
  void add_scores(const AttendLine& line, int partial) {
    const SkvAttendParams& params = *line.part.params;
    const AttendPiece& piece = *line.partials[partial].piece;
    const bool per_query_head = params.score_mode == SKV_SCORE_QUERY_HEAD;
    const int64_t sums = per_query_head ? params.group : 1;
    ScoreTask task;
    task.kept = line.kept + piece.kept;
    task.keeps_weights = piece.kind == PieceKind::kStream;
    task.lse = line.lse;
    task.rows = line.rows;
    task.rows_per_sum = per_query_head ? line.part.n_queries : line.rows;
    task.n_slots = piece.n_slots;
    task.sum = params.score_sum + line.part.kv_head * sums * params.score_stride + piece.first_slot;
    task.sum_stride = params.score_stride;
    kernels_.add_scores(task);
  }

  // Every column has one owner, who takes the blocks in order. The pieces of all blocks are alike.
  void accumulate_scores() {
    const int kv_heads = plan_.n_lines() / blocks_;
    int most = 0;
    for (int h = 0; h < kv_heads; ++h) most = std::max(most, plan_.lines()[h].n_partials);
    device_.pool.parallel_for(int64_t{kv_heads} * most, [&](int64_t index, int) {
      if (is_cancelled(exec_)) return;
      const int kv_head = static_cast<int>(index / most);
      const int partial = static_cast<int>(index % most);
      for (int block = 0; block < blocks_; ++block) {
        const AttendLine& line = plan_.lines()[block * kv_heads + kv_head];
        if (partial < line.n_partials) add_scores(line, partial);
      }
    });
  }

  SkvDevice& device_;
  const SkvExec& exec_;
  const AttendPlan& plan_;
  const AttendKernels& kernels_;
  int blocks_;
  KeptMemory kept_;
};

// Calls one(params, cut) for the items that have queries, in `only_short`: one block of them, or
// more than one.
template <class One>
void for_each_item(const SkvAttendParams* items, int n_items, bool only_short, const One& one) {
  for (int i = 0; i < n_items; ++i) {
    if (items[i].queries == 0) continue;
    const QueryBlocks cut = cut_queries(items[i]);
    if ((cut.blocks == 1) == only_short) one(items[i], cut);
  }
}

AttendPlan count_short_items(const SkvAttendParams* items, int n_items) {
  int n_short = 0;
  for_each_item(items, n_items, true,
                [&](const SkvAttendParams&, const QueryBlocks&) { ++n_short; });
  AttendPlan plan(n_short);
  for_each_item(items, n_items, true, [&](const SkvAttendParams& params, const QueryBlocks& cut) {
    plan.count(params, cut, 1);
  });
  return plan;
}

AttendPlan count_chunk(const SkvAttendParams& params, const QueryBlocks& cut) {
  AttendPlan plan(1);
  plan.count(params, cut, cut.chunk);
  return plan;
}

// plan: counted and carved.
void attend_short_items(SkvDevice& device, const SkvExec& exec, AttendPlan& plan,
                        const SkvAttendParams* items, int n_items) {
  for_each_item(items, n_items, true, [&](const SkvAttendParams& params, const QueryBlocks& cut) {
    plan.add(params, cut, 0, 1);
  });
  plan.cut();
  Wave(device, exec, plan, 1).run();
}

void attend_long_item(SkvDevice& device, const SkvExec& exec, const SkvAttendParams& params,
                      const QueryBlocks& cut) {
  for (int block = 0; block < cut.blocks && !is_cancelled(exec); block += cut.chunk) {
    const int blocks = std::min(cut.chunk, cut.blocks - block);
    AttendPlan plan = count_chunk(params, cut);
    plan.carve(device.pool.lanes(), exec.workspace);
    plan.add(params, cut, block, blocks);
    plan.cut();
    Wave(device, exec, plan, blocks).run();
  }
}

// The most that a chunk of an item with more than one block takes.
size_t long_items_workspace(int lanes, const SkvAttendParams* items, int n_items) {
  size_t bytes = 0;
  for_each_item(items, n_items, false, [&](const SkvAttendParams& params, const QueryBlocks& cut) {
    bytes = std::max(bytes, count_chunk(params, cut).carve(lanes, nullptr));
  });
  return bytes;
}

}  // namespace

size_t attend_items_workspace(SkvDevice& device, const SkvAttendParams* items, int n_items) {
  const int lanes = device.pool.lanes();
  return std::max(count_short_items(items, n_items).carve(lanes, nullptr),
                  long_items_workspace(lanes, items, n_items));
}

Status attend_items(SkvDevice& device, const SkvExec& exec, const char* op,
                    const SkvAttendParams* items, int n_items) {
  const int lanes = device.pool.lanes();
  AttendPlan plan = count_short_items(items, n_items);
  const size_t short_bytes = plan.carve(lanes, exec.workspace);
  const size_t long_bytes = long_items_workspace(lanes, items, n_items);
  SKV_RETURN_IF_ERROR(check_workspace(op, exec, std::max(short_bytes, long_bytes)));

  attend_short_items(device, exec, plan, items, n_items);
  for_each_item(items, n_items, false, [&](const SkvAttendParams& params, const QueryBlocks& cut) {
    attend_long_item(device, exec, params, cut);
  });
  return is_cancelled(exec) ? aborted_status(op) : ok_status();
}

size_t attend_workspace(SkvDevice& device, const SkvAttendParams& params) {
  return params.queries == 0 ? 0 : attend_items_workspace(device, &params, 1);
}

Status attend(SkvDevice& device, const SkvExec& exec, const SkvAttendParams& params) {
  if (params.queries == 0) return ok_status();
  SKV_RETURN_IF_ERROR(
      check_key_positions("attend", params.runs, params.n_runs, params.rope, params.reindex != 0));
  return attend_items(device, exec, "attend", &params, 1);
}

}  // namespace spindlekv::cpu
