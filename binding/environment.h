// What the addon keeps per JavaScript environment (the main thread, or one worker thread): there
// are no mutable globals beside the table of opened backends in core/loader.cc.
#pragma once

#include <napi.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace spindlekv {

// The states of an environment's handles by number. Numbers are given again once their handle was
// collected: nobody has them any more then.
class HandleTable {
 public:
  int32_t add(uint64_t kind, void* state);
  void remove(int32_t number);
  // The state that has this number and is of this kind, or nullptr.
  void* find(double number, uint64_t kind) const {
    if (!(number >= 0 && number < static_cast<double>(entries_.size()))) return nullptr;
    const Entry& entry = entries_[static_cast<size_t>(number)];
    return entry.kind == kind ? entry.state : nullptr;
  }

 private:
  struct Entry {
    uint64_t kind = 0;  // 0: free
    void* state = nullptr;
  };
  std::vector<Entry> entries_;
  std::vector<int32_t> free_;
};

struct Environment {
  napi_env env = nullptr;           // nullptr once the environment is gone
  napi_ref create_error = nullptr;  // function of lib/errors.ts that makes a SpindleKVError
  std::string addon_directory;      // where the backend libraries lie
  HandleTable handles;

  // Lists that a function keeps from call to call.
  enum Scratch { kStepScratch, kAttendScratch, kScratches };
  template <typename T>
  T& scratch(Scratch which) {
    if (scratches_[which] == nullptr) scratches_[which] = std::make_shared<T>();
    return *static_cast<T*>(scratches_[which].get());
  }

  // Tells the garbage collector about host memory it cannot see. Called on the environment's
  // thread.
  void adjust_external_memory(int64_t delta_bytes);

 private:
  std::shared_ptr<void> scratches_[kScratches];
};

// The environment of a call; kept by handles so that they can outlive it.
std::shared_ptr<Environment> environment_of(napi_env env);

// Attaches a fresh Environment; called once per load of the addon.
bool attach_environment(napi_env env);

}  // namespace spindlekv
