#include "binding/job.h"

#include <chrono>
#include <exception>
#include <new>
#include <system_error>
#include <utility>

#include "binding/callback.h"
#include "binding/device.h"
#include "binding/errors.h"

namespace spindlekv {
namespace {

Status aborted(const char* op) {
  return error_status(SKV_ABORTED, op, "expected to finish, got an abort");
}

napi_value undefined_of(napi_env env) {
  napi_value value = nullptr;
  napi_get_undefined(env, &value);
  return value;
}

// Settles the promise of a finished job. Every call may fail because the environment is ending;
// then nobody is left to be told.
void settle(napi_env env, Job* job) {
  if (job->settled) job->settled(job->status);
  if (is_ok(job->status)) {
    const napi_value value = job->result ? job->result(env) : undefined_of(env);
    if (value != nullptr) {
      static_cast<void>(napi_resolve_deferred(env, job->deferred, value));
      return;
    }
    napi_value exception = nullptr;
    if (napi_get_and_clear_last_exception(env, &exception) == napi_ok) {
      static_cast<void>(napi_reject_deferred(env, job->deferred, exception));
    }
    return;
  }
  const napi_value cause =
      job->status.code == SKV_DEVICE_LOST ? job->device->loss_cause(env) : nullptr;
  const bool has_detail = job->detail != nullptr && !job->detail->empty();
  const napi_value error =
      make_error(env, job->status, cause, has_detail ? job->detail.get() : nullptr);
  if (error != nullptr) static_cast<void>(napi_reject_deferred(env, job->deferred, error));
}

// The one place where exceptions of the standard library end.
template <class Work>
Status guarded(const char* op, const Work& work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return error_status(SKV_OUT_OF_MEMORY, op, "expected host memory for job, got none");
  } catch (const std::exception& error) {
    return error_status(SKV_INTERNAL, op, "expected no exception for job, got: %s", error.what());
  }
}

}  // namespace

JobThread::JobThread() = default;

JobThread::~JobThread() { stop_and_join(); }

napi_value JobThread::queue(napi_env env, const std::shared_ptr<JobThread>& jobs,
                            std::unique_ptr<Job> job) {
  napi_value promise = nullptr;
  if (napi_create_promise(env, &job->deferred, &promise) != napi_ok) return nullptr;

  if (jobs->function_ == nullptr) {
    napi_value name = nullptr;
    napi_create_string_utf8(env, "spindlekv job", NAPI_AUTO_LENGTH, &name);
    auto* share = new std::shared_ptr<JobThread>(jobs);
    const napi_status status = napi_create_threadsafe_function(
        env, nullptr, nullptr, name, 0, 1, share, finalize, jobs.get(), call_js, &jobs->function_);
    if (status != napi_ok) {
      delete share;
      throw_status(env, error_status(SKV_INTERNAL, job->op,
                                     "expected a thread-safe function for job, got status %d",
                                     static_cast<int>(status)));
      return nullptr;
    }
    // An idle device does not keep the process alive.
    napi_unref_threadsafe_function(env, jobs->function_);
  }
  if (!jobs->thread_.joinable()) {
    try {
      jobs->thread_ = std::thread(&JobThread::loop, jobs.get());
    } catch (const std::system_error& error) {
      throw_status(env, error_status(SKV_INTERNAL, job->op, "expected a thread for job, got: %s",
                                     error.what()));
      return nullptr;
    }
  }
  if (jobs->outstanding_++ == 0) napi_ref_threadsafe_function(env, jobs->function_);
  {
    const std::lock_guard<std::mutex> lock(jobs->mutex_);
    jobs->queue_.push_back(job.release());
  }
  jobs->wake_.notify_one();
  return promise;
}

void JobThread::close() {
  is_closed_ = true;
  release_when_idle();
}

void JobThread::release_when_idle() {
  if (!is_closed_ || outstanding_ > 0 || function_ == nullptr) return;
  // Ends in finalize, which joins the thread.
  napi_release_threadsafe_function(std::exchange(function_, nullptr), napi_tsfn_abort);
}

// Whether the workspace is so large that it is not kept for jobs that may never come: what a
// compression of a long context needs once.
bool JobThread::holds_much() const {
  constexpr size_t kKeptBytes = size_t{64} << 20;
  return runner_ != nullptr && runner_->workspace_bytes() > kKeptBytes;
}

void JobThread::loop() {
  constexpr std::chrono::seconds kIdleTime{1};
  const auto has_news = [this] { return is_stopping_ || !queue_.empty(); };
  for (;;) {
    Job* job = nullptr;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      if (!holds_much()) {
        wake_.wait(lock, has_news);
      } else if (!wake_.wait_for(lock, kIdleTime, has_news)) {
        lock.unlock();
        runner_->release_workspace();
        continue;
      }
      if (is_stopping_) return;
      job = queue_.front();
      queue_.pop_front();
      running_ = job->cancel;
    }
    job->status = run(job);
    const std::lock_guard<std::mutex> lock(mutex_);
    running_.reset();
    // While the environment closes the job stays here: what it holds is let go on its own thread.
    // The lock keeps finalize, which sets is_stopping_, from freeing the function meanwhile.
    const bool is_told = !is_stopping_ && napi_call_threadsafe_function(
                                              function_, job, napi_tsfn_nonblocking) == napi_ok;
    if (!is_told) unsettled_.push_back(job);
  }
}

