// window_scores on the CPU, in three sweeps per chunk of queries and KV heads:
//   1  logits of every tile of 64 slots, its maximum and sum of exponentials per row
//   2  those merged over the tiles of a row, ascending
//   3  column sums of p = exp(logit - M) / L, queries ascending
// The logits of a chunk are kept between the sweeps, in the caches where they fit.
// The running column sums of later chunks live in the outputs. Canonical: see core/canonical.h.
#include <algorithm>

#include "cpu/carve.h"
#include "cpu/convert.h"
#include "cpu/device.h"
#include "cpu/entries.h"
#include "cpu/window_task.h"

namespace spindlekv::cpu {
namespace {

constexpr int kChunkQueries = 64;
// Most that the logits of a KV head's chunk may take; more queries at a time read the keys less
// often.
constexpr int64_t kLogitBytes = int64_t{64} << 20;
// KV heads go together while their logits fit into the caches of the threads that work on them.
constexpr int64_t kLogitBytesPerLane = int64_t{4} << 20;
constexpr int kTaskTiles = 4;  // so that keys can be asked for ahead

struct Plan {
  int tiles;           // of the longest head
  int queries;         // per chunk
  int kv_heads;        // at a time
  int rows, all_rows;  // all_rows: padded for the products
  int statistics;      // rows, padded for the merge
};

struct Workspace {
  float* scratch;    // [lanes, scratch_floats]
  float* queries;    // [kv_heads, all_rows, dim]
  float* logits;     // [kv_heads, tiles, all_rows, 64]
  float* block_max;  // [kv_heads, tiles, statistics]
  float* block_sum;
  RowSoftmax* softmax;  // [kv_heads, rows]
  float* entropy;       // [kv_heads, tiles, group]
  double* entropy_sum;  // [query heads of the op]
  int32_t* nonfinite;   // [kv_heads, tiles]
  int64_t scratch_floats;
};

Plan make_plan(const SkvWindowScoresParams& params, int lanes) {
  int slots = 0;
  for (int h = 0; h < params.kv_heads; ++h) slots = std::max(slots, params.heads[h].slots);
  Plan plan;
  plan.tiles = tiles_of(slots);
  const int64_t row_bytes = std::max(1, plan.tiles) * int64_t{kTileSlots} * int64_t{sizeof(float)};
  const int64_t most_rows = std::max<int64_t>(1, kLogitBytes / row_bytes);
  plan.queries = static_cast<int>(
      std::clamp<int64_t>(most_rows / params.group, 1, std::min(kChunkQueries, params.queries)));
  plan.rows = plan.queries * params.group;
  plan.all_rows = padded_rows(plan.rows);
  plan.statistics = (plan.rows + kMergeRows - 1) / kMergeRows * kMergeRows;
  const int64_t cached = std::min(kLogitBytes, kLogitBytesPerLane * lanes);
  plan.kv_heads =
      static_cast<int>(std::clamp<int64_t>(cached / (row_bytes * plan.rows), 1, params.kv_heads));
  return plan;
}

size_t carve(const SkvWindowScoresParams& params, const Plan& plan, int lanes, void* base,
             Workspace* workspace) {
  Carver carver(base);
  const int64_t blocks = int64_t{plan.kv_heads} * plan.tiles;
  workspace->scratch_floats = (window_scratch_floats(params.head_dim) + 15) / 16 * 16;
  workspace->scratch = carver.take<float>(lanes * workspace->scratch_floats);
  workspace->queries =
      carver.take<float>(int64_t{plan.kv_heads} * plan.all_rows * padded_dim(params.head_dim));
  workspace->logits = carver.take<float>(blocks * plan.all_rows * kTileSlots);
  workspace->block_max = carver.take<float>(blocks * plan.statistics);
  workspace->block_sum = carver.take<float>(blocks * plan.statistics);
  workspace->softmax = carver.take<RowSoftmax>(int64_t{plan.kv_heads} * plan.rows);
  workspace->entropy = carver.take<float>(blocks * params.group);
  workspace->entropy_sum = carver.take<double>(int64_t{params.kv_heads} * params.group);
  workspace->nonfinite = carver.take<int32_t>(blocks);
  return carver.used();
}

// KV heads [first_head, + heads) x queries [first_query, + queries).
class Chunk {
 public:
  Chunk(SkvDevice& device, const SkvExec& exec, const SkvWindowScoresParams& params,
        const Plan& plan, const Workspace& workspace, int first_head, int first_query)
      : pool_(device.pool),
        exec_(exec),
        params_(params),
        plan_(plan),
        workspace_(workspace),
        kernels_(window_kernels_for(device.isa)),
        first_head_(first_head),
        first_query_(first_query),
        heads_(std::min(plan.kv_heads, params.kv_heads - first_head)),
        queries_(std::min(plan.queries, params.queries - first_query)) {}

