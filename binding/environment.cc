#include "binding/environment.h"

namespace spindlekv {

void Environment::adjust_external_memory(int64_t delta_bytes) {
  if (env == nullptr || delta_bytes == 0) return;
  int64_t total = 0;
  // Only a hint to the collector: if it is refused there is nothing to undo.
  static_cast<void>(napi_adjust_external_memory(env, delta_bytes, &total));
}

std::shared_ptr<Environment> environment_of(napi_env env) {
  void* data = nullptr;
  if (napi_get_instance_data(env, &data) != napi_ok || data == nullptr) return nullptr;
  return *static_cast<std::shared_ptr<Environment>*>(data);
}

bool attach_environment(napi_env env) {
  auto* share = new std::shared_ptr<Environment>(std::make_shared<Environment>());
  (*share)->env = env;
  const auto finalize = [](napi_env, void* data, void*) {
    auto* environment = static_cast<std::shared_ptr<Environment>*>(data);
    (*environment)->env = nullptr;
    (*environment)->create_error = nullptr;  // deleted with the environment
    delete environment;
  };
  return napi_set_instance_data(env, share, finalize, nullptr) == napi_ok;
}

}  // namespace spindlekv
