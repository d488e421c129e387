// attend_batch on the CPU: the pieces of all items in one plan (cpu/attend.cc).
#include <cstdio>

#include "cpu/attend.h"
#include "cpu/entries.h"
#include "cpu/slot_tile.h"

namespace spindlekv::cpu {

size_t attend_batch_workspace(SkvDevice& device, const SkvAttendBatchParams& params) {
  return params.n_items == 0 ? 0 : attend_items_workspace(device, params.items, params.n_items);
}

Status attend_batch(SkvDevice& device, const SkvExec& exec, const SkvAttendBatchParams& params) {
  if (params.n_items == 0) return ok_status();
  for (int32_t i = 0; i < params.n_items; ++i) {
    const SkvAttendParams& item = params.items[i];
    if (item.queries == 0 || item.rope.cos_sin == nullptr) continue;
    char place[24];
    std::snprintf(place, sizeof(place), "items[%d].", i);
    SKV_RETURN_IF_ERROR(check_key_positions("attend_batch", item.runs, item.n_runs, item.rope,
                                            item.reindex != 0, place));
  }
  return attend_items(device, exec, "attend_batch", params.items, params.n_items);
}

}  // namespace spindlekv::cpu
