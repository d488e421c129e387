// A pool of threads that sleep when there is nothing to do.
//
// It lives inside a Node.js process, so idle threads must not spin: other JavaScript threads need
// the cores. Work is handed out in ranges of consecutive tasks that grow shorter towards the end,
// so that a thread mostly goes on where it was; a task must write only what it owns, so that
// results do not depend on the number of threads or on who runs what. Threads keep off the
// processor of the caller where the system lets them (docs/decisions/0008).
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "core/status.h"

namespace spindlekv::cpu {

class ThreadPool {
 public:
  ThreadPool() = default;
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // lanes: how many threads may work on one call, the caller included; lanes - 1 are started here.
  Status start(int lanes);

  int lanes() const { return static_cast<int>(workers_.size()) + 1; }

  // Runs task(index, lane) for every index in [0, count) and returns when all have finished.
  // `lane`, in [0, lanes()), belongs to one thread at a time within the call: it names scratch
  // memory. The calling thread takes part as lane 0. May be called from several threads at once and
  // from inside a task. task must not throw.
  template <class Task>
  void parallel_for(int64_t count, const Task& task) {
    run(
        count,
        [](const void* context, int64_t index, int lane) {
          (*static_cast<const Task*>(context))(index, lane);
        },
        &task);
  }

 private:
  using Invoke = void (*)(const void* context, int64_t index, int lane);

  struct Job {
    Invoke invoke;
    const void* context;
    int64_t count;
    int takes;  // one takes 1 / takes of what is left
    std::atomic<int64_t> taken{0};
    std::atomic<int> helpers{0};  // workers inside the job; written under mutex_
    Job* next = nullptr;
  };

  void run(int64_t count, Invoke invoke, const void* context);
  static void drain(Job& job, int lane);
  // Looks for it for a short while; false: some are still there.
  static bool helpers_leave_soon(const Job& job);
  Job* find_open_job();
  void work(int lane);
  void stop();

  std::mutex mutex_;
  std::condition_variable has_work_;
  std::condition_variable helper_left_;
  Job* jobs_ = nullptr;  // oldest first; guarded by mutex_
  bool stopping_ = false;
  int caller_cpu_ = -1;  // of the job that began last, -1: not known; guarded by mutex_
  std::vector<std::thread> workers_;
};

}  // namespace spindlekv::cpu
