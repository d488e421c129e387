#include "core/memory.h"

#include <new>
#include <utility>

namespace spindlekv {

Status DeviceMemory::open(const SkvBackend* backend, int32_t ordinal, int32_t threads,
                          std::shared_ptr<DeviceMemory>* memory) {
  SkvDevice* device = nullptr;
  SKV_RETURN_IF_ERROR(backend->open(ordinal, threads, &device));
  DeviceMemory* owner = new (std::nothrow) DeviceMemory(backend, device);
  if (owner == nullptr) {
    backend->close(device);
    return error_status(SKV_OUT_OF_MEMORY, "open_device",
                        "expected host memory for the device handle, got none");
  }
  memory->reset(owner);
  return ok_status();
}

DeviceMemory::DeviceMemory(const SkvBackend* backend, SkvDevice* device)
    : backend_(backend), device_(device) {}

DeviceMemory::~DeviceMemory() { backend_->close(device_); }

Status DeviceMemory::allocate(size_t bytes, void** block, const char* op) {
  *block = nullptr;
  if (bytes == 0) return ok_status();
  // Counts down to the allocation that is to fail; several threads may race for it, one gets it.
  int64_t left = until_failure_.load();
  while (left > 0 && !until_failure_.compare_exchange_weak(left, left - 1)) {
  }
  if (left == 1) {
    return error_status(
        SKV_OUT_OF_MEMORY, op,
        "expected %zu bytes of device memory for allocation, got an injected failure", bytes);
  }
  Status status = backend_->allocate(device_, bytes, block);
  if (!is_ok(status)) {
    status.op = op;
    return status;
  }
  live_count_.fetch_add(1);
  live_bytes_.fetch_add(static_cast<int64_t>(bytes));
  return ok_status();
}

void DeviceMemory::release(void* block, size_t bytes) {
  if (block == nullptr) return;
  backend_->release(device_, block);
  live_count_.fetch_sub(1);
  live_bytes_.fetch_sub(static_cast<int64_t>(bytes));
}

void DeviceMemory::fail_allocation(int64_t n) { until_failure_.store(n > 0 ? n : 0); }

DeviceMemory::Usage DeviceMemory::usage() const { return {live_count_.load(), live_bytes_.load()}; }

MemoryBlock& MemoryBlock::operator=(MemoryBlock&& other) noexcept {
  if (this != &other) {
    reset();
    memory_ = std::move(other.memory_);
    data_ = std::exchange(other.data_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
  }
  return *this;
}

Status MemoryBlock::allocate(const std::shared_ptr<DeviceMemory>& memory, size_t bytes,
                             MemoryBlock* block, const char* op) {
  void* data = nullptr;
  SKV_RETURN_IF_ERROR(memory->allocate(bytes, &data, op));
  block->reset();
  block->memory_ = memory;
  block->data_ = data;
  block->bytes_ = bytes;
  return ok_status();
}

void MemoryBlock::reset() {
  if (memory_ != nullptr) memory_->release(data_, bytes_);
  memory_.reset();
  data_ = nullptr;
  bytes_ = 0;
}

}  // namespace spindlekv
