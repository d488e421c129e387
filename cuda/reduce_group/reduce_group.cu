// reduce_group on CUDA: one launch, no workspace.
#include "cuda/reduce_group/reduce_group.cuh"

#include "cuda/common/entries.h"

namespace spindlekv::cuda {

size_t reduce_group_workspace(SkvDevice&, const SkvReduceGroupParams&) { return 0; }

Status reduce_group(SkvDevice&, const SkvExec& exec, const SkvReduceGroupParams& p) {
  return launch_reduce_group(p, stream_of(exec));
}

}  // namespace spindlekv::cuda
