// Launching a kernel on the SIMT test backend; used by cuda/common/launch.h.
#pragma once

#include <cuda_runtime_api.h>

#include "test/simt/block.h"

namespace spindlekv::simt {

struct LaunchFailure {
  cudaError_t code = cudaSuccess;
  const char* message = nullptr;  // thread-local storage, valid until the next launch
};

// Checks the shape, runs `kernel` and keeps the message of a failure.
LaunchFailure launch_checked(const LaunchShape& shape, cudaStream_t stream,
                             const std::function<void()>& kernel);

template <auto kKernel, typename Params>
LaunchFailure launch_kernel(const char* op, dim3 grid, dim3 block, size_t dynamic_shared_bytes,
                            cudaStream_t stream, const Params& params) {
  return launch_checked(LaunchShape{op, grid, block, dynamic_shared_bytes}, stream,
                        [params] { kKernel(params); });
}

}  // namespace spindlekv::simt
