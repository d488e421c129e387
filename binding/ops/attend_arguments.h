// The params of one attention in JavaScript's form -> SkvAttendParams: attend has one, attend_batch
// a list.
#pragma once

#include "binding/args.h"
#include "binding/ops/runs.h"
#include "core/ops.h"

namespace spindlekv {

struct AttendArguments {
  SkvAttendParams params{};
  HeadLists lists;  // params points into them, so that the struct may move but not be copied

  AttendArguments() = default;
  AttendArguments(AttendArguments&&) = default;
  AttendArguments(const AttendArguments&) = delete;

  // Without a run there is no dtype of K and V; params.dtype is then that of q.
  void read(const ObjectReader& reader);
};

}  // namespace spindlekv
