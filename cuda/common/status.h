// From CUDA runtime errors to Status.
//
// A sticky error (illegal address and its kin) leaves the whole context unusable. The first call
// that meets it returns SKV_CUDA; every later one returns SKV_DEVICE_LOST naming that first op.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/status.h"

namespace spindlekv::cuda {

// OK for cudaSuccess. `what` says what was being done, or is null.
Status status_from_cuda(const char* op, cudaError_t error, const char* what = nullptr);

// True when `error` makes every later call on the device fail.
bool is_sticky(cudaError_t error);

// Fails with SKV_DEVICE_LOST once the current device has met a sticky error.
Status check_device_alive(const char* op);

// Fails unless the grid is non-negative and within the hardware's limits, and the block as well.
Status check_launch_shape(const char* op, int64_t grid_x, int64_t grid_y, int64_t grid_z,
                          dim3 block);

// With SPINDLEKV_DEBUG_SYNC=1 waits for the stream, so that an error is named after its own op.
Status after_launch(const char* op, cudaStream_t stream);

}  // namespace spindlekv::cuda
