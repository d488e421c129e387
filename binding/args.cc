#include "binding/args.h"

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdio>

#include "binding/errors.h"
#include "core/check/checker.h"

namespace spindlekv {
namespace {

constexpr size_t kLongestText = 40;  // of a string shown in a message

std::string join(Choices choices) {
  std::string text;
  for (const char* choice : choices) {
    if (!text.empty()) text += ", ";
    text += '"';
    text += choice;
    text += '"';
  }
  return text;
}

std::string text_of(napi_env env, napi_value value) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok) return "";
  std::string text(length + 1, '\0');
  napi_get_value_string_utf8(env, value, text.data(), text.size(), &length);
  text.resize(length);
  return text;
}

std::string dtype_names(uint32_t dtypes) {
  std::string names;
  for (int32_t dtype = SKV_F32; dtype <= SKV_U64; ++dtype) {
    if ((dtypes & dtype_bit(dtype)) == 0) continue;
    if (!names.empty()) names += ", ";
    names += dtype_name(dtype);
  }
  return names;
}

std::string range_text(int64_t least, int64_t most) {
  if (most == INT32_MAX) return "an integer >= " + std::to_string(least);
  return "an integer in [" + std::to_string(least) + ", " + std::to_string(most) + "]";
}

bool is_defined(napi_env env, napi_value value) {
  napi_valuetype type = napi_undefined;
  return value != nullptr && napi_typeof(env, value, &type) == napi_ok && type != napi_undefined;
}

bool is_object(napi_env env, napi_value value) {
  napi_valuetype type = napi_undefined;
  return value != nullptr && napi_typeof(env, value, &type) == napi_ok && type == napi_object;
}

bool is_number(napi_env env, napi_value value, double* number) {
  napi_valuetype type = napi_undefined;
  return value != nullptr && napi_typeof(env, value, &type) == napi_ok && type == napi_number &&
         napi_get_value_double(env, value, number) == napi_ok;
}

bool is_size(double number) {
  return number >= 0.0 && number <= 0x1p53 && number == std::trunc(number);
}

bool is_int32(double number) {
  return number >= INT32_MIN && number <= INT32_MAX && number == std::trunc(number);
}

}  // namespace

std::string number_text(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.9g", value);
  return text;
}

std::string sizes_text(const std::vector<int64_t>& sizes) {
  std::string text = "[";
  for (const int64_t size : sizes) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(size);
  }
  return text + "]";
}

// ---- Arguments
// -----------------------------------------------------------------------------------

void Arguments::fail(const std::string& param, const std::string& expected,
                     const std::string& actual) {
  if (!ok()) return;
  status_ = error_status(SKV_ARGUMENT, op_, "expected %s for %s, got %s", expected.c_str(),
                         param.c_str(), actual.c_str());
}

void Arguments::fail(const Status& status) {
  if (ok()) status_ = status;
}

napi_value Arguments::raise() {
  if (!is_exception_pending_) throw_device_status(env_, device_.get(), status_);
  return nullptr;
}

std::string Arguments::describe(napi_value value) const {
  napi_valuetype type = napi_undefined;
  if (value == nullptr || napi_typeof(env_, value, &type) != napi_ok) return "nothing";
  double number = 0.0;
  switch (type) {
    case napi_undefined:
      return "undefined";
    case napi_null:
      return "null";
    case napi_boolean: {
      bool flag = false;
      napi_get_value_bool(env_, value, &flag);
      return flag ? "true" : "false";
    }
    case napi_number:
      napi_get_value_double(env_, value, &number);
      return number_text(number);
    case napi_string: {
      std::string text = text_of(env_, value);
      if (text.size() > kLongestText) text = text.substr(0, kLongestText) + "...";
      return "\"" + text + "\"";
    }
    case napi_function:
      return "a function";
    case napi_symbol:
      return "a symbol";
    case napi_bigint:
      return "a bigint";
    default:
      break;
  }
  if (unwrap_handle<DeviceState>(env_, value) != nullptr) return "a Device";
  if (unwrap_handle<TensorState>(env_, value) != nullptr) return "a Tensor";
  bool is_array = false;
  uint32_t length = 0;
  if (napi_is_array(env_, value, &is_array) == napi_ok && is_array) {
    napi_get_array_length(env_, value, &length);
    return "an array of " + std::to_string(length);
  }
  bool is_typed = false;
  if (napi_is_typedarray(env_, value, &is_typed) == napi_ok && is_typed) return "a typed array";
  return "an object";
}

