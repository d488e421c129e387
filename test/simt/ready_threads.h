// Which of a block's runnable fibers runs next. Two schedules, drawn anew for every block:
//   - any of them, at random: threads of all warps advance side by side;
//   - one warp as far as it gets, then the next, in an order drawn at every block barrier: finds
//   what
//     the first cannot, a warp that is already past a missing barrier before another has started.
#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "test/simt/random.h"

namespace spindlekv::simt {

class ReadyThreads {
 public:
  // Forgets everything and draws the schedule.
  void start(Random& random) {
    for (std::vector<unsigned>& queue : queues_) queue.clear();
    waiting_ = 0;
    by_warp_ = random.below(2) == 1;
    draw_order(random);
  }

  // A new order of the warps; only while no thread is ready.
  void draw_order(Random& random) {
    if (!by_warp_) return;
    for (unsigned rank = 0; rank < kMostWarps; ++rank) rank_of_[rank] = rank;
    for (unsigned rank = kMostWarps; rank > 1; --rank) {
      std::swap(rank_of_[rank - 1], rank_of_[random.below(rank)]);
    }
  }

  void push(unsigned thread) {
    const unsigned rank = by_warp_ ? rank_of_[thread / kLanes] : 0;
    queues_[rank].push_back(thread);
    waiting_ |= 1u << rank;
  }

  bool empty() const { return waiting_ == 0; }

  // One thread of the first rank that has any.
  unsigned take(Random& random) {
    const unsigned rank = static_cast<unsigned>(__builtin_ctz(waiting_));
    std::vector<unsigned>& queue = queues_[rank];
    const size_t pick = random.below(queue.size());
    const unsigned thread = queue[pick];
    queue[pick] = queue.back();
    queue.pop_back();
    if (queue.empty()) waiting_ &= ~(1u << rank);
    return thread;
  }

 private:
  static constexpr unsigned kLanes = 32;
  static constexpr unsigned kMostWarps = 32;  // 1024 threads
  std::array<std::vector<unsigned>, kMostWarps> queues_;
  std::array<unsigned, kMostWarps> rank_of_{};
  uint32_t waiting_ = 0;  // bit: the queue of that rank holds something
  bool by_warp_ = false;
};

}  // namespace spindlekv::simt
