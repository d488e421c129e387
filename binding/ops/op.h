// What the ops have in common: read the params object, check, then run now or queue.
//
// An op is a struct `Call` with
//   static constexpr char kName[]               name in JavaScript
//   Skv<Op>Params params                        and whatever host arrays it points into
//   void read(const ObjectReader&)              fills them
//   static Status check(const Params&)          of core/check.h
//   static Status run(OpRunner&, const Params&)
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "binding/args.h"
#include "binding/callback.h"
#include "binding/device.h"
#include "binding/job.h"
#include "core/check.h"
#include "core/check/checker.h"
#include "core/op_runner.h"

namespace spindlekv {

template <typename T>
T* pointer_of(const TensorState* tensor) {
  return tensor == nullptr ? nullptr : static_cast<T*>(tensor->data());
}

inline int64_t stride_of(const TensorState* tensor, int32_t axis) {
  return tensor == nullptr ? 0 : tensor->strides[static_cast<size_t>(axis)];
}

// A size of a tensor as the int32 of the param structs; sizes beyond that are refused.
inline int32_t size_of(const ObjectReader& reader, const char* name, const TensorState* tensor,
                       int32_t axis) {
  if (tensor == nullptr) return 0;
  const int64_t size = tensor->shape[static_cast<size_t>(axis)];
  if (size > INT32_MAX)
    reader.fail(name, "fewer than 2^31 entries on an axis", std::to_string(size));
  return static_cast<int32_t>(size);
}

// Fails unless rows may have that many elements. Said early, before sizes are compared with a wrong
// one.
inline void require_head_dim(const ObjectReader& reader, int32_t head_dim) {
  if (head_dim >= kMinHeadDim && head_dim <= kMaxHeadDim && head_dim % kHeadDimStep == 0) return;
  reader.fail("headDim", "a multiple of 8 in [8, 512]", std::to_string(head_dim));
}

// Query heads per KV head; fails unless there are 1..16.
inline int32_t group_of(const ObjectReader& reader, int32_t query_heads, size_t kv_heads) {
  if (kv_heads == 0) return 0;
  const auto heads = static_cast<int32_t>(kv_heads);
  if (query_heads % heads != 0) {
    reader.fail("q", "a multiple of " + std::to_string(heads) + " heads on axis 0",
                std::to_string(query_heads));
  }
  const int32_t group = query_heads / heads;
  if (group < 1 || group > kMaxGroup) {
    reader.fail("group", "1 to 16 query heads per KV head", std::to_string(group));
  }
  return group;
}

// Optional f32 outputs [rows, >= length] of one call, which share a stride.
struct ScoreRows {
  int64_t rows;
  int64_t length;
  int64_t stride = 0;

  float* read(const ObjectReader& reader, const char* name) {
    const TensorState* tensor =
        reader.tensor_or_null(name, {.dtypes = dtype_bit(SKV_F32), .rank = 2});
    if (tensor == nullptr) return nullptr;
    reader.require_axis(name, tensor, 0, rows);
    reader.require_axis_at_least(name, tensor, 1, length);
    const int64_t own = stride_of(tensor, 0);
    if (stride != 0 && stride != own) {
      reader.fail(name, "the row stride of the other outputs (" + std::to_string(stride) + ")",
                  std::to_string(own));
    }
    stride = own;
    return pointer_of<float>(tensor);
  }
};

// One i32 that an op adds to, or NULL.
inline int32_t* read_counter(const ObjectReader& reader, const char* name) {
  const TensorState* counter =
      reader.tensor_or_null(name, {.dtypes = dtype_bit(SKV_I32), .rank = 1, .is_contiguous = true});
  reader.require_axis(name, counter, 0, 1);
  return pointer_of<int32_t>(counter);
}

// The params of a call that may run; nullptr with an exception pending otherwise.
template <typename Call>
std::shared_ptr<Call> read_call(Arguments* args, napi_value params) {
  auto call = std::make_shared<Call>();
  call->read(args->object(params, "params"));
  if (args->ok()) args->fail(Call::check(call->params));
  if (args->ok()) return call;
  args->raise();
  return nullptr;
}

// A failure under the name of the op that was called, also where its workspace could not be had.
template <typename Call>
Status named(Status status) {
  if (!is_ok(status)) status.op = Call::kName;
  return status;
}

// The op as work for later.
template <typename Call>
std::function<Status(OpRunner&)> run_of(const std::shared_ptr<Call>& call) {
  return [call](OpRunner& run) { return named<Call>(Call::run(run, call->params)); };
}

// (params): enqueues, or adds to the device's capture; a call without any tensor has nothing to do.
template <typename Call>
Napi::Value run_op(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), Call::kName);
  const std::shared_ptr<Call> call = read_call<Call>(&args, info[0]);
  if (call == nullptr || args.device() == nullptr) return info.Env().Undefined();
  DeviceState& device = *args.device();
  if (device.recording() != nullptr) {
    device.recording()->ops.push_back(RecordedOp{run_of(call), std::move(args.keepalive())});
    return info.Env().Undefined();
  }
  const Status status = device.note(named<Call>(Call::run(device.runner(), call->params)));
  if (!is_ok(status)) throw_device_status(info.Env(), &device, status);
  return info.Env().Undefined();
}

// (params, token?) => Promise<void>, resolved when the device is done.
template <typename Call>
Napi::Value queue_op(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments args(env, Call::kName);
  const std::shared_ptr<Call> call = read_call<Call>(&args, info[0]);
  if (call == nullptr) return {};
  auto job = std::make_unique<Job>();
  args.fail(read_cancel_token(env, info[1], Call::kName, &job->cancel));
  if (!args.ok()) return Napi::Value(env, args.raise());
  if (args.device() == nullptr) {
    Napi::Promise::Deferred done = Napi::Promise::Deferred::New(env);
    done.Resolve(env.Undefined());
    return done.Promise();
  }
  job->op = Call::kName;
  job->keepalive = std::move(args.keepalive());
  job->work = [enqueue = run_of(call)](OpRunner& run) {
    SKV_RETURN_IF_ERROR(enqueue(run));
    return run.synchronize();
  };
  return Napi::Value(env, queue_job(env, args.device(), std::move(job)));
}

template <typename Call>
void register_op(Napi::Env env, Napi::Object exports) {
  export_function<run_op<Call>>(env, exports, Call::kName);
  export_function<queue_op<Call>>(env, exports, (std::string(Call::kName) + "Async").c_str());
}

}  // namespace spindlekv