ObjectReader Arguments::object(napi_value value, const char* name) {
  if (ok() && !is_object(env_, value)) fail(name, "an object", describe(value));
  return ObjectReader(this, value, "");
}

std::shared_ptr<DeviceState> Arguments::device_handle(napi_value value, const char* name) {
  if (!ok()) return nullptr;
  const std::shared_ptr<DeviceState> device = unwrap_handle<DeviceState>(env_, value);
  if (device == nullptr) {
    fail(name, "a Device of this package", describe(value));
    return nullptr;
  }
  if (device_ != nullptr && device_ != device) {
    fail(error_status(SKV_WRONG_DEVICE, op_,
                      "expected the device of the other handles for %s, got another", name));
    return nullptr;
  }
  device_ = device;
  fail(device->check_usable(op_));
  return ok() ? device : nullptr;
}

const TensorState* Arguments::accept_tensor(napi_value value, const std::string& place,
                                            const TensorRule& rule) {
  const std::shared_ptr<TensorState> tensor = unwrap_handle<TensorState>(env_, value);
  if (tensor == nullptr) {
    fail(place, "a Tensor of this package", describe(value));
    return nullptr;
  }
  if (tensor->storage == nullptr) {
    fail(error_status(SKV_DISPOSED, op_, "expected a live Tensor for %s, got a disposed one",
                      place.c_str()));
    return nullptr;
  }
  if (device_ == nullptr) {
    device_ = tensor->device;
    fail(device_->check_usable(op_));
  }
  if (device_ != tensor->device) {
    fail(error_status(SKV_WRONG_DEVICE, op_,
                      "expected a Tensor on the device of the others for %s, got one on %s:%d",
                      place.c_str(), tensor->device->kind().c_str(), tensor->device->ordinal()));
  }
  if (rule.dtypes != 0 && (rule.dtypes & dtype_bit(tensor->dtype)) == 0) {
    fail(place, "dtype " + dtype_names(rule.dtypes), dtype_name(tensor->dtype));
  }
  if (rule.rank >= 0 && tensor->rank() != rule.rank) {
    fail(place, "a shape of " + std::to_string(rule.rank) + " axes", sizes_text(tensor->shape));
  }
  if (rule.is_contiguous && !tensor->is_contiguous()) {
    fail(place, "contiguous elements", "strides " + sizes_text(tensor->strides));
  }
  if (rule.has_dense_rows && tensor->rank() > 0 && tensor->shape.back() > 1 &&
      tensor->strides.back() != 1) {
    fail(place, "stride 1 on the last axis", "strides " + sizes_text(tensor->strides));
  }
  if (!ok()) return nullptr;
  keepalive_.push_back(tensor->storage);
  keepalive_.push_back(tensor);
  return tensor.get();
}

// ---- ObjectReader
// --------------------------------------------------------------------------------

void ObjectReader::fail(const char* name, const std::string& expected,
                        const std::string& actual) const {
  args_->fail(place(name), expected, actual);
}

napi_value ObjectReader::member(const char* name) const {
  if (!args_->ok() || object_ == nullptr) return nullptr;
  napi_value value = nullptr;
  // A getter of the caller's object may throw: then that exception is the result of the call.
  if (napi_get_named_property(args_->env(), object_, name, &value) != napi_ok) {
    args_->note_exception();
    return nullptr;
  }
  return value;
}

std::vector<napi_value> ObjectReader::elements(napi_value array, const std::string& where) const {
  bool is_array = false;
  uint32_t length = 0;
  if (napi_is_array(args_->env(), array, &is_array) != napi_ok || !is_array) {
    args_->fail(where, "an array", args_->describe(array));
    return {};
  }
  napi_get_array_length(args_->env(), array, &length);
  std::vector<napi_value> values(length);
  for (uint32_t i = 0; i < length; ++i) {
    if (napi_get_element(args_->env(), array, i, &values[i]) != napi_ok) {
      args_->note_exception();
      return {};
    }
  }
  return values;
}

bool ObjectReader::has(const char* name) const { return is_defined(args_->env(), member(name)); }

