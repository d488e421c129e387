#include "binding/tensor_copy.h"

#include <cstring>
#include <utility>

#include "core/check/checker.h"

namespace spindlekv {
namespace {

constexpr int64_t kLongStretch = 4096;  // bytes

// Calls visit(offset, bytes) for every stretch of memory that is dense in logical order, until it
// fails.
template <typename Visit>
Status for_each_stretch(const TensorLayout& layout, Visit visit) {
  if (layout.elements == 0) return ok_status();
  // Trailing axes that follow one another without gaps form one stretch.
  size_t outer_axes = layout.shape.size();
  int64_t stretch = 1;
  while (outer_axes > 0 &&
         (layout.shape[outer_axes - 1] == 1 || layout.strides[outer_axes - 1] == stretch)) {
    stretch *= layout.shape[outer_axes - 1];
    --outer_axes;
  }
  std::vector<int64_t> index(outer_axes, 0);
  for (;;) {
    int64_t first = 0;
    for (size_t axis = 0; axis < outer_axes; ++axis) first += index[axis] * layout.strides[axis];
    SKV_RETURN_IF_ERROR(visit(static_cast<size_t>(first) * layout.element_bytes,
                              static_cast<size_t>(stretch) * layout.element_bytes));
    size_t axis = outer_axes;
    while (axis > 0 && ++index[axis - 1] == layout.shape[axis - 1]) index[--axis] = 0;
    if (axis == 0) return ok_status();
  }
}

// Long stretches, the last axis at least, with longer gaps: reading those too would cost more than
// single copies.
bool is_sparse(const TensorLayout& layout) {
  const int64_t rest = layout.span - layout.elements;
  return rest > 3 * layout.elements && !layout.strides.empty() && layout.strides.back() == 1 &&
         layout.shape.back() * static_cast<int64_t>(layout.element_bytes) >= kLongStretch;
}

}  // namespace

TensorLayout layout_of_tensor(const TensorState& tensor) {
  return {static_cast<std::byte*>(tensor.data()),
          dtype_bytes(tensor.dtype),
          tensor.shape,
          tensor.strides,
          tensor.elements(),
          tensor.span()};
}

Status read_elements(OpRunner& run, const TensorLayout& layout, std::vector<std::byte>* bits) {
  bits->resize(static_cast<size_t>(layout.elements) * layout.element_bytes);
  if (layout.elements == 0) return run.synchronize();
  std::byte* out = bits->data();
  if (is_sparse(layout)) {
    SKV_RETURN_IF_ERROR(for_each_stretch(layout, [&](size_t offset, size_t bytes) {
      return run.copy(std::exchange(out, out + bytes), layout.data + offset, bytes,
                      SKV_COPY_TO_HOST);
    }));
    return run.synchronize();
  }
  // One copy of the whole span, then gathering on the host: many small copies would cost more.
  std::vector<std::byte> span(static_cast<size_t>(layout.span) * layout.element_bytes);
  SKV_RETURN_IF_ERROR(run.copy(span.data(), layout.data, span.size(), SKV_COPY_TO_HOST));
  SKV_RETURN_IF_ERROR(run.synchronize());
  return for_each_stretch(layout, [&](size_t offset, size_t bytes) {
    std::memcpy(std::exchange(out, out + bytes), span.data() + offset, bytes);
    return ok_status();
  });
}

Status write_elements(OpRunner& run, const TensorLayout& layout, const std::byte* bits) {
  return for_each_stretch(layout, [&](size_t offset, size_t bytes) {
    return run.copy(layout.data + offset, std::exchange(bits, bits + bytes), bytes,
                    SKV_COPY_TO_DEVICE);
  });
}

}  // namespace spindlekv
