// compact on CUDA: the items go to the workspace, each with its first block, then one launch.
#include "cuda/compact/compact.cuh"

#include "cuda/common/entries.h"
#include "cuda/common/workspace.h"

#include <vector>

namespace spindlekv::cuda {
namespace {

CompactWork* lay_out(WorkspaceLayout& layout, const SkvCompactParams& p) {
  return layout.take<CompactWork>(p.n_items);
}

}  // namespace

size_t compact_workspace(SkvDevice&, const SkvCompactParams& p) {
  WorkspaceLayout layout;
  lay_out(layout, p);
  return layout.bytes();
}

Status compact(SkvDevice&, const SkvExec& exec, const SkvCompactParams& p) {
  std::vector<CompactWork> works;
  works.reserve(static_cast<size_t>(p.n_items));
  int64_t blocks = 0;
  for (int32_t i = 0; i < p.n_items; ++i) {
    if (p.items[i].count == 0) continue;
    works.push_back({p.items[i], blocks});
    blocks += ceil_div(p.items[i].count, CompactTraits::kSlots);
  }
  WorkspaceLayout layout(exec.workspace);
  CompactWork* const table = lay_out(layout, p);
  const cudaStream_t stream = stream_of(exec);
  SKV_RETURN_IF_ERROR(
      copy_to_device("compact", stream, table, works.data(), sizeof(CompactWork) * works.size()));
  const int32_t element_bytes = p.dtype == SKV_F32 ? 4 : 2;
  const CompactArgs args{table, static_cast<int32_t>(works.size()), element_bytes,
                         p.head_dim * element_bytes / 16};
  return launch_compact(args, blocks, stream);
}

}  // namespace spindlekv::cuda