double ObjectReader::number(const char* name) const {
  const napi_value value = member(name);
  double number = 0.0;
  if (!args_->ok()) return 0.0;
  if (!is_number(args_->env(), value, &number)) fail(name, "a number", args_->describe(value));
  return number;
}

double ObjectReader::number_or(const char* name, double fallback) const {
  return has(name) ? number(name) : fallback;
}

int32_t ObjectReader::integer(const char* name, int64_t least, int64_t most) const {
  const napi_value value = member(name);
  if (!args_->ok()) return static_cast<int32_t>(least);
  double number = 0.0;
  const bool holds = is_number(args_->env(), value, &number) && is_int32(number) &&
                     number >= static_cast<double>(least) && number <= static_cast<double>(most);
  if (!holds) {
    fail(name, range_text(least, most), args_->describe(value));
    return static_cast<int32_t>(least);
  }
  return static_cast<int32_t>(number);
}

int32_t ObjectReader::integer_or(const char* name, int64_t least, int64_t most,
                                 int32_t fallback) const {
  return has(name) ? integer(name, least, most) : fallback;
}

bool ObjectReader::flag_or(const char* name, bool fallback) const {
  const napi_value value = member(name);
  if (!is_defined(args_->env(), value)) return fallback;
  bool flag = fallback;
  if (napi_get_value_bool(args_->env(), value, &flag) != napi_ok) {
    fail(name, "a boolean", args_->describe(value));
  }
  return flag;
}

int32_t ObjectReader::choice(const char* name, Choices choices) const {
  const napi_value value = member(name);
  if (!args_->ok()) return 0;
  napi_valuetype type = napi_undefined;
  if (value != nullptr) napi_typeof(args_->env(), value, &type);
  if (type == napi_string) {
    const std::string text = text_of(args_->env(), value);
    int32_t number = 0;
    for (const char* choice : choices) {
      if (text == choice) return number;
      ++number;
    }
  }
  fail(name, "one of " + join(choices), args_->describe(value));
  return 0;
}

int32_t ObjectReader::choice_or(const char* name, Choices choices, int32_t fallback) const {
  return has(name) ? choice(name, choices) : fallback;
}

std::string ObjectReader::text(const char* name) const {
  const napi_value value = member(name);
  if (!args_->ok()) return "";
  napi_valuetype type = napi_undefined;
  napi_typeof(args_->env(), value, &type);
  if (type != napi_string) {
    fail(name, "a string", args_->describe(value));
    return "";
  }
  return text_of(args_->env(), value);
}

std::vector<std::string> ObjectReader::texts(const char* name) const {
  const napi_value array = member(name);
  std::vector<std::string> values;
  if (!args_->ok()) return values;
  for (const napi_value element : elements(array, place(name))) {
    napi_valuetype type = napi_undefined;
    napi_typeof(args_->env(), element, &type);
    if (type != napi_string) {
      fail(name, "an array of strings", args_->describe(element));
      return {};
    }
    values.push_back(text_of(args_->env(), element));
  }
  return values;
}

std::vector<int32_t> ObjectReader::integers(const char* name, int64_t count) const {
  const napi_value value = member(name);
  if (!args_->ok()) return {};
  const napi_env env = args_->env();
  double number = 0.0;
  if (is_number(env, value, &number)) {
    return std::vector<int32_t>(static_cast<size_t>(count), integer(name, INT32_MIN, INT32_MAX));
  }
  const std::string expected = std::to_string(count) + " integers";
  std::vector<int32_t> numbers;
  bool is_typed = false;
  if (napi_is_typedarray(env, value, &is_typed) == napi_ok && is_typed) {
    napi_typedarray_type type = napi_int8_array;
    size_t length = 0;
    void* data = nullptr;
    napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr);
    if (type != napi_int32_array) {
      fail(name, "an Int32Array or an array of integers", "another typed array");
      return {};
    }
    const auto* first = static_cast<const int32_t*>(data);
    numbers.assign(first, first + length);
  } else {
    for (const napi_value element : elements(value, place(name))) {
      if (!is_number(env, element, &number) || !is_int32(number)) {
        fail(name, "32-bit integers", args_->describe(element));
        return {};
      }
      numbers.push_back(static_cast<int32_t>(number));
    }
  }
  if (args_->ok() && static_cast<int64_t>(numbers.size()) != count) {
    fail(name, expected, std::to_string(numbers.size()));
    return {};
  }
  return numbers;
}

