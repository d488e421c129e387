// An open device as JavaScript sees it.
#pragma once

#include <napi.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "binding/capture.h"
#include "binding/environment.h"
#include "binding/handle.h"
#include "binding/job.h"
#include "core/memory.h"
#include "core/op_runner.h"
#include "core/status.h"

namespace spindlekv {

class DeviceState {
 public:
  DeviceState(std::shared_ptr<Environment> environment, std::string kind, int32_t ordinal);
  ~DeviceState();
  DeviceState(const DeviceState&) = delete;
  DeviceState& operator=(const DeviceState&) = delete;

  // Device memory of everybody: tensors, pools, workspaces. Set once the device is open.
  const std::shared_ptr<DeviceMemory>& memory() const { return memory_; }
  const std::shared_ptr<Environment>& environment() const { return environment_; }
  const std::string& kind() const { return kind_; }
  int32_t ordinal() const { return ordinal_; }
  bool is_disposed() const { return is_disposed_; }
  // Whether its memory is host memory, which the garbage collector should know about.
  bool uses_host_memory() const { return kind_ != "cuda"; }

  // Runs ops on the JavaScript thread.
  OpRunner& runner() { return *runner_; }
  const std::shared_ptr<JobThread>& jobs() const { return jobs_; }

  // While the device captures, the ops of the JavaScript thread go here; else nullptr.
  Recording* recording() const { return recording_.get(); }
  // Starts a capture or, with nullptr, ends it; returns what was recorded before.
  std::unique_ptr<Recording> set_recording(std::unique_ptr<Recording> recording) {
    return std::exchange(recording_, std::move(recording));
  }
  // Fails while the device captures, and then so does the capture: for all that is not recorded.
  Status check_runs_now(const char* op);

  // Loads the backend and opens the device; may run on the job thread.
  Status open(int32_t threads, std::string* detail);
  // Ends the job thread once its jobs have run. Memory stays until its owners let go.
  void dispose();

  bool is_usable() const { return !is_disposed_ && memory_ != nullptr && !is_lost_; }
  // Fails with SKV_DISPOSED or SKV_DEVICE_LOST if the device can do nothing any more.
  Status check_usable(const char* op) const;
  // Looks at what the backend returned: a CUDA error after which the device does not even
  // synchronise makes it lost. Returns `status`. Called on any thread.
  Status note(const Status& status);
  // The error that made the device lost, as a JavaScript object, or nullptr.
  napi_value loss_cause(napi_env env) const;

 private:
  std::shared_ptr<Environment> environment_;
  std::string kind_;
  int32_t ordinal_;
  std::shared_ptr<DeviceMemory> memory_;
  std::unique_ptr<OpRunner> runner_;
  std::shared_ptr<JobThread> jobs_;
  std::unique_ptr<Recording> recording_;
  bool is_disposed_ = false;
  mutable std::mutex mutex_;
  std::atomic<bool> is_lost_ = false;  // written under mutex_, after first_failure_
  Status first_failure_ = ok_status();
};

template <>
struct HandleTraits<DeviceState> {
  static constexpr char kName[] = "Device";
  static constexpr uint64_t kKind = 1;
};

// Throws the JavaScript error of a failed call on `device` (nullptr: none is known yet), with the
// cause that a lost device has.
void throw_device_status(napi_env env, const DeviceState* device, const Status& status);

void register_device(Napi::Env env, Napi::Object exports);

}  // namespace spindlekv
