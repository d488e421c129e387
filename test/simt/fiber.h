// Fibers for the SIMT test backend: one stack per emulated CUDA thread, all on one OS thread.
//
// A fiber is entered with `switch_to` from the scheduler and gives control back with
// `switch_back`. The saved state is the callee-saved registers and the stack pointer only: the
// floating-point control words are the same in every fiber and are never changed by a kernel.
//
// Lifetime: stacks belong to a `FiberPool` and are reused from block to block. A fiber may be
// abandoned half-way (a faulting block); the pool cleans its AddressSanitizer shadow on reuse.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace spindlekv::simt {

// Entry point of a fiber. It must never return; the last thing it does is `switch_back`.
using FiberEntry = void (*)();

struct Fiber {
  void* stack_pointer = nullptr;  // valid while the fiber is not running
  std::byte* stack = nullptr;     // lowest usable address
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's handle for a suspended fiber
  void* fallback_context = nullptr;
};

// The scheduler's side of the switch: where to come back to.
struct FiberHost {
  void* stack_pointer = nullptr;
  void* fake_stack = nullptr;
  const void* stack_bottom = nullptr;  // learnt from the sanitizer on the first switch
  size_t stack_bytes = 0;
  void* fallback_context = nullptr;
};

class FiberPool {
 public:
  FiberPool() = default;
  FiberPool(const FiberPool&) = delete;
  FiberPool& operator=(const FiberPool&) = delete;
  ~FiberPool();

  // Makes at least `count` stacks exist. Returns false when the memory cannot be had.
  bool reserve(size_t count);

  // Prepares fiber `index` to start in `entry` at its next `switch_to`.
  void prepare(size_t index, FiberEntry entry);

  Fiber& operator[](size_t index) { return *fibers_[index]; }

 private:
  std::vector<std::unique_ptr<Fiber>> fibers_;
};

// Runs `fiber` until it calls `switch_back` (scheduler side).
void switch_to(FiberHost& host, Fiber& fiber);

// Suspends `fiber` and returns to the scheduler. `ends` tells the sanitizer that the fiber will
// never be resumed.
void switch_back(Fiber& fiber, FiberHost& host, bool ends);

// First call of every fiber's entry function: completes the sanitizer's switch protocol.
void on_fiber_entry(FiberHost& host);

}  // namespace spindlekv::simt
