// pool_scores on CUDA: the lengths of the rows go to the workspace, then one launch.
#include "cuda/pool_scores/pool_scores.cuh"

#include "cuda/common/entries.h"
#include "cuda/common/workspace.h"

#include <algorithm>

namespace spindlekv::cuda {
namespace {

int32_t* lay_out(WorkspaceLayout& layout, const SkvPoolScoresParams& p) {
  return layout.take<int32_t>(p.rows);
}

}  // namespace

size_t pool_scores_workspace(SkvDevice&, const SkvPoolScoresParams& p) {
  WorkspaceLayout layout;
  lay_out(layout, p);
  return layout.bytes();
}

Status pool_scores(SkvDevice&, const SkvExec& exec, const SkvPoolScoresParams& p) {
  WorkspaceLayout layout(exec.workspace);
  int32_t* const lengths = lay_out(layout, p);
  int32_t longest = 0;
  for (int32_t row = 0; row < p.rows; ++row) longest = std::max(longest, p.lengths[row]);
  const cudaStream_t stream = stream_of(exec);
  SKV_RETURN_IF_ERROR(copy_to_device("pool_scores", stream, lengths, p.lengths,
                                     sizeof(int32_t) * static_cast<size_t>(p.rows)));
  PoolArgs args{p, ceil_div(longest, PoolTraits::kThreads)};
  args.op.lengths = lengths;
  return launch_pool_scores(args, stream);
}

}  // namespace spindlekv::cuda
