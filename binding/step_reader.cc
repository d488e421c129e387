#include "binding/step_reader.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "core/check/checker.h"

namespace spindlekv {

StoreState* StepReader::store(double number, int32_t item) {
  if (!args.ok()) return nullptr;
  auto* state = static_cast<StoreState*>(handles_.find(number, HandleTraits<StoreState>::kKind));
  const Place place{item < 0 ? "cache" : "layer", item};
  if (state == nullptr) {
    args.fail(place.text(), "a KVCache", "something else");
    return nullptr;
  }
  if (state->store == nullptr) {
    args.fail(error_status(SKV_DISPOSED, args.op(),
                           "expected a live cache for %s, got a disposed one",
                           place.text().c_str()));
    return nullptr;
  }
  DeviceState* const device = state->pool->device.get();
  if (device_ == nullptr) {
    device_ = device;
    if (!device->is_usable()) args.fail(device->check_usable(args.op()));
  } else if (device_ != device) {
    args.fail(error_status(SKV_WRONG_DEVICE, args.op(),
                           "expected a cache on the device of the first one for %s, got one on %s",
                           place.text().c_str(), device->kind().c_str()));
  }
  require_idle(&args, *state);
  if (!args.ok()) return nullptr;
  if (pool_ == nullptr) pool_ = state->pool.get();
  if (pool_ != state->pool.get()) other_pools_.push_back(state->pool.get());
  if (keeps_alive_ && std::none_of(stores_.begin(), stores_.end(),
                                   [&](const auto& other) { return other.get() == state; })) {
    stores_.push_back(state->shared_from_this());
  }
  return state;
}

int32_t StepReader::count(double number, const Place& place) {
  if (number >= 0 && number <= INT32_MAX && std::floor(number) == number) {
    return static_cast<int32_t>(number);
  }
  args.fail(place.text(), "an integer of 0 or more", number_text(number));
  return 0;
}

int32_t StepReader::layer(double number, const StoreState& state, int32_t item) {
  const int32_t layers = state.store->config().layers;
  if (number >= 0 && number < layers && std::floor(number) == number) {
    return static_cast<int32_t>(number);
  }
  args.fail(Place{"layer", item}.text(), "an integer in [0, " + std::to_string(layers) + ")",
            number_text(number));
  return 0;
}

float StepReader::scale(double number) {
  if (!std::isfinite(number)) args.fail("scale", "a finite number", number_text(number));
  return static_cast<float>(number);
}

RowView StepReader::rows(const GivenRows& given, const StoreState& state, const Place& place,
                         const RowsShape& shape) {
  if (!args.ok()) return {};
  if (void* tensor = handles_.find(given.number, HandleTraits<TensorState>::kKind)) {
    return tensor_rows(static_cast<TensorState*>(tensor), state, place, shape);
  }
  bool is_array = false;
  if (napi_is_typedarray(args.env(), given.value, &is_array) == napi_ok && is_array) {
    return array_rows(given.value, state, place, shape);
  }
  args.fail(place.text(), "a Tensor or Float32Array of " + shape.text(place),
            args.describe(given.value));
  return {};
}

RowView StepReader::array_rows(napi_value array, const StoreState& state, const Place& place,
                               const RowsShape& shape) {
  napi_typedarray_type type = napi_int8_array;
  size_t length = 0;
  void* data = nullptr;
  napi_get_typedarray_info(args.env(), array, &type, &length, &data, nullptr, nullptr);
  const int64_t plane = static_cast<int64_t>(shape.heads) * shape.tokens * shape.head_dim;
  const int64_t wanted = place.plane < 0 ? plane : plane * place.planes;
  if (type != napi_float32_array || static_cast<int64_t>(length) != wanted) {
    args.fail(place.text(), "a Float32Array of " + shape.text(place),
              type == napi_float32_array ? "one of length " + std::to_string(length)
                                         : "another typed array");
    return {};
  }
  const DeviceState& device = *state.pool->device;
  if (!device.uses_host_memory() || keeps_alive_) {
    args.fail(place.text(), "a Tensor on " + device.kind(), "a Float32Array");
    return {};
  }
  RowView rows;
  rows.data = static_cast<float*>(data) + std::max(place.plane, 0) * plane;
  rows.dtype = SKV_F32;
  rows.stride_token = shape.head_dim;
  rows.stride_head = static_cast<int64_t>(shape.tokens) * shape.head_dim;
  return rows;
}

bool StepReader::is_usable(TensorState* tensor, const StoreState& state, const Place& place) {
  if (tensor->storage == nullptr) {
    args.fail(error_status(SKV_DISPOSED, args.op(),
                           "expected a live Tensor for %s, got a disposed one",
                           place.text().c_str()));
    return false;
  }
  if (tensor->device != state.pool->device) {
    args.fail(error_status(SKV_WRONG_DEVICE, args.op(),
                           "expected a Tensor on the cache's device for %s, got one on %s",
                           place.text().c_str(), tensor->device->kind().c_str()));
    return false;
  }
  if (keeps_alive_) args.keepalive().push_back(tensor->storage);
  return true;
}

RowView StepReader::tensor_rows(TensorState* tensor, const StoreState& state, const Place& place,
                                const RowsShape& shape) {
  if (!is_usable(tensor, state, place)) return {};
  if ((dtype_bit(tensor->dtype) & kFloatDtypes) == 0) {
    args.fail(place.text(), "dtype f32, f16 or bf16", dtype_name(tensor->dtype));
    return {};
  }
  const size_t first = place.plane < 0 ? 0 : 1;
  const std::vector<int64_t>& sizes = tensor->shape;
  const bool fits = sizes.size() == first + 3 && (first == 0 || sizes[0] == place.planes) &&
                    sizes[first] == shape.heads && sizes[first + 1] == shape.tokens &&
                    sizes[first + 2] == shape.head_dim &&
                    (tensor->strides[first + 2] == 1 || tensor->elements() == 0);
  if (!fits) {
    args.fail(place.text(), "shape " + shape.text(place) + " with dense rows", sizes_text(sizes));
    return {};
  }
  RowView rows;
  rows.dtype = tensor->dtype;
  rows.stride_head = tensor->strides[first];
  rows.stride_token = tensor->strides[first + 1];
  rows.data = tensor->data();
  if (place.plane > 0 && rows.data != nullptr) {
    rows.data = static_cast<std::byte*>(rows.data) +
                static_cast<size_t>(place.plane * tensor->strides[0]) * dtype_bytes(rows.dtype);
  }
  return rows;
}

void StepReader::require_same_dtype(const AttendRequest& request, const Place& place) {
  if (!args.ok() || request.out.dtype == request.q.dtype) return;
  args.fail(place.text(), "the dtype of q", dtype_name(request.out.dtype));
}

// Sums [rows, slots], or [planes, rows, slots]; whether the slots suffice is seen after the append.
void StepReader::scores(double number, int32_t mode, const StoreState& state, const Place& place,
                        AttendRequest* request) {
  if (!args.ok() || mode == SKV_SCORE_NONE) return;
  auto* tensor = static_cast<TensorState*>(handles_.find(number, HandleTraits<TensorState>::kKind));
  if (tensor == nullptr) {
    args.fail(place.text(), "a Tensor of this package", "something else");
    return;
  }
  if (!is_usable(tensor, state, place)) return;
  const StoreConfig& config = state.store->config();
  const int64_t rows =
      static_cast<int64_t>(config.kv_heads) * (mode == SKV_SCORE_QUERY_HEAD ? config.group : 1);
  const size_t first = place.plane < 0 ? 0 : 1;
  const std::vector<int64_t>& sizes = tensor->shape;
  const bool fits = tensor->dtype == SKV_F32 && sizes.size() == first + 2 &&
                    (first == 0 || sizes[0] == place.planes) && sizes[first] == rows &&
                    (tensor->strides[first + 1] == 1 || sizes[first + 1] <= 1);
  if (!fits) {
    const std::string planes = first == 0 ? "" : std::to_string(place.planes) + ", ";
    args.fail(place.text(),
              "f32 [" + planes + std::to_string(rows) + ", at least the slots] with dense rows",
              std::string(dtype_name(tensor->dtype)) + " " + sizes_text(sizes));
    return;
  }
  request->score_mode = mode;
  request->score_slots = sizes[first + 1];
  request->score_stride = tensor->strides[first];
  request->score_sum = static_cast<float*>(tensor->data());
  if (place.plane > 0 && request->score_sum != nullptr) {
    request->score_sum += place.plane * tensor->strides[0];
  }
}

}  // namespace spindlekv