napi_value JobThread::run_here(napi_env env, OpRunner& runner, std::unique_ptr<Job> job) {
  napi_value promise = nullptr;
  if (napi_create_promise(env, &job->deferred, &promise) != napi_ok) return nullptr;
  job->status = job->cancel->is_raised()
                    ? aborted(job->op)
                    : job->device->note(guarded(job->op, [&] { return job->work(runner); }));
  settle(env, job.get());
  return promise;
}

Status JobThread::run(Job* job) {
  if (job->cancel->is_raised()) return aborted(job->op);
  return guarded(job->op, [&] {
    if (runner_ == nullptr && job->device->memory() != nullptr) {
      runner_ = std::make_unique<OpRunner>(job->device->memory());
    }
    if (runner_ == nullptr) {
      OpRunner none(nullptr);  // for the job that opens the device
      return job->work(none);
    }
    runner_->set_cancel(job->cancel->address());
    const Status status = job->device->note(job->work(*runner_));
    runner_->set_cancel(nullptr);
    return status;
  });
}

void JobThread::stop_and_join() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_stopping_ = true;
    if (running_ != nullptr) running_->raise();
    for (Job* job : queue_) job->cancel->raise();
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  for (Job* job : queue_) delete job;
  for (Job* job : unsettled_) delete job;
  queue_.clear();
  unsettled_.clear();
  runner_.reset();
}

void JobThread::call_js(napi_env env, napi_value, void* context, void* data) {
  const std::unique_ptr<Job> job(static_cast<Job*>(data));
  if (env == nullptr) return;
  auto* jobs = static_cast<JobThread*>(context);
  settle(env, job.get());
  if (--jobs->outstanding_ == 0 && jobs->function_ != nullptr) {
    napi_unref_threadsafe_function(env, jobs->function_);
  }
  jobs->release_when_idle();
}

void JobThread::finalize(napi_env, void* data, void*) {
  auto* share = static_cast<std::shared_ptr<JobThread>*>(data);
  (*share)->stop_and_join();
  (*share)->function_ = nullptr;
  delete share;
}

bool runs_short_jobs_at_once(const DeviceState& device) {
  return device.uses_host_memory() && device.jobs()->is_idle();
}

napi_value queue_job(napi_env env, const std::shared_ptr<DeviceState>& device,
                     std::unique_ptr<Job> job) {
  Status usable = device->check_usable(job->op);
  if (is_ok(usable)) usable = device->check_runs_now(job->op);
  if (!is_ok(usable)) {
    throw_device_status(env, device.get(), usable);
    return nullptr;
  }
  job->device = device;
  if (job->is_short && runs_short_jobs_at_once(*device)) {
    return JobThread::run_here(env, device->runner(), std::move(job));
  }
  return JobThread::queue(env, device->jobs(), std::move(job));
}

Status read_cancel_token(napi_env env, napi_value value, const char* op,
                         std::shared_ptr<CancelFlag>* cancel) {
  napi_valuetype type = napi_undefined;
  napi_typeof(env, value, &type);
  if (type == napi_undefined) {
    *cancel = std::make_shared<CancelFlag>();
    return ok_status();
  }
  *cancel = unwrap_handle<CancelFlag>(env, value);
  if (*cancel != nullptr) return ok_status();
  return error_status(SKV_ARGUMENT, op, "expected a CancelToken for token, got something else");
}

namespace {

// (object): makes it a CancelToken.
Napi::Value attach_cancel_token(const Napi::CallbackInfo& info) {
  if (wrap_handle(info.Env(), info[0], std::make_shared<CancelFlag>()) == kNoHandle) {
    throw_status(info.Env(), error_status(SKV_ARGUMENT, "attachCancelToken",
                                          "expected a fresh object for token, got another"));
  }
  return info.Env().Undefined();
}

// (token): raises it.
Napi::Value cancel(const Napi::CallbackInfo& info) {
  const std::shared_ptr<CancelFlag> flag = unwrap_handle<CancelFlag>(info.Env(), info[0]);
  if (flag == nullptr) {
    throw_status(info.Env(), error_status(SKV_ARGUMENT, "cancel",
                                          "expected a CancelToken for token, got something else"));
    return info.Env().Undefined();
  }
  flag->raise();
  return info.Env().Undefined();
}

}  // namespace

void register_jobs(Napi::Env env, Napi::Object exports) {
  export_function<attach_cancel_token>(env, exports, "attachCancelToken");
  export_function<cancel>(env, exports, "cancel");
}

}  // namespace spindlekv
