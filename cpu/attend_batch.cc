// attend_batch on the CPU: the items one after the other.
#include <algorithm>

#include "cpu/entries.h"

namespace spindlekv::cpu {

size_t attend_batch_workspace(SkvDevice& device, const SkvAttendBatchParams& params) {
  size_t bytes = 0;
  for (int32_t i = 0; i < params.n_items; ++i) {
    bytes = std::max(bytes, attend_workspace(device, params.items[i]));
  }
  return bytes;
}

Status attend_batch(SkvDevice& device, const SkvExec& exec, const SkvAttendBatchParams& params) {
  for (int32_t i = 0; i < params.n_items; ++i) {
    SKV_RETURN_IF_ERROR(attend(device, exec, params.items[i]));
  }
  return ok_status();
}

}  // namespace spindlekv::cpu
