// Work off the event loop: one thread per device that runs jobs in the order they were queued and
// settles their promises on the JavaScript thread.
//
// The thread reports through a raw napi_threadsafe_function. When the environment ends (process
// exit, or worker.terminate() with a job running), the function's finaliser raises every cancel
// flag and joins, so neither a crash nor a wait for the whole job follows; promises of a dead
// environment are never touched.
#pragma once

#include <napi.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "binding/environment.h"
#include "binding/handle.h"
#include "core/op_runner.h"
#include "core/status.h"

namespace spindlekv {

class DeviceState;

// A flag that the JavaScript thread raises and an op polls through SkvExec::cancel.
class CancelFlag {
 public:
  void raise() { __atomic_store_n(&value_, 1, __ATOMIC_RELEASE); }
  bool is_raised() const { return __atomic_load_n(&value_, __ATOMIC_ACQUIRE) != 0; }
  const volatile int32_t* address() const { return &value_; }

 private:
  int32_t value_ = 0;
};

template <>
struct HandleTraits<CancelFlag> {
  static constexpr char kName[] = "CancelToken";
  static constexpr uint64_t kKind = 3;
};

// What a job is made of. Everything it holds is let go on the JavaScript thread.
struct Job {
  const char* op = "";
  std::function<Status(OpRunner&)> work;
  // Makes the value the promise resolves with, on the JavaScript thread; none: undefined.
  std::function<napi_value(napi_env)> result;
  // Replaces the message of a failure when the work filled it in: texts longer than a Status holds.
  std::shared_ptr<std::string> detail;
  // Runs on the JavaScript thread before the promise settles, whatever the outcome.
  std::function<void(const Status&)> settled;
  std::vector<std::shared_ptr<void>> keepalive;
  std::shared_ptr<CancelFlag> cancel = std::make_shared<CancelFlag>();
  // Takes less time than it takes to wake another thread and be told by it. On a device in host
  // memory with nothing queued it runs at once, and the promise is settled when it is returned.
  bool is_short = false;
  // Set by the queue.
  std::shared_ptr<DeviceState> device;
  napi_deferred deferred = nullptr;
  Status status = ok_status();
};

class JobThread {
 public:
  JobThread();
  ~JobThread();
  JobThread(const JobThread&) = delete;
  JobThread& operator=(const JobThread&) = delete;

  // Starts the thread at the first job. The promise, or nullptr with an exception pending.
  static napi_value queue(napi_env env, const std::shared_ptr<JobThread>& jobs,
                          std::unique_ptr<Job> job);
  // Runs the job on the spot; needs is_idle(). Returns what queue returns.
  static napi_value run_here(napi_env env, OpRunner& runner, std::unique_ptr<Job> job);
  // Whether every job has been settled.
  bool is_idle() const { return outstanding_ == 0; }
  // No more jobs come: ends the thread once those queued have run.
  void close();

 private:
  void loop();
  bool holds_much() const;
  void stop_and_join();
  Status run(Job* job);
  void release_when_idle();
  static void call_js(napi_env env, napi_value callback, void* context, void* data);
  static void finalize(napi_env env, void* data, void* hint);

  napi_threadsafe_function function_ = nullptr;  // JavaScript thread only
  int64_t outstanding_ = 0;                      // JavaScript thread only
  bool is_closed_ = false;                       // JavaScript thread only
  std::thread thread_;
  std::unique_ptr<OpRunner> runner_;  // job thread only

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job*> queue_;
  std::vector<Job*> unsettled_;  // finished when the environment was already closing
  std::shared_ptr<CancelFlag> running_;
  bool is_stopping_ = false;
};

// Whether a job that is short would run where it is queued: memory is the host's and nothing else
// is under way.
bool runs_short_jobs_at_once(const DeviceState& device);

// Queues `job` on the device's thread, or runs it if it is short. Returns its promise; argument
// errors of a disposed or lost device reject it.
napi_value queue_job(napi_env env, const std::shared_ptr<DeviceState>& device,
                     std::unique_ptr<Job> job);

// A CancelToken of JavaScript: undefined gives a fresh flag, anything else must be a token.
Status read_cancel_token(napi_env env, napi_value value, const char* op,
                         std::shared_ptr<CancelFlag>* cancel);

void register_jobs(Napi::Env env, Napi::Object exports);

}  // namespace spindlekv
