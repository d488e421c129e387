// Dividing an op's workspace. One function of the params lays it out; the op's size function asks
// for bytes() and the op itself for the pieces, so the two cannot disagree.
//
//   struct Pieces { SkvRun* runs; float* partials; };
//   Pieces lay_out(WorkspaceLayout& layout, const SkvXParams& p) {
//     return {layout.take<SkvRun>(p.n_runs), layout.take<float>(...)};
//   }
//   size:  WorkspaceLayout layout;                  lay_out(layout, p);  return layout.bytes();
//   op:    WorkspaceLayout layout(exec.workspace);  const Pieces pieces = lay_out(layout, p);
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/common/device.h"

namespace spindlekv::cuda {

class WorkspaceLayout {
 public:
  // Without memory it only measures; its pieces must not be used then.
  explicit WorkspaceLayout(void* memory = nullptr) : base_(static_cast<std::byte*>(memory)) {}

  // The next piece, 256-byte aligned; null when `count` is 0 or there is no memory.
  template <typename T>
  T* take(int64_t count) {
    if (count <= 0) return nullptr;
    const size_t offset = bytes_;
    const size_t wanted = static_cast<size_t>(count) * sizeof(T);
    bytes_ += (wanted + kAllocationAlignment - 1) / kAllocationAlignment * kAllocationAlignment;
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + offset);
  }

  size_t bytes() const { return bytes_; }

 private:
  std::byte* base_;
  size_t bytes_ = 0;
};

}  // namespace spindlekv::cuda
