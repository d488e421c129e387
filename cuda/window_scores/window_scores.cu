// window_scores on CUDA: kernels by dtype, the workspace, and the order of the passes.
#include "cuda/window_scores/window_scores.cuh"

#include "cuda/common/entries.h"
#include "cuda/common/workspace.h"

#include <algorithm>

namespace spindlekv::cuda {
namespace {

struct WindowEntry {
  int32_t dtype;
  Status (*rows)(const WindowArgs&, cudaStream_t);
  Status (*columns)(const WindowArgs&, cudaStream_t);
};

template <typename Elem>
constexpr WindowEntry entry() {
  return {kDTypeOf<Elem>, launch_window_rows<Elem>, launch_window_columns<Elem>};
}

constexpr WindowEntry kWindowTable[] = {entry<float>(), entry<f16>(), entry<bf16>()};

const WindowEntry* find_entry(int32_t dtype) {
  for (const WindowEntry& candidate : kWindowTable) {
    if (candidate.dtype == dtype) return &candidate;
  }
  return nullptr;
}

int64_t most_slots(const SkvWindowScoresParams& p) {
  int32_t most = 0;
  for (int32_t head = 0; head < p.kv_heads; ++head) most = std::max(most, p.heads[head].slots);
  return most;
}

// Lays out the workspace; returns the queries of a chunk through args->chunk_queries.
size_t plan(const SkvWindowScoresParams& p, void* workspace, WindowArgs* args, SkvRun** runs,
            SkvHead** heads) {
  const int64_t query_heads = static_cast<int64_t>(p.kv_heads) * p.group;
  args->op = p;
  args->max_blocks = static_cast<int32_t>(ceil_div(most_slots(p), WindowTraits::kSlots));
  const int64_t bytes_a_query =
      query_heads * std::max(args->max_blocks, 1) * static_cast<int64_t>(sizeof(float2));
  const int64_t most_queries = kMaxGridYz * WindowTraits::kRows / p.group;
  const int64_t fitting =
      std::clamp(kWindowWorkspaceTarget / bytes_a_query, int64_t{1}, most_queries);
  args->chunk_queries = static_cast<int32_t>(std::min<int64_t>(p.queries, fitting));

  WorkspaceLayout layout(workspace);
  *runs = layout.take<SkvRun>(p.n_runs);
  *heads = layout.take<SkvHead>(p.kv_heads);
  args->block_stats = layout.take<float2>(query_heads * args->chunk_queries * args->max_blocks);
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
  const WindowEntry* entry = find_entry(p.dtype);
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

  const int32_t chunk = args.chunk_queries;
  for (int32_t first = 0; first < p.queries; first += chunk) {
    args.first_query = first;
    args.chunk_queries = std::min(chunk, p.queries - first);
    SKV_RETURN_IF_ERROR(entry->rows(args, stream));
    SKV_RETURN_IF_ERROR(launch_window_merge(args, stream));
  }
  if (p.sum != nullptr || p.sum_sq != nullptr || p.max != nullptr || p.entropy != nullptr) {
    SKV_RETURN_IF_ERROR(entry->columns(args, stream));
  }
  if (p.entropy != nullptr) SKV_RETURN_IF_ERROR(launch_window_entropy(args, stream));
  return ok_status();
}

}  // namespace spindlekv::cuda
