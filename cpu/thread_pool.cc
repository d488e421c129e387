// Jobs live on the stack of their callers and hang in a list; workers help the oldest one that
// still has tasks to give. A caller runs tasks itself until none is left, then waits for the
// helpers inside its job.
#include "cpu/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <system_error>

#if defined(__linux__) || defined(__APPLE__)
#include <pthread.h>
#include <signal.h>
#endif
#if defined(__linux__)
#include <sched.h>
#include <unistd.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace spindlekv::cpu {
namespace {

// A thread takes this part of its fair share of what is left: few takes at first, single tasks in
// the end.
constexpr int kTakesPerShare = 4;

// How long a caller that has run out of tasks looks whether its helpers finish their last ones
// before it sleeps: about what that costs, so that it loses at most twice the better choice
// (docs/decisions/0008).
constexpr std::chrono::microseconds kPatience{40};
constexpr int kLooksPerClock = 8;

// Leaves the core to its other hardware thread for a moment.
void relax() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

#if defined(__linux__)

int current_cpu() { return sched_getcpu(); }

// Where the calling thread may run.
class Seat {
 public:
  // Away from `cpu`, and not back before another is left; as it is if there is no other. What may
  // be used is what somebody else allowed this thread last, less what the process may not use now.
  void leave(int cpu) {
    cpu_set_t now, process;
    if (sched_getaffinity(0, sizeof(now), &now) != 0) return;
    if (sched_getaffinity(getpid(), sizeof(process), &process) != 0) return;
    if (!is_set_ || !CPU_EQUAL(&now, &set_)) allowed_ = now;
    cpu_set_t others;
    CPU_AND(&others, &allowed_, &process);
    CPU_CLR(cpu, &others);
    if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof(others), &others) != 0) return;
    set_ = others;
    is_set_ = true;
  }

 private:
  cpu_set_t allowed_, set_;
  bool is_set_ = false;
};

#else

int current_cpu() { return -1; }

class Seat {
 public:
  void leave(int) {}
};

#endif

}  // namespace

ThreadPool::~ThreadPool() { stop(); }

Status ThreadPool::start(int lanes) {
#if defined(__linux__) || defined(__APPLE__)
  // Signals belong to the threads of the host process.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
#endif
  Status status = ok_status();
  try {
    workers_.reserve(static_cast<size_t>(lanes));
    for (int lane = 1; lane < lanes; ++lane) workers_.emplace_back([this, lane] { work(lane); });
  } catch (const std::system_error& error) {
    status = error_status(SKV_OUT_OF_MEMORY, "open", "expected to start %d threads, got: %s",
                          lanes - 1, error.what());
    status.native_code = error.code().value();
  }
#if defined(__linux__) || defined(__APPLE__)
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
#endif
  if (!is_ok(status)) stop();
  return status;
}

void ThreadPool::stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  has_work_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
}

void ThreadPool::drain(Job& job, int lane) {
  for (;;) {
    int64_t first = job.taken.load(std::memory_order_relaxed);
    int64_t n = 0;
    do {
      if (first >= job.count) return;
      n = std::max<int64_t>(1, (job.count - first) / job.takes);
    } while (!job.taken.compare_exchange_weak(first, first + n, std::memory_order_relaxed));
    for (int64_t index = first; index < first + n; ++index) job.invoke(job.context, index, lane);
  }
}

void ThreadPool::run(int64_t count, Invoke invoke, const void* context) {
  if (count <= 0) return;
  if (count == 1 || workers_.empty()) {
    for (int64_t index = 0; index < count; ++index) invoke(context, index, 0);
    return;
  }

  Job job{invoke, context, count, lanes() * kTakesPerShare};
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    Job** tail = &jobs_;
    while (*tail != nullptr) tail = &(*tail)->next;
    *tail = &job;
    caller_cpu_ = current_cpu();
  }
  const int64_t wanted = count - 1;
  if (wanted >= static_cast<int64_t>(workers_.size())) {
    has_work_.notify_all();
  } else {
    for (int64_t i = 0; i < wanted; ++i) has_work_.notify_one();
  }

  drain(job, 0);

  // No task is left, so nobody new joins; once unlinked and without helpers the job may go out of
  // scope. The mutex also makes what the helpers wrote visible here.
  std::unique_lock<std::mutex> lock(mutex_);
  Job** link = &jobs_;
  while (*link != &job) link = &(*link)->next;
  *link = job.next;
  if (job.helpers == 0) return;
  lock.unlock();
  if (helpers_leave_soon(job)) return;
  lock.lock();
  helper_left_.wait(lock, [&job] { return job.helpers == 0; });
}

bool ThreadPool::helpers_leave_soon(const Job& job) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  do {
    for (int i = 0; i < kLooksPerClock; ++i) {
      if (job.helpers.load(std::memory_order_acquire) == 0) return true;
      relax();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

ThreadPool::Job* ThreadPool::find_open_job() {
  for (Job* job = jobs_; job != nullptr; job = job->next) {
    if (job->taken.load(std::memory_order_relaxed) < job->count) return job;
  }
  return nullptr;
}

void ThreadPool::work(int lane) {
#if defined(__linux__)
  pthread_setname_np(pthread_self(), "spindlekv-cpu");
#endif
  Seat seat;
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_) {
    Job* const job = find_open_job();
    if (job == nullptr) {
      has_work_.wait(lock);
      // Linux may have woken it where the caller works though others are idle.
      const int cpu = caller_cpu_;
      if (cpu >= 0 && cpu == current_cpu()) {
        lock.unlock();
        seat.leave(cpu);
        lock.lock();
      }
      continue;
    }
    ++job->helpers;
    lock.unlock();
    drain(*job, lane);
    lock.lock();
    if (--job->helpers == 0) helper_left_.notify_all();
  }
}

}  // namespace spindlekv::cpu
