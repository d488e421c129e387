// Reading JavaScript arguments. The first thing that is wrong is kept as a Status in the words
// "expected <what> for <param>, got <value>"; reads after it give defaults and do nothing, so a
// reader function needs one check at its end:
//
//   Arguments args(env, "attend");
//   const ObjectReader params = args.object(info[0], "params");
//   const TensorState* q = params.tensor("q", {.rank = 3});
//   if (!args.ok()) return args.raise();
//
// Tensors must be alive and all on one device; they are kept alive until the Arguments' share is
// dropped.
#pragma once

#include <napi.h>

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "binding/device.h"
#include "binding/tensor.h"
#include "core/status.h"

namespace spindlekv {

class Arguments;

// Values as messages show them.
std::string number_text(double value);
std::string sizes_text(const std::vector<int64_t>& sizes);

// What a tensor must be like. Masks are sets of SkvDType bits.
constexpr uint32_t dtype_bit(int32_t dtype) { return 1u << dtype; }
inline constexpr uint32_t kFloatDtypes = (1u << SKV_F32) | (1u << SKV_F16) | (1u << SKV_BF16);

struct TensorRule {
  uint32_t dtypes = 0;         // 0: any
  int32_t rank = -1;           // -1: any
  bool has_dense_rows = true;  // the last axis has stride 1
  bool is_contiguous = false;  // every axis
};

// Names of an option's values, in the order of the numbers they stand for.
using Choices = std::initializer_list<const char*>;

// An object whose members are read; `path` is what it is called in messages ("" for the params).
class ObjectReader {
 public:
  ObjectReader(Arguments* args, napi_value object, std::string path)
      : args_(args), object_(object), path_(std::move(path)) {}

  bool has(const char* name) const;  // there and not undefined
  int32_t integer(const char* name, int64_t least, int64_t most) const;
  int32_t integer_or(const char* name, int64_t least, int64_t most, int32_t fallback) const;
  double number(const char* name) const;
  double number_or(const char* name, double fallback) const;
  bool flag_or(const char* name, bool fallback) const;
  int32_t choice(const char* name, Choices choices) const;
  int32_t choice_or(const char* name, Choices choices, int32_t fallback) const;
  std::string text(const char* name) const;
  std::vector<std::string> texts(const char* name) const;
  // Host integers: an array, an Int32Array, or one number for all of `count`; exactly `count` of
  // them.
  std::vector<int32_t> integers(const char* name, int64_t count) const;
  // Sizes, strides, offsets: integers from 0 to 2^53.
  int64_t size(const char* name) const;
  std::vector<int64_t> sizes(const char* name) const;
  std::vector<double> numbers(const char* name) const;
  ObjectReader object(const char* name) const;
  std::vector<ObjectReader> objects(const char* name) const;
  std::vector<std::vector<ObjectReader>> object_lists(const char* name) const;
  // nullptr when something is wrong (tensor) or when it is not given (tensor_or_null).
  const TensorState* tensor(const char* name, const TensorRule& rule) const;
  const TensorState* tensor_or_null(const char* name, const TensorRule& rule) const;

  // Adds a failure about member `name`. printf formats are applied by the caller.
  void fail(const char* name, const std::string& expected, const std::string& actual) const;
  // Fails unless the tensor's axis has exactly / at least that many entries. nullptr passes.
  void require_axis(const char* name, const TensorState* tensor, int32_t axis, int64_t size) const;
  void require_axis_at_least(const char* name, const TensorState* tensor, int32_t axis,
                             int64_t size) const;
  std::string place(const char* name) const { return path_ + name; }
  Arguments& args() const { return *args_; }

 private:
  napi_value member(const char* name) const;
  std::vector<napi_value> elements(napi_value array, const std::string& place) const;

  Arguments* args_;
  napi_value object_;
  std::string path_;
};

class Arguments {
 public:
  Arguments(napi_env env, const char* op) : env_(env), op_(op) {}

  napi_env env() const { return env_; }
  const char* op() const { return op_; }
  bool ok() const { return is_ok(status_) && !is_exception_pending_; }
  const Status& status() const { return status_; }

  // The params object itself.
  ObjectReader object(napi_value value, const char* name);
  // A device handle: usable, and the same as that of every tensor.
  std::shared_ptr<DeviceState> device_handle(napi_value value, const char* name);
  // The device that all tensors so far are on, or nullptr.
  const std::shared_ptr<DeviceState>& device() const { return device_; }
  std::vector<std::shared_ptr<void>>& keepalive() { return keepalive_; }

  void fail(const std::string& param, const std::string& expected, const std::string& actual);
  void fail(const Status& status);
  // Throws the failure (or leaves the exception that a getter threw) and returns nullptr.
  napi_value raise();

  // A short rendering of a JavaScript value for messages: `null`, `"abc"`, `3.5`, `an array of 4`.
  std::string describe(napi_value value) const;

 private:
  friend class ObjectReader;
  const TensorState* accept_tensor(napi_value value, const std::string& place,
                                   const TensorRule& rule);
  void note_exception() { is_exception_pending_ = true; }

  napi_env env_;
  const char* op_;
  Status status_ = ok_status();
  bool is_exception_pending_ = false;
  std::shared_ptr<DeviceState> device_;
  std::vector<std::shared_ptr<void>> keepalive_;
};

// What a function returns whose arguments were wrong.
inline Napi::Value raise(const Napi::CallbackInfo& info, Arguments* args) {
  return Napi::Value(info.Env(), args->raise());
}

}  // namespace spindlekv
