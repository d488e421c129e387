// What the addon keeps per JavaScript environment (the main thread, or one worker thread): there
// are no mutable globals beside the table of opened backends in core/loader.cc.
#pragma once

#include <napi.h>

#include <cstdint>
#include <memory>
#include <string>

namespace spindlekv {

struct Environment {
  napi_env env = nullptr;           // nullptr once the environment is gone
  napi_ref create_error = nullptr;  // function of lib/errors.ts that makes a SpindleKVError
  std::string addon_directory;      // where the backend libraries lie

  // Tells the garbage collector about host memory it cannot see. Called on the environment's
  // thread.
  void adjust_external_memory(int64_t delta_bytes);
};

// The environment of a call; kept by handles so that they can outlive it.
std::shared_ptr<Environment> environment_of(napi_env env);

// Attaches a fresh Environment; called once per load of the addon.
bool attach_environment(napi_env env);

}  // namespace spindlekv
