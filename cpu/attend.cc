// attend on the CPU: cuts the work in pieces, runs the kernels of cpu/isa/, merges in order.
//
// A piece is one KV head x one block of queries x a range of slots of fixed length; its size
// depends on the shape alone, so results do not depend on the number of threads. Queries are taken
// in chunks of blocks so that the partials, and the logits kept for score accumulation, stay within
// kWorkspaceTarget.
#include <algorithm>

#include "cpu/attend_task.h"
#include "cpu/carve.h"
#include "cpu/convert.h"
#include "cpu/device.h"
#include "cpu/entries.h"

namespace spindlekv::cpu {
namespace {

// 512 slots of one head: 256 KiB of K and V at D = 128, f16. Blocks have more work per slot.
constexpr int kStreamTiles = 8;
constexpr int kBlockTiles = 32;
constexpr int kBlockRows = 128;
constexpr int64_t kWorkspaceTarget = int64_t{64} << 20;

struct Plan {
  int group, dim, kv_heads;
  int queries;         // per block
  int blocks, chunk;   // blocks in all, and at a time
  int rows, all_rows;  // per block; padded
  bool streams;
  int piece_tiles;
  int tiles, pieces;  // of the longest head
  bool keeps_logits;
  int64_t logit_floats;  // per block, all KV heads
};

struct Workspace {
  float* scratch;  // [lanes, scratch_floats]
  float* m;        // [chunk, kv_heads, pieces, rows]
  float* l;
  float* acc;     // [chunk, kv_heads, pieces, all_rows, dim]
  float* lse;     // [chunk, kv_heads, rows]
  float* logits;  // [chunk, kv_heads, tiles, rows, 64]
  int32_t* done;  // [chunk, kv_heads] pieces that are through
  int64_t scratch_floats;
};

Plan make_plan(const SkvAttendParams& params) {
  Plan plan;
  plan.group = params.group;
  plan.dim = padded_dim(params.head_dim);
  plan.kv_heads = params.kv_heads;
  int slots = 0;
  for (int h = 0; h < params.kv_heads; ++h) slots = std::max(slots, params.heads[h].slots);
  plan.tiles = tiles_of(slots);
  plan.keeps_logits = params.score_mode != SKV_SCORE_NONE;

  const bool fits_stream = params.queries * int64_t{params.group} <= kStreamRows;
  plan.queries = fits_stream ? params.queries : std::max(1, kBlockRows / params.group);
  const int64_t logits_per_query =
      int64_t{params.kv_heads} * params.group * std::max(plan.tiles, 1) * kTileSlots;
  if (plan.keeps_logits) {
    const int64_t most = kWorkspaceTarget / static_cast<int64_t>(sizeof(float)) / logits_per_query;
    plan.queries = static_cast<int>(std::clamp<int64_t>(most, 1, plan.queries));
  }
  plan.blocks = (params.queries + plan.queries - 1) / plan.queries;
  plan.rows = plan.queries * params.group;
  plan.all_rows = padded_rows(plan.rows);
  plan.streams = plan.rows <= kStreamRows;
  plan.piece_tiles = plan.streams ? kStreamTiles : kBlockTiles;
  plan.pieces = (plan.tiles + plan.piece_tiles - 1) / plan.piece_tiles;

  plan.logit_floats = plan.keeps_logits ? logits_per_query * plan.queries : 0;
  const int64_t partial_floats =
      int64_t{params.kv_heads} * plan.pieces * plan.all_rows * (plan.dim + 2);
  const int64_t block_bytes = static_cast<int64_t>(sizeof(float)) *
                              std::max<int64_t>(1, partial_floats + plan.logit_floats);
  plan.chunk =
      static_cast<int>(std::clamp<int64_t>(kWorkspaceTarget / block_bytes, 1, plan.blocks));
  return plan;
}

size_t carve(const Plan& plan, int lanes, int head_dim, void* base, Workspace* workspace) {
  Carver carver(base);
  const int64_t heads = int64_t{plan.chunk} * plan.kv_heads;
  workspace->scratch_floats = (attend_scratch_floats(plan.rows, head_dim) + 15) / 16 * 16;
  workspace->scratch = carver.take<float>(lanes * workspace->scratch_floats);
  workspace->m = carver.take<float>(heads * plan.pieces * plan.rows);
  workspace->l = carver.take<float>(heads * plan.pieces * plan.rows);
  workspace->acc = carver.take<float>(heads * plan.pieces * plan.all_rows * plan.dim);
  workspace->lse = carver.take<float>(heads * plan.rows);
  workspace->logits = carver.take<float>(plan.chunk * plan.logit_floats);
  workspace->done = carver.take<int32_t>(heads);
  return carver.used();
}

// One chunk of query blocks: [first_block, first_block + blocks).
class Chunk {
 public:
  Chunk(SkvDevice& device, const SkvExec& exec, const SkvAttendParams& params, const Plan& plan,
        const Workspace& workspace, int first_block)
      : device_(device),
        exec_(exec),
        params_(params),
        plan_(plan),
        workspace_(workspace),
        kernels_(attend_kernels_for(device.isa)),
        first_block_(first_block),
        blocks_(std::min(plan.chunk, plan.blocks - first_block)) {}

