// The entry of every op on CUDA: Status x(device, exec, params) enqueues it, x_workspace(device,
// params) says how many bytes of exec.workspace it needs. Both are defined in cuda/x/x.cu.
// Parameters have passed core/check.h before either runs, the workspace is large enough and
// aligned, and the device is current.
#pragma once

#include <cstddef>

#include "core/ops.h"
#include "core/status.h"
#include "cuda/common/device.h"

namespace spindlekv::cuda {

#define SKV_CUDA_ENTRY(name, Stem)                                                      \
  Status name(SkvDevice& device, const SkvExec& exec, const Skv##Stem##Params& params); \
  size_t name##_workspace(SkvDevice& device, const Skv##Stem##Params& params);
SKV_OPS(SKV_CUDA_ENTRY)
#undef SKV_CUDA_ENTRY

}  // namespace spindlekv::cuda
