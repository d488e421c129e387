// key_stats on CUDA: kernels by dtype, and the workspace.
#include "cuda/key_stats/key_stats.cuh"

#include "cuda/common/entries.h"
#include "cuda/common/workspace.h"

#include <algorithm>

namespace spindlekv::cuda {
namespace {

struct KeyStatsEntry {
  int32_t dtype;
  Status (*launch)(const KeyStatsArgs&, cudaStream_t);
};

constexpr KeyStatsEntry kKeyStatsTable[] = {
    {SKV_F32, launch_key_stats<float>},
    {SKV_F16, launch_key_stats<f16>},
    {SKV_BF16, launch_key_stats<bf16>},
};

size_t plan(const SkvKeyStatsParams& p, void* workspace, KeyStatsArgs* args, SkvRun** runs,
            SkvHead** heads) {
  int32_t most = 0;
  for (int32_t head = 0; head < p.kv_heads; ++head) most = std::max(most, p.heads[head].slots);
  args->op = p;
  args->max_blocks = static_cast<int32_t>(ceil_div(most, KeyStatsTraits::kSlots));
  WorkspaceLayout layout(workspace);
  *runs = layout.take<SkvRun>(p.n_runs);
  *heads = layout.take<SkvHead>(p.kv_heads);
  args->op.runs = *runs;
  args->op.heads = *heads;
  if (p.cos_to_mean == nullptr) return layout.bytes();
  const int64_t blocks = static_cast<int64_t>(p.kv_heads) * args->max_blocks;
  args->norms = layout.take<float>(blocks * KeyStatsTraits::kSlots);
  args->directions = layout.take<float>(blocks * p.head_dim);
  args->means = layout.take<float>(static_cast<int64_t>(p.kv_heads) * p.head_dim);
  args->mean_norms = layout.take<float>(p.kv_heads);
  return layout.bytes();
}

}  // namespace

size_t key_stats_workspace(SkvDevice&, const SkvKeyStatsParams& p) {
  KeyStatsArgs args{};
  SkvRun* runs = nullptr;
  SkvHead* heads = nullptr;
  return plan(p, nullptr, &args, &runs, &heads);
}

Status key_stats(SkvDevice&, const SkvExec& exec, const SkvKeyStatsParams& p) {
  const auto* entry = std::find_if(std::begin(kKeyStatsTable), std::end(kKeyStatsTable),
                                   [&](const KeyStatsEntry& e) { return e.dtype == p.dtype; });
  if (entry == std::end(kKeyStatsTable)) {
    return error_status(SKV_UNSUPPORTED, "key_stats", "expected f32, f16 or bf16 for dtype, got %d",
                        p.dtype);
  }
  KeyStatsArgs args{};
  SkvRun* runs = nullptr;
  SkvHead* heads = nullptr;
  plan(p, exec.workspace, &args, &runs, &heads);
  const cudaStream_t stream = stream_of(exec);
  SKV_RETURN_IF_ERROR(copy_to_device("key_stats", stream, runs, p.runs,
                                     sizeof(SkvRun) * static_cast<size_t>(p.n_runs)));
  SKV_RETURN_IF_ERROR(copy_to_device("key_stats", stream, heads, p.heads,
                                     sizeof(SkvHead) * static_cast<size_t>(p.kv_heads)));
  return entry->launch(args, stream);
}

}  // namespace spindlekv::cuda
