// Scheduler of the SIMT test backend. See block.h for the model.
#include "test/simt/block.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>

#include "test/simt/random.h"
#include "test/simt/ready_threads.h"
#include "test/simt/shared_memory.h"

namespace spindlekv::simt {

thread_local Thread* current_thread = nullptr;

bool Site::operator==(const Site& other) const {
  return line == other.line && std::strcmp(file, other.file) == 0;
}

const char* Site::short_file() const {
  const char* start = file;
  for (const char* at = file; *at != 0; ++at) {
    if (std::strncmp(at, "/cuda/", 6) == 0 || std::strncmp(at, "/test/", 6) == 0) start = at + 1;
  }
  return start;
}

class Block {
 public:
  Block(const LaunchShape& shape, const std::function<void()>& kernel)
      : shape_(shape), kernel_(kernel) {}

  LaunchResult run();

  // Fiber side.
  void body();
  [[noreturn]] void fail(const char* format, va_list args);
  unsigned barrier(unsigned value, Site site);
  void rendezvous(const char* name, unsigned mask, const void* input, void* output,
                  WarpResolve resolve, Site site);
  SharedMemory& shared() { return shared_; }
  void check_race(const void* address, size_t bytes, Access access, const void* code);

 private:
  bool prepare();
  void run_block(uint3 block_idx);
  void suspend(ThreadState state);
  void make_runnable(Thread& thread);
  void report_deadlock();

  const LaunchShape& shape_;
  const std::function<void()>& kernel_;
  unsigned thread_count_ = 0;
  std::vector<Thread> threads_;
  FiberPool* fibers_ = nullptr;
  FiberHost host_;
  Random random_{0};
  ReadyThreads runnable_;
  unsigned alive_ = 0;
  unsigned at_barrier_ = 0;
  unsigned barrier_sum_ = 0;
  unsigned first_at_barrier_ = 0;
  bool has_failed_ = false;
  SharedMemory shared_;
  uint64_t time_ = 0;  // of race.h
  std::vector<uint32_t> warp_times_;
  std::vector<unsigned> warp_waiting_;  // by warp: the lanes that wait in a warp operation
  LaunchResult result_;

