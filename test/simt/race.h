// Race checker for shared memory: two threads of a block touch the same byte, one of them writes,
// and nothing orders them.
//
// Ordered are: accesses with a block barrier in between; accesses of one warp with a __syncwarp()
// in between (shuffles order no memory); two atomics. Reports come from the first schedule that
// runs the code, whatever order it was run in, because what counts is the barriers between, not the
// time.
//
// The kernels' loads and stores arrive through the hooks that `-fsanitize=thread` plants in them
// (race_hooks.cc stands in for the sanitizer's own runtime). Without that flag nothing is checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace spindlekv::simt {

enum class Access : uint8_t { kRead, kWrite, kAtomic };

// Who touched a byte last, and when. A time is a barrier count that never goes back.
struct Touch {
  uint64_t block_time = 0;
  uint32_t warp_time = 0;
  uint16_t thread = 0;
  uint16_t warp = 0;
  int32_t code = 0;  // distance of the instruction from code_anchor()
};

struct Shadow {
  Touch write;
  Touch read;
  bool is_atomic = false;
};

inline constexpr uint16_t kSeveral = 0xffff;  // of a Touch's thread or warp

// The shadow of one shared variable; made at its first checked access.
class ShadowMemory {
 public:
  // Checks and records an access to bytes [first, first + bytes) of a variable of `size` bytes.
  // Returns the earlier access it races with, or null.
  const Touch* check(size_t size, size_t first, size_t bytes, Access access, const Touch& now);

 private:
  std::unique_ptr<Shadow[]> bytes_;
};

// Tells the checker of an access by the running thread that no hook sees (async copies, ldmatrix,
// atomics). Does nothing unless a hook was ever called.
void note_access(const void* address, size_t bytes, Access access, const void* code);

// A fixed place in the library's code; see Touch::code.
const void* code_anchor();

}  // namespace spindlekv::simt
