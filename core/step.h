// Appending to and attending over layers: one layer, all layers of a cache, or the layers of many
// caches, in one go. All appends are one append_kv where they agree in dtypes and rotation, all
// attentions one attend_batch, so that a prefix kept through fork() is read once for its sharers.
//
// Every call changes all of its layers or none: what fails is undone. Nothing waits for the device
// unless an every-step policy rewrites segments or a table of angles grows. The vectors stay for
// the next call: a step that needs no new page allocates nothing.
//
// Not thread-safe; the stores are the caller's alone while a call runs.
#pragma once

#include <cstdint>
#include <vector>

#include "core/store.h"

namespace spindlekv {

// A layer's part of a step.
struct StepItem {
  Store* store = nullptr;
  int32_t layer = 0;
  bool appends = false;
  bool attends = false;
  RowView k;  // [kv_heads, tokens, D]
  RowView v;
  int32_t tokens = 0;     // of k and v
  AttendRequest request;  // its queries are those of the last tokens, the appended ones included
};

class Step {
 public:
  // `op` names the call in errors. `has_list`: parameters are called items[i].<param>.
  // Same as for each item append, then attend; a layer of a store may come once. Attending items
  // agree in dtype, q_dtype, head_dim and group.
  Status run(OpRunner& run, const char* op, bool has_list, std::vector<StepItem>& items);

 private:
  Status claim(std::vector<StepItem>& items);
  static Status check_alike(const StepItem& item, const StepItem& first);
  Status run_all(OpRunner& run, std::vector<StepItem>& items);
  Status append(OpRunner& run, std::vector<StepItem>& items);
  Status flush(OpRunner& run);
  void release(std::vector<StepItem>& items, bool is_failed);

  size_t at_ = 0;       // the item that is being worked on
  size_t claimed_ = 0;  // items whose layers are taken
  std::vector<SkvAppendItem> rows_;
  SkvAppendKvParams append_params_{};  // of rows_
  std::vector<SkvAttendParams> attends_;
  std::vector<Store::RecordPlan> records_;
};

}  // namespace spindlekv
