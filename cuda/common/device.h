// An open CUDA device, as the ops see it.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/backend.h"
#include "core/status.h"
#include "cuda/common/staging.h"

struct SkvDevice {
  int32_t ordinal = 0;
  int32_t sm_count = 0;
  int32_t compute_capability = 0;  // 10 * major + minor: 80, 86, 90 ...
  size_t shared_bytes_optin = 0;   // most dynamic shared memory that a block may ask for
  std::shared_ptr<spindlekv::cuda::Staging> staging = std::make_shared<spindlekv::cuda::Staging>();
};

namespace spindlekv::cuda {

inline constexpr size_t kAllocationAlignment = 256;  // of cudaMalloc and of workspaces

inline cudaStream_t stream_of(const SkvExec& exec) {
  return static_cast<cudaStream_t>(exec.stream);
}

// True when the host asked a long op to stop.
inline bool is_cancelled(const SkvExec& exec) {
  return exec.cancel != nullptr && *exec.cancel != 0;
}

inline Status aborted_status(const char* op) {
  return error_status(SKV_ABORTED, op, "stopped by its caller");
}

// Enqueues a copy to device memory; `source` may be reused as soon as this returns.
Status copy_to_device(const char* op, cudaStream_t stream, void* target, const void* source,
                      size_t bytes);

// Enqueues a copy to host memory; `target` is filled once the stream was waited for.
Status copy_to_host(const char* op, cudaStream_t stream, void* target, const void* source,
                    size_t bytes);

// Enqueues filling `bytes` bytes with `byte_value`.
Status fill_device(const char* op, cudaStream_t stream, void* target, int byte_value, size_t bytes);

}  // namespace spindlekv::cuda