  // Whoever finishes the last piece of a head merges it and, while its logits are still in the
  // cache, adds its scores; the other threads go on with the pieces of the next head.
  void run() {
    std::fill_n(workspace_.done, int64_t{blocks_} * plan_.kv_heads, 0);
    const int64_t pieces = std::max(1, plan_.pieces);
    device_.pool.parallel_for(
        int64_t{blocks_} * plan_.kv_heads * pieces, [&](int64_t index, int lane) {
          if (is_cancelled(exec_)) return;
          const int piece = static_cast<int>(index % pieces);
          const int kv_head = static_cast<int>(index / pieces % plan_.kv_heads);
          const int block = static_cast<int>(index / pieces / plan_.kv_heads);
          const int tiles = tiles_of(params_.heads[kv_head].slots);
          const int head_pieces = (tiles + plan_.piece_tiles - 1) / plan_.piece_tiles;
          if (piece >= std::max(1, head_pieces)) return;
          if (piece < head_pieces) attend_piece(block, kv_head, piece, lane);
          int32_t* const done = workspace_.done + head_index(block, kv_head);
          if (__atomic_add_fetch(done, 1, __ATOMIC_ACQ_REL) < head_pieces) return;
          merge(block, kv_head, head_pieces, lane);
          if (plan_.keeps_logits && blocks_ == 1) {
            for (int tile = 0; tile < tiles; ++tile) add_scores(kv_head, tile);
          }
        });
    if (plan_.keeps_logits && blocks_ > 1) accumulate_scores();
  }

 private:
  int first_query(int block) const { return (first_block_ + block) * plan_.queries; }
  int n_queries(int block) const {
    return std::min(plan_.queries, params_.queries - first_query(block));
  }
  int64_t head_index(int block, int kv_head) const {
    return int64_t{block} * plan_.kv_heads + kv_head;
  }
  float* head_logits(int block, int kv_head) const {
    return workspace_.logits + head_index(block, kv_head) * plan_.tiles * plan_.rows * kTileSlots;
  }

  void attend_piece(int block, int kv_head, int piece, int lane) {
    const int first_tile = piece * plan_.piece_tiles;
    const int tiles = tiles_of(params_.heads[kv_head].slots);
    const int64_t index = head_index(block, kv_head) * plan_.pieces + piece;
    const int64_t row = index * plan_.rows;
    AttendTask task;
    task.params = &params_;
    task.source = slot_source(params_, kv_head);
    task.kv_head = kv_head;
    task.first_query = first_query(block);
    task.n_queries = n_queries(block);
    task.first_tile = first_tile;
    task.n_tiles = std::min(plan_.piece_tiles, tiles - first_tile);
    task.m = workspace_.m + row;
    task.l = workspace_.l + row;
    task.acc = workspace_.acc + index * plan_.all_rows * plan_.dim;
    task.logits = plan_.keeps_logits
                      ? head_logits(block, kv_head) +
                            int64_t{first_tile} * params_.group * task.n_queries * kTileSlots
                      : nullptr;
    task.scratch = workspace_.scratch + lane * workspace_.scratch_floats;
    (plan_.streams ? kernels_.stream : kernels_.block)(task);
  }