  void run() {
    for (int head = 0; head < heads_; ++head) kernels_.queries(task_for(head, 0, 0));
    const int64_t pieces = (plan_.tiles + kTaskTiles - 1) / kTaskTiles;
    pool_.parallel_for(heads_ * pieces, [&](int64_t index, int lane) {
      const int64_t head = index / pieces;
      const int tile = static_cast<int>(index % pieces) * kTaskTiles;
      if (tile < tiles(head) && !is_cancelled(exec_)) kernels_.logits(task_for(head, tile, lane));
    });
    if (is_cancelled(exec_)) return;
    const int parts = plan_.statistics / kMergeRows;
    pool_.parallel_for(int64_t{heads_} * parts, [&](int64_t index, int) {
      merge(index / parts, static_cast<int>(index % parts) * kMergeRows);
    });
    pool_.parallel_for(int64_t{heads_} * plan_.tiles, [&](int64_t block, int) {
      const int64_t head = block / plan_.tiles;
      const int tile = static_cast<int>(block % plan_.tiles);
      if (tile < tiles(head) && !is_cancelled(exec_)) add_columns(head, tile);
    });
    add_entropy_and_nonfinite();
  }

 private:
  int rows() const { return params_.group * queries_; }
  int tiles(int64_t head) const { return tiles_of(params_.heads[first_head_ + head].slots); }
  int64_t block(int64_t head, int tile) const { return head * plan_.tiles + tile; }
  int64_t query_head(int64_t head, int g) const { return (first_head_ + head) * params_.group + g; }

  WindowTask task_for(int64_t head, int tile, int lane) const {
    const int64_t at = block(head, tile);
    WindowTask task;
    task.params = &params_;
    task.kv_head = first_head_ + static_cast<int>(head);
    task.source = slot_source(params_, task.kv_head);
    task.tile = tile;
    task.n_tiles = std::min(kTaskTiles, tiles(head) - tile);
    task.first_query = first_query_;
    task.n_queries = queries_;
    task.padded_rows = padded_rows(rows());
    task.logits_stride = int64_t{plan_.all_rows} * kTileSlots;
    task.statistics_stride = plan_.statistics;
    task.queries = workspace_.queries + head * plan_.all_rows * padded_dim(params_.head_dim);
    task.logits = workspace_.logits + at * plan_.all_rows * kTileSlots;
    task.block_max = workspace_.block_max + at * plan_.statistics;
    task.block_sum = workspace_.block_sum + at * plan_.statistics;
    task.nonfinite = workspace_.nonfinite + at;
    task.scratch = workspace_.scratch + lane * workspace_.scratch_floats;
    return task;
  }

  // kMergeRows rows, or what is left of them.
  void merge(int64_t head, int first_row) const {
    const int end = std::min(rows(), first_row + kMergeRows);
    const int64_t first = block(head, 0) * plan_.statistics + first_row;
    MergeRows task;
    task.block_max = workspace_.block_max + first;
    task.block_sum = workspace_.block_sum + first;
    task.blocks = tiles(head);
    task.rows = end - first_row;
    task.stride = plan_.statistics;
    task.softmax = workspace_.softmax + head * plan_.rows + first_row;
    kernels_.merge(task);
    for (int r = first_row; params_.lse != nullptr && r < end; ++r) {
      const int64_t row = query_head(head, r / queries_) * params_.queries;
      params_.lse[row + first_query_ + r % queries_] = task.softmax[r - first_row].lse;
    }
  }