int64_t ObjectReader::size(const char* name) const {
  const double value = number(name);
  if (args_->ok() && !is_size(value)) fail(name, "an integer >= 0", number_text(value));
  return args_->ok() ? static_cast<int64_t>(value) : 0;
}

std::vector<int64_t> ObjectReader::sizes(const char* name) const {
  const napi_value array = member(name);
  std::vector<int64_t> values;
  if (!args_->ok()) return values;
  for (const napi_value element : elements(array, place(name))) {
    double number = 0.0;
    if (!is_number(args_->env(), element, &number) || !is_size(number)) {
      fail(name, "integers >= 0", args_->describe(element));
      return {};
    }
    values.push_back(static_cast<int64_t>(number));
  }
  return values;
}

std::vector<double> ObjectReader::numbers(const char* name) const {
  const napi_value array = member(name);
  std::vector<double> values;
  if (!args_->ok()) return values;
  for (const napi_value element : elements(array, place(name))) {
    double number = 0.0;
    if (!is_number(args_->env(), element, &number)) {
      fail(name, "numbers", args_->describe(element));
      return {};
    }
    values.push_back(number);
  }
  return values;
}

ObjectReader ObjectReader::object(const char* name) const {
  const napi_value value = member(name);
  if (args_->ok() && !is_object(args_->env(), value)) {
    fail(name, "an object", args_->describe(value));
  }
  return ObjectReader(args_, value, place(name) + ".");
}

std::vector<ObjectReader> ObjectReader::objects(const char* name) const {
  const napi_value array = member(name);
  std::vector<ObjectReader> readers;
  if (!args_->ok()) return readers;
  const std::string list = place(name);
  int64_t index = 0;
  for (const napi_value value : elements(array, list)) {
    const std::string where = list + "[" + std::to_string(index++) + "]";
    if (!is_object(args_->env(), value)) args_->fail(where, "an object", args_->describe(value));
    readers.emplace_back(args_, value, where + ".");
  }
  return args_->ok() ? readers : std::vector<ObjectReader>();
}

std::vector<std::vector<ObjectReader>> ObjectReader::object_lists(const char* name) const {
  const napi_value array = member(name);
  std::vector<std::vector<ObjectReader>> lists;
  if (!args_->ok()) return lists;
  int64_t outer = 0;
  for (const napi_value list : elements(array, place(name))) {
    const std::string where = place(name) + "[" + std::to_string(outer++) + "]";
    std::vector<ObjectReader>& readers = lists.emplace_back();
    int64_t inner = 0;
    for (const napi_value value : elements(list, where)) {
      const std::string item = where + "[" + std::to_string(inner++) + "]";
      if (!is_object(args_->env(), value)) args_->fail(item, "an object", args_->describe(value));
      readers.emplace_back(args_, value, item + ".");
    }
  }
  return args_->ok() ? lists : std::vector<std::vector<ObjectReader>>();
}

const TensorState* ObjectReader::tensor(const char* name, const TensorRule& rule) const {
  const napi_value value = member(name);
  if (!args_->ok()) return nullptr;
  return args_->accept_tensor(value, place(name), rule);
}

const TensorState* ObjectReader::tensor_or_null(const char* name, const TensorRule& rule) const {
  const napi_value value = member(name);
  if (!args_->ok() || !is_defined(args_->env(), value)) return nullptr;
  return args_->accept_tensor(value, place(name), rule);
}

void ObjectReader::require_axis(const char* name, const TensorState* tensor, int32_t axis,
                                int64_t size) const {
  if (tensor == nullptr || tensor->shape[static_cast<size_t>(axis)] == size) return;
  fail(name, std::to_string(size) + " entries on axis " + std::to_string(axis),
       "shape " + sizes_text(tensor->shape));
}

void ObjectReader::require_axis_at_least(const char* name, const TensorState* tensor, int32_t axis,
                                         int64_t size) const {
  if (tensor == nullptr || tensor->shape[static_cast<size_t>(axis)] >= size) return;
  fail(name, "at least " + std::to_string(size) + " entries on axis " + std::to_string(axis),
       "shape " + sizes_text(tensor->shape));
}

}  // namespace spindlekv
