// Entry point of spindlekv.node, run once for every environment that loads it.
#include <napi.h>

#include "binding/args.h"
#include "binding/callback.h"
#include "binding/capture.h"
#include "binding/device.h"
#include "binding/environment.h"
#include "binding/errors.h"
#include "binding/job.h"
#include "binding/ops/register.h"
#include "binding/rope_options.h"
#include "binding/store.h"
#include "binding/tensor.h"

namespace spindlekv {
namespace {

// ({ directory, createError }): where the backends lie, and what makes errors. Called by
// lib/native.ts before anything else.
Napi::Value initialize(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments args(env, "initialize");
  const ObjectReader options = args.object(info[0], "options");
  const std::string directory = options.text("directory");
  if (!args.ok()) return Napi::Value(env, args.raise());
  const Napi::Value create_error = info[0].As<Napi::Object>().Get("createError");
  if (!create_error.IsFunction()) {
    args.fail("createError", "a function", args.describe(create_error));
    return Napi::Value(env, args.raise());
  }
  const std::shared_ptr<Environment> environment = environment_of(env);
  environment->addon_directory = directory;
  if (environment->create_error != nullptr) {
    napi_delete_reference(env, environment->create_error);
    environment->create_error = nullptr;
  }
  napi_create_reference(env, create_error, 1, &environment->create_error);
  return env.Undefined();
}

Napi::Object register_addon(Napi::Env env, Napi::Object exports) {
  if (!attach_environment(env)) return exports;
  export_function<initialize>(env, exports, "initialize");
  register_device(env, exports);
  register_tensor(env, exports);
  register_jobs(env, exports);
  register_capture(env, exports);
  register_rope_table(env, exports);
  register_ops(env, exports);
  register_attend_by_numbers(env, exports);
  register_pool(env, exports);
  register_store(env, exports);
  register_draft(env, exports);
  return exports;
}

}  // namespace
}  // namespace spindlekv

// The macro below makes names from the function's, so it cannot take a qualified one.
static Napi::Object register_spindlekv(Napi::Env env, Napi::Object exports) {
  return spindlekv::register_addon(env, exports);
}

NODE_API_MODULE(spindlekv, register_spindlekv)