  void merge(int block, int kv_head, int pieces, int lane) {
    const int64_t index = head_index(block, kv_head);
    const int queries = n_queries(block);
    const int64_t first_piece = index * plan_.pieces;
    MergeTask task;
    task.params = &params_;
    task.pieces = pieces;
    task.row_stride = plan_.rows;
    task.acc_stride = int64_t{plan_.all_rows} * plan_.dim;
    task.acc_scratch = workspace_.scratch + lane * workspace_.scratch_floats;
    for (int r = 0; r < params_.group * queries; ++r) {
      task.query_head = kv_head * params_.group + r / queries;
      task.query = first_query(block) + r % queries;
      task.m = workspace_.m + first_piece * plan_.rows + r;
      task.l = workspace_.l + first_piece * plan_.rows + r;
      task.acc = workspace_.acc + first_piece * task.acc_stride + int64_t{r} * plan_.dim;
      task.lse = workspace_.lse + index * plan_.rows + r;
      kernels_.merge(task);
      if (params_.lse != nullptr) {
        params_.lse[int64_t{task.query_head} * params_.queries + task.query] = *task.lse;
      }
    }
  }

  // The columns of one tile of score_sum: the blocks and rows in order.
  void add_scores(int kv_head, int tile) {
    const bool per_query_head = params_.score_mode == SKV_SCORE_QUERY_HEAD;
    ScoreTask task;
    task.count = std::min(kTileSlots, params_.heads[kv_head].slots - tile * kTileSlots);
    for (int block = 0; block < blocks_; ++block) {
      const int queries = n_queries(block);
      task.logits =
          head_logits(block, kv_head) + int64_t{tile} * params_.group * queries * kTileSlots;
      task.lse = workspace_.lse + head_index(block, kv_head) * plan_.rows;
      task.n_rows = per_query_head ? queries : params_.group * queries;
      const int out_rows = per_query_head ? params_.group : 1;
      for (int r = 0; r < out_rows; ++r) {
        task.first_row = r * queries;
        task.sum = params_.score_sum + (int64_t{kv_head} * out_rows + r) * params_.score_stride +
                   int64_t{tile} * kTileSlots;
        kernels_.add_scores(task);
      }
    }
  }

  // Every column has one owner.
  void accumulate_scores() {
    const int64_t tiles = plan_.tiles;
    device_.pool.parallel_for(plan_.kv_heads * tiles, [&](int64_t index, int) {
      if (is_cancelled(exec_)) return;
      const int tile = static_cast<int>(index % tiles);
      const int kv_head = static_cast<int>(index / tiles);
      if (tile < tiles_of(params_.heads[kv_head].slots)) add_scores(kv_head, tile);
    });
  }

  SkvDevice& device_;
  const SkvExec& exec_;
  const SkvAttendParams& params_;
  const Plan& plan_;
  const Workspace& workspace_;
  const AttendKernels& kernels_;
  int first_block_, blocks_;
};

}  // namespace

size_t attend_workspace(SkvDevice& device, const SkvAttendParams& params) {
  if (params.queries == 0) return 0;
  Workspace workspace;
  return carve(make_plan(params), device.pool.lanes(), params.head_dim, nullptr, &workspace);
}

Status attend(SkvDevice& device, const SkvExec& exec, const SkvAttendParams& params) {
  if (params.queries == 0) return ok_status();
  SKV_RETURN_IF_ERROR(
      check_key_positions("attend", params.runs, params.n_runs, params.rope, params.reindex != 0));
  const Plan plan = make_plan(params);
  Workspace workspace;
  carve(plan, device.pool.lanes(), params.head_dim, exec.workspace, &workspace);
  for (int block = 0; block < plan.blocks; block += plan.chunk) {
    Chunk(device, exec, params, plan, workspace, block).run();
    if (is_cancelled(exec)) return aborted_status("attend");
  }
  return ok_status();
}

}  // namespace spindlekv::cpu
