// One thread's way to run ops on a device: keeps the workspace they ask for, and copies.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "core/backend.h"
#include "core/memory.h"
#include "core/status.h"

namespace spindlekv {

class OpRunner {
 public:
  explicit OpRunner(std::shared_ptr<DeviceMemory> memory) : memory_(std::move(memory)) {}

  // While set, long ops poll it and return SKV_ABORTED once it is non-zero.
  void set_cancel(const volatile int32_t* cancel) { cancel_ = cancel; }
  const volatile int32_t* cancel() const { return cancel_; }
  bool cancelled() const { return cancel_ != nullptr && *cancel_ != 0; }
  const std::shared_ptr<DeviceMemory>& memory() const { return memory_; }
  // While set, ops only get their workspace ready.
  void set_measuring(bool is_measuring) { is_measuring_ = is_measuring; }
  // Where ops are enqueued; nullptr is the device's default stream. Copies stay on that one.
  void set_stream(void* stream) { stream_ = stream; }

#define SKV_RUNNER_MEMBER(name, Stem)                                   \
  Status name(const Skv##Stem##Params& params) {                        \
    return run(SKV_OP_##name, #name, memory_->backend()->name, params); \
  }
  SKV_OPS(SKV_RUNNER_MEMBER)
#undef SKV_RUNNER_MEMBER

  Status copy(void* dst, const void* src, size_t bytes, SkvCopyKind kind) {
    if (bytes == 0) return ok_status();
    return memory_->backend()->copy(memory_->device(), dst, src, bytes, kind, nullptr);
  }
  Status fill(void* dst, int32_t byte_value, size_t bytes) {
    if (bytes == 0) return ok_status();
    return memory_->backend()->fill(memory_->device(), dst, byte_value, bytes, nullptr);
  }
  Status synchronize() { return memory_->backend()->synchronize(memory_->device(), nullptr); }

  // Reads `count` elements to the host and waits for them.
  template <typename T>
  Status download(const T* src, size_t count, std::vector<T>* dst) {
    dst->resize(count);
    SKV_RETURN_IF_ERROR(copy(dst->data(), src, count * sizeof(T), SKV_COPY_TO_HOST));
    return synchronize();
  }
  template <typename T>
  Status upload(T* dst, const std::vector<T>& src) {
    return copy(dst, src.data(), src.size() * sizeof(T), SKV_COPY_TO_DEVICE);
  }
  Status allocate(size_t bytes, MemoryBlock* block) {
    return MemoryBlock::allocate(memory_, bytes, block, "cache");
  }

  size_t workspace_bytes() const { return workspace_.bytes(); }
  // Gives it back; the next op that needs one gets a new one.
  void release_workspace() { workspace_.reset(); }

 private:
  // Most calls find the workspace large enough already: the op is not asked for its size first.
  template <class Params>
  Status run(int32_t op, const char* name,
             Status (*function)(SkvDevice*, const SkvExec*, const Params*), const Params& params) {
    size_t needed = 0;
    if (is_measuring_) {
      SKV_RETURN_IF_ERROR(
          memory_->backend()->workspace_bytes(memory_->device(), op, &params, &needed));
      return reserve(needed, name);
    }
    const Status status = run_now(function, params, &needed);
    if (needed <= workspace_.bytes()) return status;
    SKV_RETURN_IF_ERROR(reserve(needed, name));
    return run_now(function, params, nullptr);
  }

  template <class Params>
  Status run_now(Status (*function)(SkvDevice*, const SkvExec*, const Params*),
                 const Params& params, size_t* needed) {
    const SkvExec exec{stream_, workspace_.data(), workspace_.bytes(), cancel_, needed};
    return function(memory_->device(), &exec, &params);
  }

  Status reserve(size_t bytes, const char* name) {
    if (bytes <= workspace_.bytes()) return ok_status();
    return MemoryBlock::allocate(memory_, bytes + bytes / 4, &workspace_, name);
  }

  std::shared_ptr<DeviceMemory> memory_;
  MemoryBlock workspace_;
  const volatile int32_t* cancel_ = nullptr;
  void* stream_ = nullptr;
  bool is_measuring_ = false;
};

}  // namespace spindlekv