  void add_columns(int64_t head, int tile) const {
    const int64_t at = block(head, tile);
    const int first_slot = tile * kTileSlots;
    ColumnTask task;
    task.rows = queries_;
    task.weights =
        params_.query_weights == nullptr ? nullptr : params_.query_weights + first_query_;
    float counts[kTileSlots];
    const bool leaves_out = params_.entropy != nullptr && params_.entropy_context != 0;
    if (leaves_out) count_context(head, tile, counts);
    task.counts = leaves_out ? counts : nullptr;
    task.count = std::min(kTileSlots, params_.heads[first_head_ + head].slots - first_slot);
    task.is_first = first_query_ == 0;
    for (int g = 0; g < params_.group; ++g) {
      const int64_t column = query_head(head, g) * params_.stride + first_slot;
      task.logits = workspace_.logits + (at * plan_.all_rows + int64_t{g} * queries_) * kTileSlots;
      task.softmax = workspace_.softmax + head * plan_.rows + int64_t{g} * queries_;
      task.sum = params_.sum == nullptr ? nullptr : params_.sum + column;
      task.sum_sq = params_.sum_sq == nullptr ? nullptr : params_.sum_sq + column;
      task.max = params_.max == nullptr ? nullptr : params_.max + column;
      task.entropy =
          params_.entropy == nullptr ? nullptr : workspace_.entropy + at * params_.group + g;
      kernels_.columns(task);
      if (first_query_ + queries_ == params_.queries) normalise(head, tile, task);
    }
  }

  // 1 for the slots before the window's first query.
  void count_context(int64_t head, int tile, float* counts) const {
    SlotTile slots;
    read_tile(slot_source(params_, first_head_ + static_cast<int>(head)), tile, &slots);
    for (int i = 0; i < kTileSlots; ++i) {
      const bool is_before = i < slots.count && slots.position[i] < params_.query_position;
      counts[i] = is_before ? 1.0f : 0.0f;
    }
  }

  void normalise(int64_t head, int tile, const ColumnTask& task) const {
    const float window = static_cast<float>(params_.queries);
    if (params_.norm == SKV_NORM_WINDOW) {
      for (int i = 0; task.sum != nullptr && i < task.count; ++i) task.sum[i] /= window;
      for (int i = 0; task.sum_sq != nullptr && i < task.count; ++i) task.sum_sq[i] /= window;
    } else if (params_.norm == SKV_NORM_CAUSAL_COUNT && task.sum != nullptr) {
      SlotTile slots;
      read_tile(slot_source(params_, first_head_ + static_cast<int>(head)), tile, &slots);
      for (int i = 0; i < task.count; ++i) {
        const int64_t seen_by =
            int64_t{params_.query_position} + params_.queries - slots.position[i];
        // A slot beyond the last query is seen by nobody: its sum is 0 and stays 0.
        task.sum[i] /= static_cast<float>(std::max<int64_t>(1, seen_by));
      }
    }
  }

  void add_entropy_and_nonfinite() const {
    for (int64_t head = 0; head < heads_; ++head) {
      for (int tile = 0; tile < tiles(head); ++tile) {
        const int64_t at = block(head, tile);
        if (params_.nonfinite != nullptr) *params_.nonfinite += workspace_.nonfinite[at];
        for (int g = 0; params_.entropy != nullptr && g < params_.group; ++g) {
          workspace_.entropy_sum[query_head(head, g)] += workspace_.entropy[at * params_.group + g];
        }
      }
    }
  }

  ThreadPool& pool_;
  const SkvExec& exec_;
  const SkvWindowScoresParams& params_;
  const Plan& plan_;
  const Workspace& workspace_;
  const WindowKernels& kernels_;
  int first_head_, first_query_, heads_, queries_;
};

}  // namespace

size_t window_scores_workspace(SkvDevice& device, const SkvWindowScoresParams& params) {
  Workspace workspace;
  const int lanes = device.pool.lanes();
  return carve(params, make_plan(params, lanes), lanes, nullptr, &workspace);
}

Status window_scores(SkvDevice& device, const SkvExec& exec, const SkvWindowScoresParams& params) {
  SKV_RETURN_IF_ERROR(check_key_positions("window_scores", params.runs, params.n_runs, params.rope,
                                          params.reindex != 0));
  const Plan plan = make_plan(params, device.pool.lanes());
  Workspace workspace;
  carve(params, plan, device.pool.lanes(), exec.workspace, &workspace);
  const int64_t query_heads = int64_t{params.kv_heads} * params.group;
  std::fill_n(workspace.entropy_sum, query_heads, 0.0);

  for (int head = 0; head < params.kv_heads; head += plan.kv_heads) {
    for (int query = 0; query < params.queries; query += plan.queries) {
      Chunk(device, exec, params, plan, workspace, head, query).run();
      if (is_cancelled(exec)) return aborted_status("window_scores");
    }
  }
  for (int64_t h = 0; params.entropy != nullptr && h < query_heads; ++h) {
    params.entropy[h] = static_cast<float>(workspace.entropy_sum[h]);
  }
  return ok_status();
}

}  // namespace spindlekv::cpu
