#include "binding/environment.h"

namespace spindlekv {

int32_t HandleTable::add(uint64_t kind, void* state) {
  if (free_.empty()) {
    entries_.push_back({kind, state});
    free_.reserve(entries_.capacity());  // remove cannot fail
    return static_cast<int32_t>(entries_.size() - 1);
  }
  const int32_t number = free_.back();
  free_.pop_back();
  entries_[static_cast<size_t>(number)] = {kind, state};
  return number;
}

void HandleTable::remove(int32_t number) {
  entries_[static_cast<size_t>(number)] = {};
  free_.push_back(number);
}

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
