#include "binding/tensor.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "binding/args.h"
#include "binding/callback.h"
#include "binding/convert.h"
#include "binding/errors.h"
#include "binding/tensor_copy.h"
#include "core/check/checker.h"

namespace spindlekv {
namespace {

constexpr int64_t kMostElements = int64_t{1} << 50;  // far above any memory, below any overflow
constexpr Choices kDtypeNames = {"f32", "f16", "bf16", "i32", "u16", "u8", "u64"};

bool is_half(int32_t dtype) { return dtype == SKV_F16 || dtype == SKV_BF16; }

int64_t product(const std::vector<int64_t>& sizes) {
  int64_t elements = 1;
  for (const int64_t size : sizes) {
    if (size == 0) return 0;
    elements = elements > kMostElements / size ? kMostElements + 1 : elements * size;
  }
  return elements;
}

std::vector<int64_t> dense_strides(const std::vector<int64_t>& shape) {
  std::vector<int64_t> strides(shape.size());
  int64_t stride = 1;
  for (size_t axis = shape.size(); axis-- > 0;) {
    strides[axis] = stride;
    stride *= std::max<int64_t>(shape[axis], 1);
  }
  return strides;
}

}  // namespace

TensorStorage::~TensorStorage() {
  if (device == nullptr || !device->uses_host_memory()) return;
  device->environment()->adjust_external_memory(-static_cast<int64_t>(block.bytes()));
}

Status TensorStorage::allocate(const std::shared_ptr<DeviceState>& device, size_t bytes,
                               std::shared_ptr<TensorStorage>* storage, const char* op) {
  auto fresh = std::make_shared<TensorStorage>();
  SKV_RETURN_IF_ERROR(MemoryBlock::allocate(device->memory(), bytes, &fresh->block, op));
  fresh->device = device;
  if (device->uses_host_memory()) {
    device->environment()->adjust_external_memory(static_cast<int64_t>(bytes));
  }
  *storage = std::move(fresh);
  return ok_status();
}

int64_t TensorState::elements() const { return product(shape); }

int64_t TensorState::span() const {
  if (elements() == 0) return 0;
  int64_t last = 0;
  for (size_t axis = 0; axis < shape.size(); ++axis) last += (shape[axis] - 1) * strides[axis];
  return last + 1;
}

bool TensorState::is_contiguous() const {
  if (elements() == 0) return true;
  int64_t stride = 1;
  for (size_t axis = shape.size(); axis-- > 0;) {
    if (shape[axis] > 1 && strides[axis] != stride) return false;
    stride *= shape[axis];
  }
  return true;
}

void* TensorState::data() const {
  if (storage == nullptr || elements() == 0) return nullptr;
  return static_cast<std::byte*>(storage->block.data()) +
         static_cast<size_t>(offset) * dtype_bytes(dtype);
}

Napi::Value attach_tensor(napi_env env, napi_value object, std::shared_ptr<TensorState> state) {
  const int32_t number = wrap_handle(env, object, std::move(state));
  if (number != kNoHandle) return Napi::Number::New(env, number);
  throw_status(env, error_status(SKV_ARGUMENT, "Tensor",
                                 "expected a fresh object for tensor, got one in use"));
  return {};
}

namespace {

// A live tensor on a usable device, or nullptr with an exception pending.
std::shared_ptr<TensorState> live_tensor(napi_env env, napi_value value, const char* op) {
  const std::shared_ptr<TensorState> tensor = unwrap_handle<TensorState>(env, value);
  Arguments args(env, op);
  if (tensor == nullptr) {
    args.fail("tensor", "a Tensor of this package", args.describe(value));
  } else if (tensor->storage == nullptr) {
    args.fail(
        error_status(SKV_DISPOSED, op, "expected a live Tensor for tensor, got a disposed one"));
  } else {
    const Status usable = tensor->device->check_usable(op);
    if (!is_ok(usable)) {
      throw_device_status(env, tensor->device.get(), usable);
      return nullptr;
    }
  }
  if (args.ok()) return tensor;
  args.raise();
  return nullptr;
}

// ---- host data -> bits of a tensor
// ---------------------------------------------------------------

struct TypedArray {
  napi_typedarray_type type;
  size_t length;
  const void* data;
};

bool read_typed_array(napi_env env, napi_value value, TypedArray* array) {
  bool is_typed = false;
  if (napi_is_typedarray(env, value, &is_typed) != napi_ok || !is_typed) return false;
  void* data = nullptr;
  if (napi_get_typedarray_info(env, value, &array->type, &array->length, &data, nullptr, nullptr) !=
      napi_ok) {
    return false;
  }
  array->data = data;
  return true;
}

napi_typedarray_type array_type_of(int32_t dtype) {
  switch (dtype) {
    case SKV_I32:
      return napi_int32_array;
    case SKV_F16:
    case SKV_BF16:
    case SKV_U16:
      return napi_uint16_array;
    case SKV_U8:
      return napi_uint8_array;
    case SKV_U64:
      return napi_biguint64_array;
    default:
      return napi_float32_array;
  }
}

const char* array_name_of(int32_t dtype) {
  switch (dtype) {
    case SKV_I32:
      return "an Int32Array";
    case SKV_F16:
    case SKV_BF16:
      return "a Float32Array or a Uint16Array of raw bits";
    case SKV_U16:
      return "a Uint16Array";
    case SKV_U8:
      return "a Uint8Array";
    case SKV_U64:
      return "a BigUint64Array";
    default:
      return "a Float32Array";
  }
}

// Copies `value` into *bits, converting f32 to half where asked.
void read_data(Arguments* args, napi_value value, int32_t dtype, int64_t elements,
               std::vector<std::byte>* bits) {
  TypedArray array{};
  const bool is_array = read_typed_array(args->env(), value, &array);
  const bool is_converted = is_array && is_half(dtype) && array.type == napi_float32_array;
  if (!is_array || (array.type != array_type_of(dtype) && !is_converted)) {
    args->fail("data", array_name_of(dtype),
               is_array ? "another typed array" : args->describe(value));
    return;
  }
  if (static_cast<int64_t>(array.length) != elements) {
    args->fail("data", std::to_string(elements) + " elements", std::to_string(array.length));
    return;
  }
  bits->resize(array.length * dtype_bytes(dtype));
  if (!is_converted) {
    if (!bits->empty()) std::memcpy(bits->data(), array.data, bits->size());
    return;
  }
  const auto* values = static_cast<const float*>(array.data);
  auto* half = reinterpret_cast<uint16_t*>(bits->data());
  for (size_t i = 0; i < array.length; ++i) {
    half[i] = dtype == SKV_F16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i]);
  }
}

