// Functions of the addon: C++ exceptions of the standard library (there is no other kind) end here.
#pragma once

#include <napi.h>

#include <exception>
#include <new>

#include "binding/environment.h"
#include "binding/errors.h"

namespace spindlekv {

template <class Body>
auto guard(napi_env env, const Body& body) -> decltype(body()) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    throw_status(env, error_status(SKV_OUT_OF_MEMORY, "binding",
                                   "expected host memory for arguments, got none"));
  } catch (const std::exception& error) {
    throw_status(env, error_status(SKV_INTERNAL, "binding",
                                   "expected no exception for call, got: %s", error.what()));
  }
  return {};
}

template <Napi::Value (*kFunction)(const Napi::CallbackInfo&)>
Napi::Value guarded(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] { return kFunction(info); });
}

// A call of a function that is called often: at most kMostArguments, undefined where there are
// fewer, and the environment without looking it up.
struct QuickCall {
  static constexpr size_t kMostArguments = 10;
  napi_env env;
  Environment* environment;
  napi_value arguments[kMostArguments];
};

template <napi_value (*kFunction)(const QuickCall&)>
napi_value quick(napi_env env, napi_callback_info info) {
  return guard(env, [&]() -> napi_value {
    QuickCall call;
    size_t count = QuickCall::kMostArguments;
    void* data = nullptr;
    if (napi_get_cb_info(env, info, &count, call.arguments, nullptr, &data) != napi_ok) return {};
    call.env = env;
    call.environment = static_cast<Environment*>(data);
    return kFunction(call);
  });
}

// exports[name] = kFunction. The environment outlives every call that it takes.
template <napi_value (*kFunction)(const QuickCall&)>
void export_quick(Napi::Env env, Napi::Object exports, const char* name) {
  napi_value function = nullptr;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, quick<kFunction>, environment_of(env).get(),
                           &function) == napi_ok) {
    exports.Set(name, Napi::Value(env, function));
  }
}

// exports[name] = kFunction
template <Napi::Value (*kFunction)(const Napi::CallbackInfo&)>
void export_function(Napi::Env env, Napi::Object exports, const char* name) {
  exports.Set(name, Napi::Function::New<guarded<kFunction>>(env, name));
}

}  // namespace spindlekv