  friend LaunchResult run_launch(const LaunchShape&, const std::function<void()>&);
};

namespace {

void fiber_main() {
  Block* block = current_thread->block;
  block->body();
}

Site waiting_site(const Thread& thread) {
  return thread.state == ThreadState::kAtBarrier ? thread.barrier_site : thread.warp.site;
}

// Stacks are kept between launches; launches from several OS threads each take a pool of their own.
struct PoolShelf {
  std::mutex mutex;
  std::vector<std::unique_ptr<FiberPool>> idle;
};

PoolShelf& pool_shelf() {
  static PoolShelf* shelf = new PoolShelf;  // outlives every user; stays reachable for leak checks
  return *shelf;
}

std::unique_ptr<FiberPool> take_pool() {
  PoolShelf& shelf = pool_shelf();
  const std::lock_guard<std::mutex> lock(shelf.mutex);
  if (shelf.idle.empty()) return std::make_unique<FiberPool>();
  auto pool = std::move(shelf.idle.back());
  shelf.idle.pop_back();
  return pool;
}

void give_pool_back(std::unique_ptr<FiberPool> pool) {
  PoolShelf& shelf = pool_shelf();
  const std::lock_guard<std::mutex> lock(shelf.mutex);
  shelf.idle.push_back(std::move(pool));
}

}  // namespace

bool Block::prepare() {
  thread_count_ = shape_.block.x * shape_.block.y * shape_.block.z;
  if (!fibers_->reserve(thread_count_)) {
    std::snprintf(result_.message, sizeof(result_.message), "no memory for %u fiber stacks",
                  thread_count_);
    return false;
  }
  if (!shared_.reserve_dynamic(shape_.dynamic_shared_bytes)) {
    std::snprintf(result_.message, sizeof(result_.message), "no memory for shared memory");
    return false;
  }
  threads_.resize(thread_count_);
  const size_t warps = (thread_count_ + kWarpLanes - 1) / kWarpLanes;
  warp_times_.assign(warps, 0);
  warp_waiting_.assign(warps, 0);
  for (unsigned index = 0; index < thread_count_; ++index) {
    Thread& thread = threads_[index];
    thread.index = index;
    thread.thread_idx.x = index % shape_.block.x;
    thread.thread_idx.y = index / shape_.block.x % shape_.block.y;
    thread.thread_idx.z = index / (shape_.block.x * shape_.block.y);
    thread.block_dim = shape_.block;
    thread.grid_dim = shape_.grid;
    thread.block = this;
  }
  return true;
}

LaunchResult Block::run() {
  random_ = Random(launch_seed());
  if (!prepare()) {
    result_.ok = false;
    return result_;
  }
  const uint64_t grid_blocks =
      uint64_t{shape_.grid.x} * uint64_t{shape_.grid.y} * uint64_t{shape_.grid.z};
  RandomOrder order(grid_blocks, random_);
  Thread* const outer = current_thread;
  for (uint64_t step = 0; step < grid_blocks && !has_failed_; ++step) {
    const uint64_t linear = order.next();
    uint3 block_idx;
    block_idx.x = static_cast<unsigned>(linear % shape_.grid.x);
    block_idx.y = static_cast<unsigned>(linear / shape_.grid.x % shape_.grid.y);
    block_idx.z = static_cast<unsigned>(linear / (uint64_t{shape_.grid.x} * shape_.grid.y));
    run_block(block_idx);
  }
  current_thread = outer;
  result_.ok = !has_failed_;
  return result_;
}

void Block::run_block(uint3 block_idx) {
  shared_.poison();
  ++time_;
  std::fill(warp_waiting_.begin(), warp_waiting_.end(), 0u);
  runnable_.start(random_);
  for (unsigned index = 0; index < thread_count_; ++index) {
    Thread& thread = threads_[index];
    thread.block_idx = block_idx;
    thread.state = ThreadState::kRunnable;
    thread.warp = WarpSlot{};
    thread.copies.clear();
    thread.open_group = 0;
    fibers_->prepare(index, fiber_main);
    runnable_.push(index);
  }
  alive_ = thread_count_;
  at_barrier_ = 0;
  barrier_sum_ = 0;
  while (alive_ > 0 && !has_failed_) {
    if (runnable_.empty()) {
      report_deadlock();
      return;
    }
    const unsigned index = runnable_.take(random_);
    current_thread = &threads_[index];
    switch_to(host_, (*fibers_)[index]);
  }
}

void Block::body() {
  on_fiber_entry(host_);
  kernel_();
  Thread& self = *current_thread;
  if (!self.copies.empty())
    fault("the kernel ended with %zu async copies not waited for", self.copies.size());
  self.state = ThreadState::kExited;
  --alive_;
  switch_back((*fibers_)[self.index], host_, true);
}

void Block::suspend(ThreadState state) {
  Thread& self = *current_thread;
  self.state = state;
  switch_back((*fibers_)[self.index], host_, false);
}

void Block::make_runnable(Thread& thread) {
  thread.state = ThreadState::kRunnable;
  runnable_.push(thread.index);
}

void Block::fail(const char* format, va_list args) {
  Thread& self = *current_thread;
  const uint3 block = self.block_idx;
  const uint3 thread = self.thread_idx;
  const int used = std::snprintf(result_.message, sizeof(result_.message),
                                 "block (%u,%u,%u) thread (%u,%u,%u): ", block.x, block.y, block.z,
                                 thread.x, thread.y, thread.z);
  std::vsnprintf(result_.message + used, sizeof(result_.message) - static_cast<size_t>(used),
                 format, args);
  has_failed_ = true;
  for (;;) switch_back((*fibers_)[self.index], host_, true);
}

unsigned Block::barrier(unsigned value, Site site) {
  Thread& self = *current_thread;
  if (at_barrier_ > 0) {
    const Thread& first = threads_[first_at_barrier_];
    if (first.barrier_site != site) {
      fault("divergent barrier: this thread is at %s:%d, thread %u at %s:%d", site.short_file(),
            site.line, first_at_barrier_, first.barrier_site.short_file(), first.barrier_site.line);
    }
  } else {
    first_at_barrier_ = self.index;
    barrier_sum_ = 0;
  }
  self.barrier_site = site;
  barrier_sum_ += value != 0 ? 1u : 0u;
  ++at_barrier_;
  if (at_barrier_ < thread_count_) {
    suspend(ThreadState::kAtBarrier);
    return self.barrier_result;
  }
  at_barrier_ = 0;
  ++time_;
  runnable_.draw_order(random_);
  for (Thread& thread : threads_) {
    thread.barrier_result = barrier_sum_;
    if (&thread != &self) make_runnable(thread);
  }
  // The last to arrive must not always be the first to leave.
  make_runnable(self);
  switch_back((*fibers_)[self.index], host_, false);
  return self.barrier_result;
}

void Block::rendezvous(const char* name, unsigned mask, const void* input, void* output,
                       WarpResolve resolve, Site site) {
  Thread& self = *current_thread;
  const unsigned base = self.index - self.index % kWarpLanes;
  const unsigned lanes = thread_count_ - base < kWarpLanes ? thread_count_ - base : kWarpLanes;
  const unsigned present = lanes == kWarpLanes ? 0xffffffffu : (1u << lanes) - 1u;
  if ((mask & ~present) != 0) {
    fault("%s at %s:%d: mask %08x names lanes that the block does not have (%08x)", name,
          site.short_file(), site.line, mask, present);
  }
  if (((mask >> (self.index - base)) & 1u) == 0) {
    fault("%s at %s:%d: mask %08x does not name the calling lane %u", name, site.short_file(),
          site.line, mask, self.index - base);
  }
  self.warp = WarpSlot{name, mask, site, input, output};
  self.state = ThreadState::kAtWarp;
  unsigned& waiting = warp_waiting_[base / kWarpLanes];
  waiting |= 1u << (self.index - base);
  if ((waiting & mask) != mask) {
    suspend(ThreadState::kAtWarp);
    return;
  }
  WarpCall call{name, mask, {}, {}};
  for (unsigned lane = 0; lane < lanes; ++lane) {
    if (((mask >> lane) & 1u) == 0) continue;
    const Thread& other = threads_[base + lane];
    const WarpSlot& slot = other.warp;
    if (slot.mask != mask) {  // it waits for another set of lanes and may still come here later
      suspend(ThreadState::kAtWarp);
      return;
    }
    if (slot.site != site || std::strcmp(slot.name, name) != 0) {
      fault("divergent warp operation: this lane is in %s at %s:%d, lane %u in %s at %s:%d", name,
            site.short_file(), site.line, lane, slot.name, slot.site.short_file(), slot.site.line);
    }
    call.input[lane] = slot.input;
    call.output[lane] = slot.output;
  }
  if (resolve != nullptr) {
    resolve(call);
  } else {
    ++warp_times_[base / kWarpLanes];  // __syncwarp alone orders memory
  }
  waiting &= ~mask;
  for (unsigned lane = 0; lane < lanes; ++lane) {
    if (((mask >> lane) & 1u) != 0) make_runnable(threads_[base + lane]);
  }
  switch_back((*fibers_)[self.index], host_, false);
}

void Block::report_deadlock() {
  has_failed_ = true;
  unsigned exited = 0;
  const Thread* waiting = nullptr;
  const Thread* other = nullptr;  // waits somewhere else than `waiting`
  for (const Thread& thread : threads_) {
    if (thread.state == ThreadState::kExited) {
      ++exited;
    } else if (waiting == nullptr) {
      waiting = &thread;
    } else if (other == nullptr && waiting_site(thread) != waiting_site(*waiting)) {
      other = &thread;
    }
  }
  const auto describe = [](const Thread& thread, char* text, size_t bytes) {
    const bool is_barrier = thread.state == ThreadState::kAtBarrier;
    const Site site = waiting_site(thread);
    std::snprintf(text, bytes, "thread %u waits in %s at %s:%d", thread.index,
                  is_barrier ? "__syncthreads" : thread.warp.name, site.short_file(), site.line);
  };
  char first[96] = "";
  char second[96] = "";
  if (waiting != nullptr) describe(*waiting, first, sizeof(first));
  if (other != nullptr) describe(*other, second, sizeof(second));
  const uint3 block = threads_[0].block_idx;
  std::snprintf(result_.message, sizeof(result_.message),
                "block (%u,%u,%u) deadlocks: %s%s%s; %u threads have ended", block.x, block.y,
                block.z, first, other != nullptr ? ", " : "", second, exited);
}

void Block::check_race(const void* address, size_t bytes, Access access, const void* code) {
  const unsigned thread = current_thread->index;
  const unsigned warp = thread / kWarpLanes;
  const auto distance =
      reinterpret_cast<intptr_t>(code) - reinterpret_cast<intptr_t>(code_anchor());
  const Touch now{time_, warp_times_[warp], static_cast<uint16_t>(thread),
                  static_cast<uint16_t>(warp), static_cast<int32_t>(distance)};
  shared_.check_race(address, bytes, access, now);
}

LaunchResult run_launch(const LaunchShape& shape, const std::function<void()>& kernel) {
  auto pool = take_pool();
  LaunchResult result;
  {
    Block block(shape, kernel);
    block.fibers_ = pool.get();
    result = block.run();
  }
  give_pool_back(std::move(pool));
  return result;
}

void fault(const char* format, ...) {
  va_list args;
  va_start(args, format);
  current_thread->block->fail(format, args);
}

unsigned block_barrier(unsigned value, Site site) {
  return current_thread->block->barrier(value, site);
}

void warp_rendezvous(const char* name, unsigned mask, const void* input, void* output,
                     WarpResolve resolve, Site site) {
  current_thread->block->rendezvous(name, mask, input, output, resolve, site);
}

void* static_shared(const void* key, size_t bytes, size_t align) {
  return current_thread->block->shared().static_variable(key, bytes, align);
}

void* dynamic_shared() { return current_thread->block->shared().dynamic(); }

bool is_shared(const void* address, size_t bytes) {
  return current_thread->block->shared().holds(address, bytes);
}

void check_race(const void* address, size_t bytes, Access access, const void* code) {
  current_thread->block->check_race(address, bytes, access, code);
}

void copy_unseen(void* target, const void* source, size_t bytes) {
  std::memcpy(target, source, bytes);
}

void check_aligned(const void* address, size_t bytes, const char* what) {
  if (reinterpret_cast<uintptr_t>(address) % bytes != 0) {
    fault("%s: address %p is not aligned to %zu bytes", what, address, bytes);
  }
}

}  // namespace spindlekv::simt