// ---- bits of a tensor -> host data
// ---------------------------------------------------------------

napi_value make_array(napi_env env, napi_typedarray_type type, size_t element_bytes, size_t length,
                      void** data) {
  napi_value buffer = nullptr;
  napi_value array = nullptr;
  if (napi_create_arraybuffer(env, length * element_bytes, data, &buffer) != napi_ok ||
      napi_create_typedarray(env, type, length, buffer, 0, &array) != napi_ok) {
    return nullptr;
  }
  return array;
}

// raw: half types stay Uint16Array and f32 becomes Uint32Array.
napi_value data_of(napi_env env, int32_t dtype, bool raw, const std::vector<std::byte>& bits) {
  const size_t length = bits.size() / dtype_bytes(dtype);
  void* data = nullptr;
  if (is_half(dtype) && !raw) {
    const napi_value array = make_array(env, napi_float32_array, sizeof(float), length, &data);
    if (array == nullptr) return nullptr;
    auto* values = static_cast<float*>(data);
    const auto* half = reinterpret_cast<const uint16_t*>(bits.data());
    for (size_t i = 0; i < length; ++i) {
      values[i] = dtype == SKV_F16 ? f16_to_f32(half[i]) : bf16_to_f32(half[i]);
    }
    return array;
  }
  const napi_typedarray_type type =
      raw && dtype == SKV_F32 ? napi_uint32_array : array_type_of(dtype);
  const napi_value array = make_array(env, type, dtype_bytes(dtype), length, &data);
  if (array != nullptr && !bits.empty()) std::memcpy(data, bits.data(), bits.size());
  return array;
}

