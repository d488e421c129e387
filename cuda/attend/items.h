// attend over several items at once; the ops attend and attend_batch are this.
#pragma once

#include "core/ops.h"
#include "core/status.h"
#include "cuda/common/device.h"

namespace spindlekv::cuda {

size_t attend_items_workspace(const SkvAttendParams* items, int32_t n_items);
Status attend_items(SkvDevice& device, const SkvExec& exec, const SkvAttendParams* items,
                    int32_t n_items);

}  // namespace spindlekv::cuda
