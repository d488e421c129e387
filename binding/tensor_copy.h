// Moving a tensor's elements between device and host, in logical (row-major) order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "binding/tensor.h"
#include "core/op_runner.h"
#include "core/status.h"

namespace spindlekv {

// What a tensor is when it is copied: its own state may change while a job runs.
struct TensorLayout {
  std::byte* data;  // first element, on the device
  size_t element_bytes;
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;
  int64_t elements;
  int64_t span;
};

TensorLayout layout_of_tensor(const TensorState& tensor);

// Waits for the device; *bits gets elements * element_bytes bytes.
Status read_elements(OpRunner& run, const TensorLayout& layout, std::vector<std::byte>* bits);

// Writes all elements from `bits` and nothing between them; `bits` may be reused afterwards.
Status write_elements(OpRunner& run, const TensorLayout& layout, const std::byte* bits);

}  // namespace spindlekv