// ---- functions of the addon
// ----------------------------------------------------------------------

// (object, device, { dtype, shape, cleared }, data?) => number: a copy of data, zeros, or what the
// memory held.
Napi::Value create_tensor(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments args(env, "Tensor");
  const std::shared_ptr<DeviceState> device = args.device_handle(info[1], "device");
  const ObjectReader options = args.object(info[2], "options");
  auto state = std::make_shared<TensorState>();
  state->dtype = options.choice("dtype", kDtypeNames);
  state->shape = options.sizes("shape");
  const bool is_cleared = options.flag_or("cleared", true);
  const int64_t elements = product(state->shape);
  if (elements > kMostElements) args.fail("shape", "fewer elements", "too many to address");
  std::vector<std::byte> bits;
  const bool has_data = info.Length() > 3 && !info[3].IsUndefined();
  if (args.ok()) args.fail(device->check_runs_now("Tensor"));
  if (args.ok() && has_data) read_data(&args, info[3], state->dtype, elements, &bits);
  if (!args.ok()) return Napi::Value(env, args.raise());

  state->strides = dense_strides(state->shape);
  state->device = device;
  const size_t bytes = static_cast<size_t>(elements) * dtype_bytes(state->dtype);
  Status status = TensorStorage::allocate(device, bytes, &state->storage, "Tensor");
  if (is_ok(status)) {
    OpRunner& run = device->runner();
    if (has_data) {
      status = write_elements(run, layout_of_tensor(*state), bits.data());
    } else if (is_cleared) {
      status = run.fill(state->data(), 0, bytes);
    }
    status = device->note(status);
  }
  if (!is_ok(status)) {
    throw_device_status(env, device.get(), status);
    return {};
  }
  return attach_tensor(env, info[0], std::move(state));
}

// (object, source, { offset, shape, strides }) => number: shares the source's memory.
Napi::Value view_tensor(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::shared_ptr<TensorState> source = live_tensor(env, info[1], "view");
  if (source == nullptr) return {};
  Arguments args(env, "view");
  const ObjectReader options = args.object(info[2], "options");
  const int64_t offset = options.size("offset");
  auto state = std::make_shared<TensorState>();
  state->shape = options.sizes("shape");
  state->strides = options.sizes("strides");
  if (state->strides.size() != state->shape.size()) {
    args.fail("strides", std::to_string(state->shape.size()) + " strides",
              std::to_string(state->strides.size()));
  }
  if (args.ok() && product(state->shape) > kMostElements) {
    args.fail("shape", "fewer elements", "too many to address");
  }
  for (size_t axis = 0; args.ok() && axis < state->shape.size(); ++axis) {
    // With that, the span below cannot overflow: at most 2^50 * the number of axes.
    if (state->strides[axis] > 0 && state->shape[axis] > kMostElements / state->strides[axis]) {
      args.fail("strides", "elements inside the tensor", "strides beyond it");
    }
  }
  const int64_t end = args.ok() ? offset + state->span() : 0;
  if (args.ok() && end > source->span()) {
    args.fail("shape", "elements inside the tensor (" + std::to_string(source->span()) + ")",
              "element " + std::to_string(end - 1));
  }
  if (!args.ok()) return Napi::Value(env, args.raise());
  state->dtype = source->dtype;
  state->offset = source->offset + offset;
  state->device = source->device;
  state->storage = source->storage;
  return attach_tensor(env, info[0], std::move(state));
}

