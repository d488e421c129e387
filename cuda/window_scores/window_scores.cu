// window_scores on CUDA: kernels by dtype, the workspace, and the order of the passes.
#include "cuda/window_scores/window_scores.cuh"

#include "cuda/common/entries.h"
#include "cuda/common/workspace.h"
#include "cuda/window_scores/queries.cuh"

#include <algorithm>

namespace spindlekv::cuda {
namespace {

// Rows of a thread: many for many rows of a KV head, few where a large tile would stand empty.
constexpr int kManyOwnRows = 8;
constexpr int kFewOwnRows = 2;
constexpr int kManyRows = 65;

struct WindowEntry {
  int32_t dtype;
  bool has_many_rows;
  Status (*queries)(const WindowArgs&, cudaStream_t);
  Status (*rows)(const WindowArgs&, cudaStream_t);
  Status (*columns)(const WindowArgs&, cudaStream_t);
};

template <typename Elem, int kOwnRows>
constexpr WindowEntry entry() {
  return {kDTypeOf<Elem>, kOwnRows == kManyOwnRows, launch_window_queries<kOwnRows>,
          launch_window_rows<Elem, kOwnRows>, launch_window_columns<Elem, kOwnRows>};
}

constexpr WindowEntry kWindowTable[] = {
    entry<float, kManyOwnRows>(), entry<float, kFewOwnRows>(), entry<f16, kManyOwnRows>(),
    entry<f16, kFewOwnRows>(),    entry<bf16, kManyOwnRows>(), entry<bf16, kFewOwnRows>(),
};

// Rows of a KV head.
int64_t rows_of(const SkvWindowScoresParams& p) {
  return static_cast<int64_t>(p.group) * p.queries;
}

const WindowEntry* find_entry(const SkvWindowScoresParams& p) {
  for (const WindowEntry& candidate : kWindowTable) {
    if (candidate.dtype == p.dtype && candidate.has_many_rows == (rows_of(p) >= kManyRows)) {
      return &candidate;
    }
  }
  return nullptr;
}

int64_t most_slots(const SkvWindowScoresParams& p) {
  int32_t most = 0;
  for (int32_t head = 0; head < p.kv_heads; ++head) most = std::max(most, p.heads[head].slots);
  return most;
}

// Lays out the workspace; returns the heads and rows of a chunk through args.
size_t plan(const SkvWindowScoresParams& p, void* workspace, WindowArgs* args, SkvRun** runs,
            SkvHead** heads) {
  const int64_t query_heads = static_cast<int64_t>(p.kv_heads) * p.group;
  const int64_t rows = rows_of(p);
  const int64_t tile_rows =
      rows >= kManyRows ? WindowTraits<kManyOwnRows>::kRows : WindowTraits<kFewOwnRows>::kRows;
  args->op = p;
  args->max_blocks = static_cast<int32_t>(ceil_div(most_slots(p), kWindowSlots));
  args->row_tiles = static_cast<int32_t>(ceil_div(rows, tile_rows));
  const int64_t floats_a_head = args->row_tiles * tile_rows * p.head_dim;
  const int64_t bytes_a_head = floats_a_head * static_cast<int64_t>(sizeof(float));
  const int64_t fitting_heads = std::max(kWindowWorkspaceTarget / bytes_a_head, int64_t{1});
  const int64_t chunk_heads = std::min<int64_t>(p.kv_heads, fitting_heads);
  const int64_t bytes_a_tile = chunk_heads * tile_rows * std::max(args->max_blocks, 1) *
                               static_cast<int64_t>(sizeof(float2));
  const int64_t fitting_tiles =
      std::clamp(kWindowWorkspaceTarget / bytes_a_tile, int64_t{1}, kMaxGridYz);
  args->chunk_heads = static_cast<int32_t>(chunk_heads);
  args->chunk_rows = static_cast<int32_t>(std::min(rows, fitting_tiles * tile_rows));

  WorkspaceLayout layout(workspace);
  *runs = layout.take<SkvRun>(p.n_runs);
  *heads = layout.take<SkvHead>(p.kv_heads);
  args->turned_queries = layout.take<float>(chunk_heads * floats_a_head);
  args->block_stats = layout.take<float2>(chunk_heads * args->chunk_rows * args->max_blocks);
  args->row_stats = layout.take<float2>(query_heads * p.queries);
  args->entropy_parts =
      p.entropy == nullptr ? nullptr : layout.take<float>(query_heads * args->max_blocks);
  args->op.runs = *runs;
  args->op.heads = *heads;
  return layout.bytes();
}

}  // namespace

size_t window_scores_workspace(SkvDevice&, const SkvWindowScoresParams& p) {
  WindowArgs args{};
  SkvRun* runs = nullptr;
  SkvHead* heads = nullptr;
  return plan(p, nullptr, &args, &runs, &heads);
}

Status window_scores(SkvDevice&, const SkvExec& exec, const SkvWindowScoresParams& p) {
  const WindowEntry* entry = find_entry(p);
  if (entry == nullptr) {
    return error_status(SKV_UNSUPPORTED, "window_scores",
                        "expected f32, f16 or bf16 for dtype, got %d", p.dtype);
  }
  WindowArgs args{};
  SkvRun* runs = nullptr;
  SkvHead* heads = nullptr;
  plan(p, exec.workspace, &args, &runs, &heads);
  const cudaStream_t stream = stream_of(exec);
  SKV_RETURN_IF_ERROR(copy_to_device("window_scores", stream, runs, p.runs,
                                     sizeof(SkvRun) * static_cast<size_t>(p.n_runs)));
  SKV_RETURN_IF_ERROR(copy_to_device("window_scores", stream, heads, p.heads,
                                     sizeof(SkvHead) * static_cast<size_t>(p.kv_heads)));

  const bool has_columns =
      p.sum != nullptr || p.sum_sq != nullptr || p.max != nullptr || p.entropy != nullptr;
  const int32_t most_heads = args.chunk_heads;
  const int32_t most_rows = args.chunk_rows;
  const auto rows = static_cast<int32_t>(rows_of(p));
  for (int32_t head = 0; head < p.kv_heads; head += most_heads) {
    args.first_head = head;
    args.chunk_heads = std::min(most_heads, p.kv_heads - head);
    SKV_RETURN_IF_ERROR(entry->queries(args, stream));
    for (int32_t row = 0; row < rows; row += most_rows) {
      args.first_row = row;
      args.chunk_rows = std::min(most_rows, rows - row);
      SKV_RETURN_IF_ERROR(entry->rows(args, stream));
      SKV_RETURN_IF_ERROR(launch_window_merge(args, stream));
    }
    if (has_columns) SKV_RETURN_IF_ERROR(entry->columns(args, stream));
  }
  if (p.entropy != nullptr) SKV_RETURN_IF_ERROR(launch_window_entropy(args, stream));
  return ok_status();
}

}  // namespace spindlekv::cuda
