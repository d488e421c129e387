// Asking for memory before it is needed, line by line.
//
// Always inline, as everything that only prefetches must be: GCC takes such a function for one
// without effect, and drops calls.
#pragma once

#include <cstddef>

namespace spindlekv::cpu {

inline constexpr size_t kLineBytes = 64;
// Where the lines shall go: what __builtin_prefetch calls their locality.
inline constexpr int kFirstLevel = 3;
inline constexpr int kSecondLevel = 2;

#define SKV_PREFETCH [[gnu::always_inline]] inline

// The line that holds `at`.
template <int kLevel = kFirstLevel>
SKV_PREFETCH void prefetch_line(const void* at) {
  __builtin_prefetch(at, 0, kLevel);
}

// A line every 64 bytes from `begin` on, in fours so that rows of known dimensions take no test
// each.
template <int kLevel = kFirstLevel>
SKV_PREFETCH void prefetch_bytes(const void* begin, size_t bytes) {
  constexpr size_t kFour = 4 * kLineBytes;
  const char* line = static_cast<const char*>(begin);
  size_t at = 0;
  for (; at + kFour <= bytes; at += kFour, line += kFour) {
    prefetch_line<kLevel>(line);
    prefetch_line<kLevel>(line + kLineBytes);
    prefetch_line<kLevel>(line + 2 * kLineBytes);
    prefetch_line<kLevel>(line + 3 * kLineBytes);
  }
  for (; at < bytes; at += kLineBytes, line += kLineBytes) prefetch_line<kLevel>(line);
}

// What is read below is read after the prefetches above: GCC moves them to the end of a loop, where
// they wait for everything it computes.
SKV_PREFETCH void prefetches_come_first() { asm volatile("" ::: "memory"); }

}  // namespace spindlekv::cpu
