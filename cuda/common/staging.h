// Page-locked host memory through which an op's tables go to the device: one asynchronous copy a
// call, without waiting for the stream. A ring of areas, each free again once its copy has passed.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstddef>
#include <mutex>

#include "core/status.h"

namespace spindlekv::cuda {

class Staging {
 public:
  Staging() = default;
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // Enqueues a copy of `bytes` bytes to device memory; `source` may be reused when this returns.
  // Waits only when all areas are still on their way. Any thread may call.
  Status upload(const char* op, cudaStream_t stream, void* target, const void* source,
                size_t bytes);

 private:
  struct Area {
    void* memory = nullptr;
    size_t capacity = 0;
    cudaEvent_t passed = nullptr;
  };
  static constexpr size_t kAreas = 8;
  static constexpr size_t kLeastBytes = size_t{64} << 10;

  static Status make_room(const char* op, Area& area, size_t bytes);

  std::mutex mutex_;
  std::array<Area, kAreas> areas_;
  size_t next_ = 0;
};

}  // namespace spindlekv::cuda
