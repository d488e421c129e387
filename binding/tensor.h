// Device memory as JavaScript sees it: a Tensor is dtype, shape and strides over a shared block.
#pragma once

#include <napi.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "binding/device.h"
#include "binding/handle.h"
#include "core/memory.h"
#include "core/types.h"

namespace spindlekv {

// A block of device memory, shared by a tensor, its views and the jobs that use them. Let go on the
// JavaScript thread.
struct TensorStorage {
  std::shared_ptr<DeviceState> device;
  MemoryBlock block;

  ~TensorStorage();
  static Status allocate(const std::shared_ptr<DeviceState>& device, size_t bytes,
                         std::shared_ptr<TensorStorage>* storage, const char* op);
};

struct TensorState {
  std::shared_ptr<TensorStorage> storage;  // nullptr once disposed
  std::shared_ptr<DeviceState> device;
  int32_t dtype = SKV_F32;
  int64_t offset = 0;  // elements from the start of the block
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;  // elements

  int64_t rank() const { return static_cast<int64_t>(shape.size()); }
  int64_t elements() const;
  // Elements from the first to behind the last, 0 if there are none.
  int64_t span() const;
  bool is_contiguous() const;
  // The first element; nullptr for a tensor without elements.
  void* data() const;
};

template <>
struct HandleTraits<TensorState> {
  static constexpr char kName[] = "Tensor";
  static constexpr uint64_t kKind = 2;
};

// Makes `object` (an instance of lib/tensor.ts's Tensor) a tensor over `state`; returns its number.
Napi::Value attach_tensor(napi_env env, napi_value object, std::shared_ptr<TensorState> state);

void register_tensor(Napi::Env env, Napi::Object exports);

}  // namespace spindlekv
