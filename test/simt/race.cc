// The rule of the race checker. See race.h.
#include "test/simt/race.h"

namespace spindlekv::simt {
namespace {

// True when `earlier` is by another thread and nothing stands between it and `now`.
bool is_unordered(const Touch& earlier, const Touch& now) {
  if (earlier.block_time != now.block_time) return false;
  if (earlier.warp != now.warp) return true;
  return earlier.warp_time == now.warp_time && earlier.thread != now.thread;
}

// Folds a read into what is known of earlier reads. Reads by several warps since the last block
// barrier, or by several lanes since the last warp barrier, need no more detail: whoever writes
// next races with one of them.
void add_read(Touch& known, const Touch& now) {
  if (known.block_time != now.block_time) {
    known = now;
  } else if (known.warp != now.warp) {
    known.warp = kSeveral;
  } else if (known.warp_time != now.warp_time) {
    known = now;
  } else if (known.thread != now.thread) {
    known.thread = kSeveral;
  }
}

}  // namespace

const Touch* ShadowMemory::check(size_t size, size_t first, size_t bytes, Access access,
                                 const Touch& now) {
  if (bytes_ == nullptr) bytes_ = std::make_unique<Shadow[]>(size);
  for (size_t at = first; at < first + bytes; ++at) {
    Shadow& shadow = bytes_[at];
    const bool are_both_atomic = access == Access::kAtomic && shadow.is_atomic;
    if (!are_both_atomic && is_unordered(shadow.write, now)) return &shadow.write;
    if (access == Access::kRead) {
      add_read(shadow.read, now);
      continue;
    }
    if (is_unordered(shadow.read, now)) return &shadow.read;
    shadow.write = now;
    shadow.is_atomic = access == Access::kAtomic;
  }
  return nullptr;
}

}  // namespace spindlekv::simt
