// attend_batch on CUDA: one launch over the splits of all items (cuda/attend/plan.h).
#include "cuda/attend/items.h"
#include "cuda/common/entries.h"

namespace spindlekv::cuda {

size_t attend_batch_workspace(SkvDevice&, const SkvAttendBatchParams& params) {
  return attend_items_workspace(params.items, params.n_items);
}

Status attend_batch(SkvDevice& device, const SkvExec& exec, const SkvAttendBatchParams& params) {
  return attend_items(device, exec, params.items, params.n_items);
}

}  // namespace spindlekv::cuda
