// Asking for memory before it is needed, line by line.
#pragma once

#include <cstddef>

namespace spindlekv::cpu {

inline void prefetch_bytes(const void* begin, size_t bytes) {
  constexpr size_t kLine = 64;
  for (size_t at = 0; at < bytes; at += kLine) {
    __builtin_prefetch(static_cast<const char*>(begin) + at);
  }
}

}  // namespace spindlekv::cpu
