// What attend (a batch of one) and attend_batch have in common.
#pragma once

#include <cstddef>

#include "core/ops.h"
#include "core/status.h"
#include "cpu/device.h"

namespace spindlekv::cpu {

size_t attend_items_workspace(SkvDevice& device, const SkvAttendParams* items, int n_items);

// The positions of keys that turn have been checked.
Status attend_items(SkvDevice& device, const SkvExec& exec, const char* op,
                    const SkvAttendParams* items, int n_items);

}  // namespace spindlekv::cpu