// (tensor): lets go of the memory, which views and queued jobs may still hold.
Napi::Value dispose_tensor(const Napi::CallbackInfo& info) {
  const std::shared_ptr<TensorState> tensor = unwrap_handle<TensorState>(info.Env(), info[0]);
  if (tensor != nullptr) tensor->storage.reset();
  return info.Env().Undefined();
}

// Copied in some tens of microseconds, which is what a hop to the job thread and back takes.
constexpr size_t kShortReadBytes = size_t{256} << 10;

// (tensor, raw) => Promise<typed array>, after everything queued before.
Napi::Value read_tensor(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::shared_ptr<TensorState> tensor = live_tensor(env, info[0], "read");
  if (tensor == nullptr) return {};
  const bool raw = info[1].ToBoolean();
  const int32_t dtype = tensor->dtype;
  auto bits = std::make_shared<std::vector<std::byte>>();
  auto job = std::make_unique<Job>();
  job->op = "read";
  job->keepalive.push_back(tensor->storage);
  job->work = [bits, layout = layout_of_tensor(*tensor)](OpRunner& run) {
    return read_elements(run, layout, bits.get());
  };
  job->is_short = static_cast<size_t>(tensor->elements()) * dtype_bytes(dtype) <= kShortReadBytes;
  job->result = [bits, dtype, raw](napi_env result_env) {
    return data_of(result_env, dtype, raw, *bits);
  };
  return Napi::Value(env, queue_job(env, tensor->device, std::move(job)));
}

// (tensor, raw) => typed array; waits for the device, not for queued jobs.
Napi::Value read_tensor_now(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::shared_ptr<TensorState> tensor = live_tensor(env, info[0], "readSync");
  if (tensor == nullptr) return {};
  std::vector<std::byte> bits;
  Status status = tensor->device->check_runs_now("readSync");
  if (is_ok(status))
    status = tensor->device->note(
        read_elements(tensor->device->runner(), layout_of_tensor(*tensor), &bits));
  if (!is_ok(status)) {
    throw_device_status(env, tensor->device.get(), status);
    return {};
  }
  return Napi::Value(env, data_of(env, tensor->dtype, info[1].ToBoolean(), bits));
}

// (tensor, data)
Napi::Value write_tensor(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::shared_ptr<TensorState> tensor = live_tensor(env, info[0], "write");
  if (tensor == nullptr) return {};
  Arguments args(env, "write");
  std::vector<std::byte> bits;
  args.fail(tensor->device->check_runs_now("write"));
  if (args.ok()) read_data(&args, info[1], tensor->dtype, tensor->elements(), &bits);
  if (!args.ok()) return Napi::Value(env, args.raise());
  const Status status = tensor->device->note(
      write_elements(tensor->device->runner(), layout_of_tensor(*tensor), bits.data()));
  if (!is_ok(status)) throw_device_status(env, tensor->device.get(), status);
  return env.Undefined();
}

// (tensor) => bigint: address of the first element, 0 without elements.
Napi::Value tensor_pointer(const Napi::CallbackInfo& info) {
  const std::shared_ptr<TensorState> tensor = live_tensor(info.Env(), info[0], "pointer");
  if (tensor == nullptr) return {};
  return Napi::BigInt::New(info.Env(),
                           static_cast<uint64_t>(reinterpret_cast<uintptr_t>(tensor->data())));
}

}  // namespace

void register_tensor(Napi::Env env, Napi::Object exports) {
  export_function<create_tensor>(env, exports, "createTensor");
  export_function<view_tensor>(env, exports, "viewTensor");
  export_function<dispose_tensor>(env, exports, "disposeTensor");
  export_function<read_tensor>(env, exports, "readTensor");
  export_function<read_tensor_now>(env, exports, "readTensorNow");
  export_function<write_tensor>(env, exports, "writeTensor");
  export_function<tensor_pointer>(env, exports, "tensorPointer");
}

}  // namespace spindlekv
