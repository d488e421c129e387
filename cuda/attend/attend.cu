// attend on CUDA: which kernel runs for which dtype and head dim, and the workspace. The queries
// are taken in chunks, so that the workspace does not grow with a long prefill.
#include "cuda/attend/attend.cuh"

#include "cuda/attend/merge.cuh"
#include "cuda/common/entries.h"
#include "cuda/common/workspace.h"

#include <algorithm>

namespace spindlekv::cuda {
namespace {

struct AttendEntry {
  int32_t dtype;
  int32_t max_head_dim;
  Status (*launch)(const AttendArgs&, cudaStream_t);
};

template <typename Elem, int kLanes, int kVecs>
constexpr AttendEntry entry() {
  using Traits = AttendTraits<Elem, kLanes, kVecs>;
  return {kDTypeOf<Elem>, Traits::kMaxDim, launch_attend_split<Traits>};
}

// Smallest head dim first within a dtype.
constexpr AttendEntry kAttendTable[] = {
    entry<float, 8, 1>(), entry<float, 16, 1>(), entry<float, 32, 1>(), entry<float, 32, 2>(),
    entry<f16, 8, 1>(),   entry<f16, 16, 1>(),   entry<f16, 32, 1>(),   entry<f16, 32, 2>(),
    entry<bf16, 8, 1>(),  entry<bf16, 16, 1>(),  entry<bf16, 32, 1>(),  entry<bf16, 32, 2>(),
};

const AttendEntry* find_entry(int32_t dtype, int32_t head_dim) {
  for (const AttendEntry& candidate : kAttendTable) {
    if (candidate.dtype == dtype && head_dim <= candidate.max_head_dim) return &candidate;
  }
  return nullptr;
}

int64_t most_slots(const SkvAttendParams& p) {
  int32_t most = 0;
  for (int32_t head = 0; head < p.kv_heads; ++head) most = std::max(most, p.heads[head].slots);
  return most;
}

// Lays out the workspace; returns the queries of a chunk through args->chunk_queries.
size_t plan(const SkvAttendParams& p, void* workspace, AttendArgs* args, SkvRun** runs,
            SkvHead** heads) {
  const int64_t slots = most_slots(p);
  const bool needs_logits = p.score_mode != SKV_SCORE_NONE && slots > 0;
  const int64_t query_heads = static_cast<int64_t>(p.kv_heads) * p.group;
  args->op = p;
  args->block_queries = kBlockRows / p.group;
  args->max_splits = static_cast<int32_t>(ceil_div(slots, kSplitSlots));
  args->logit_stride = ceil_div(slots, 32) * 32;
  const int64_t floats_a_row =
      args->max_splits * (int64_t{p.head_dim} + 2) + (needs_logits ? args->logit_stride : 0) + 2;
  const int64_t fitting = kAttendWorkspaceTarget / (4 * query_heads * floats_a_row);
  const int64_t blocks = std::clamp(fitting / args->block_queries, int64_t{1}, kMaxGridYz);
  args->chunk_queries =
      static_cast<int32_t>(std::min<int64_t>(p.queries, blocks * args->block_queries));

  const int64_t rows = query_heads * args->chunk_queries;
  WorkspaceLayout layout(workspace);
  *runs = layout.take<SkvRun>(p.n_runs);
  *heads = layout.take<SkvHead>(p.kv_heads);
  args->partial_acc = layout.take<float>(rows * args->max_splits * p.head_dim);
  args->partial_stats = layout.take<float2>(rows * args->max_splits);
  args->row_stats = layout.take<float2>(rows);
  args->logits = needs_logits ? layout.take<float>(rows * args->logit_stride) : nullptr;
  args->op.runs = *runs;
  args->op.heads = *heads;
  return layout.bytes();
}

}  // namespace

size_t attend_workspace(SkvDevice&, const SkvAttendParams& p) {
  if (p.queries == 0) return 0;
  AttendArgs args{};
  SkvRun* runs = nullptr;
  SkvHead* heads = nullptr;
  return plan(p, nullptr, &args, &runs, &heads);
}

Status attend(SkvDevice&, const SkvExec& exec, const SkvAttendParams& p) {
  if (p.queries == 0) return ok_status();
  const AttendEntry* entry = find_entry(p.dtype, p.head_dim);
  if (entry == nullptr) {
    return error_status(SKV_UNSUPPORTED, "attend",
                        "expected f32, f16 or bf16 and head_dim <= 512, got dtype %d, head_dim %d",
                        p.dtype, p.head_dim);
  }
  AttendArgs args{};
  SkvRun* runs = nullptr;
  SkvHead* heads = nullptr;
  plan(p, exec.workspace, &args, &runs, &heads);
  const cudaStream_t stream = stream_of(exec);
  SKV_RETURN_IF_ERROR(copy_to_device("attend", stream, runs, p.runs,
                                     sizeof(SkvRun) * static_cast<size_t>(p.n_runs)));
  SKV_RETURN_IF_ERROR(copy_to_device("attend", stream, heads, p.heads,
                                     sizeof(SkvHead) * static_cast<size_t>(p.kv_heads)));

  const int32_t chunk = args.chunk_queries;
  for (int32_t first = 0; first < p.queries; first += args.chunk_queries) {
    args.first_query = first;
    args.chunk_queries = std::min(chunk, p.queries - first);
    SKV_RETURN_IF_ERROR(entry->launch(args, stream));
    SKV_RETURN_IF_ERROR(launch_attend_merge(args, stream));
    if (args.logits != nullptr) {
      SKV_RETURN_IF_ERROR(launch_attend_score(args, most_slots(p), stream));
    }
  }
  return ok_status();
}

}  // namespace spindlekv::cuda
