// Carving arrays out of an op's workspace.
//
// The same function lays out the arrays twice: without memory to say how many bytes the op needs,
// and with the caller's workspace to hand out pointers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace spindlekv::cpu {

class Carver {
 public:
  // base: the workspace, aligned to kLine at least; NULL only measures.
  explicit Carver(void* base) : base_(static_cast<char*>(base)) {}

  // Uninitialised room for `count` elements; NULL when measuring.
  template <class T>
  T* take(int64_t count) {
    static_assert(alignof(T) <= kLine);
    char* const at = base_ == nullptr ? nullptr : base_ + used_;
    used_ += (sizeof(T) * static_cast<size_t>(count) + kLine - 1) / kLine * kLine;
    return reinterpret_cast<T*>(at);
  }

  size_t used() const { return used_; }

 private:
  // A cache line: arrays of different threads share none.
  static constexpr size_t kLine = 64;

  char* base_;
  size_t used_ = 0;
};

}  // namespace spindlekv::cpu
