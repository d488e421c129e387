// Device memory of one open device: the only place that allocates it, so that everything is counted
// and an allocation failure can be injected at any point.
//
// A DeviceMemory owns its SkvDevice: the device closes when the last shared_ptr to it is gone,
// which is when the last block, page and handle are. All members may be called from any thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/backend.h"
#include "core/status.h"

namespace spindlekv {

class DeviceMemory {
 public:
  struct Usage {
    int64_t count;  // live allocations
    int64_t bytes;  // as asked for, without the backend's own rounding
  };

  // Opens device `ordinal` of a backend; threads as in SkvBackend::open.
  static Status open(const SkvBackend* backend, int32_t ordinal, int32_t threads,
                     std::shared_ptr<DeviceMemory>* memory);

  // Takes over an open device.
  DeviceMemory(const SkvBackend* backend, SkvDevice* device);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  const SkvBackend* backend() const { return backend_; }
  SkvDevice* device() const { return device_; }

  // bytes = 0 gives NULL, is not counted and cannot fail. `op` names the caller in the error.
  Status allocate(size_t bytes, void** block, const char* op = "allocate");
  // Gives back what allocate returned; `bytes` as it was asked for. NULL is ignored.
  void release(void* block, size_t bytes);

  // The n-th allocation from now (1: the next) fails once with SKV_OUT_OF_MEMORY; 0 switches it
  // off.
  void fail_allocation(int64_t n);
  Usage usage() const;

 private:
  const SkvBackend* backend_;
  SkvDevice* device_;
  std::atomic<int64_t> live_count_{0};
  std::atomic<int64_t> live_bytes_{0};
  std::atomic<int64_t> until_failure_{0};  // 0: no failure asked for
};

// One allocation that frees itself and keeps its device open.
class MemoryBlock {
 public:
  MemoryBlock() = default;
  ~MemoryBlock() { reset(); }
  MemoryBlock(MemoryBlock&& other) noexcept { *this = static_cast<MemoryBlock&&>(other); }
  MemoryBlock& operator=(MemoryBlock&& other) noexcept;
  MemoryBlock(const MemoryBlock&) = delete;
  MemoryBlock& operator=(const MemoryBlock&) = delete;

  // Replaces `block` on success only.
  static Status allocate(const std::shared_ptr<DeviceMemory>& memory, size_t bytes,
                         MemoryBlock* block, const char* op = "allocate");
  void reset();

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  const std::shared_ptr<DeviceMemory>& memory() const { return memory_; }

 private:
  std::shared_ptr<DeviceMemory> memory_;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace spindlekv
