// The CUDA execution model on one OS thread: blocks, threads as fibers, rendezvous points.
//
// A launch runs its blocks one after the other in seeded random order. Inside a block every thread
// is a fiber that runs until it waits (block barrier or warp operation) or ends; who runs next is
// drawn at random, thread by thread or warp by warp (ready_threads.h), so code that needs a missing
// barrier sees any order.
//
// What is an error here although some hardware forgives it:
//   - threads of a block meeting at different `__syncthreads()` lines, or one ending before it;
//   - lanes of a warp operation meeting at different lines, or a mask naming an absent lane;
//   - a shuffle reading from a lane outside the mask;
//   - an async copy that is never waited for.
// A faulting block is abandoned, the launch fails with a message naming block, thread and line.
#pragma once

#include <vector_types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "test/simt/fiber.h"
#include "test/simt/race.h"

namespace spindlekv::simt {

inline constexpr int kWarpLanes = 32;

// Limits of the emulated device: the smallest of the architectures that are compiled for
// (sm_86, sm_89 and sm_120 have 100 KiB an SM, of which a block may take 99 KiB).
inline constexpr size_t kStaticSharedLimit = size_t{48} << 10;
inline constexpr size_t kSharedLimit = size_t{99} << 10;
inline constexpr unsigned kMaxBlockThreads = 1024;

// A source line; where a thread waits.
struct Site {
  const char* file;
  int line;

  bool operator==(const Site& other) const;
  const char* short_file() const;  // the path from the repository root on
};

enum class ThreadState : uint8_t { kRunnable, kAtBarrier, kAtWarp, kExited };

struct AsyncCopy {
  void* destination;
  const void* source;
  uint32_t bytes;       // 4, 8 or 16
  uint32_t read_bytes;  // the rest is zero-filled
  int group;            // index of the commit group it belongs to
};

// One lane's part of a warp operation while it waits for the others.
struct WarpSlot {
  const char* name = nullptr;
  unsigned mask = 0;
  Site site{"", 0};
  const void* input = nullptr;
  void* output = nullptr;
};

class Block;

struct Thread {
  uint3 thread_idx{};
  uint3 block_idx{};
  dim3 block_dim;
  dim3 grid_dim;
  unsigned index = 0;  // linear index in the block
  ThreadState state = ThreadState::kRunnable;
  Block* block = nullptr;
  Site barrier_site{"", 0};
  unsigned barrier_value = 0;   // contribution to __syncthreads_count/_and/_or
  unsigned barrier_result = 0;  // number of threads with a non-zero contribution
  WarpSlot warp{};
  std::vector<AsyncCopy> copies;
  int open_group = 0;
};

// The running thread; null outside a launch. The initial-exec model keeps threadIdx cheap inside
// the shared library.
#if defined(__GNUC__)
extern thread_local Thread* current_thread __attribute__((tls_model("initial-exec")));
#else
extern thread_local Thread* current_thread;
#endif

// The lanes of one completed warp operation, as the resolving function sees them.
struct WarpCall {
  const char* name;
  unsigned mask;
  const void* input[kWarpLanes];
  void* output[kWarpLanes];

  bool has(int lane) const { return (mask >> lane) & 1u; }
};
using WarpResolve = void (*)(WarpCall&);

struct LaunchShape {
  const char* op;
  dim3 grid;
  dim3 block;
  size_t dynamic_shared_bytes;
};

struct LaunchResult {
  bool ok = true;
  char message[320] = {0};
};

// Runs `kernel` once per thread. `kernel` is called on fiber stacks.
LaunchResult run_launch(const LaunchShape& shape, const std::function<void()>& kernel);

// --- called from inside a kernel ---------------------------------------------------------------

// Ends the launch with an error; the message is prefixed with block and thread.
[[noreturn]] void fault(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Block barrier. Returns how many threads came with a non-zero `value`.
unsigned block_barrier(unsigned value, Site site);

// Rendezvous of the lanes in `mask`; the last lane to arrive runs `resolve` for all of them.
void warp_rendezvous(const char* name, unsigned mask, const void* input, void* output,
                     WarpResolve resolve, Site site);

// Storage of a static shared variable, the same for every thread of the block. `key` is unique to
// the variable (the address of a function-local static).
void* static_shared(const void* key, size_t bytes, size_t align);

// Dynamic shared memory of the launch; a fault when the launch asked for none.
void* dynamic_shared();

// True when [address, address + bytes) lies in one shared variable of the running block.
bool is_shared(const void* address, size_t bytes);

// Ends the launch when the access races with an earlier one (race.h). `code` is the instruction.
void check_race(const void* address, size_t bytes, Access access, const void* code);

// memcpy that the race checker does not see, for accesses that were announced by note_access.
void copy_unseen(void* target, const void* source, size_t bytes);

// The lane of the running thread in its warp.
inline int current_lane() { return static_cast<int>(current_thread->index % kWarpLanes); }

void check_aligned(const void* address, size_t bytes, const char* what);

void async_copy(void* destination, const void* source, uint32_t bytes, uint32_t read_bytes);
void async_commit();
void async_wait(int groups_left);

}  // namespace spindlekv::simt
