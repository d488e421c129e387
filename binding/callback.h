// Functions of the addon: C++ exceptions of the standard library (there is no other kind) end here.
#pragma once

#include <napi.h>

#include <exception>
#include <new>

#include "binding/errors.h"

namespace spindlekv {

template <Napi::Value (*kFunction)(const Napi::CallbackInfo&)>
Napi::Value guarded(const Napi::CallbackInfo& info) {
  try {
    return kFunction(info);
  } catch (const std::bad_alloc&) {
    throw_status(info.Env(), error_status(SKV_OUT_OF_MEMORY, "binding",
                                          "expected host memory for arguments, got none"));
  } catch (const std::exception& error) {
    throw_status(info.Env(), error_status(SKV_INTERNAL, "binding",
                                          "expected no exception for call, got: %s", error.what()));
  }
  return {};
}

// exports[name] = kFunction
template <Napi::Value (*kFunction)(const Napi::CallbackInfo&)>
void export_function(Napi::Env env, Napi::Object exports, const char* name) {
  exports.Set(name, Napi::Function::New<guarded<kFunction>>(env, name));
}

}  // namespace spindlekv
