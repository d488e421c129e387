// The entry of every op on the CPU: Status x(device, exec, params) does it, x_workspace(device,
// params) says how many bytes of exec.workspace it needs. Parameters have passed core/check.h
// before either runs.
#pragma once

#include <cstddef>

#include "core/ops.h"
#include "core/status.h"
#include "cpu/device.h"

namespace spindlekv::cpu {

#define SKV_CPU_ENTRY(name, Stem)                                                       \
  Status name(SkvDevice& device, const SkvExec& exec, const Skv##Stem##Params& params); \
  size_t name##_workspace(SkvDevice& device, const Skv##Stem##Params& params);
SKV_OPS(SKV_CPU_ENTRY)
#undef SKV_CPU_ENTRY

}  // namespace spindlekv::cpu
