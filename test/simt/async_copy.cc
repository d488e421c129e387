// Asynchronous copies of the SIMT test backend: the data lands only when the copying thread waits.
//
// Hardware may write the destination at any moment between issue and wait. Both ends of that
// freedom are made visible: the destination is poisoned at issue (a copy issued while the buffer is
// still being read shows up) and filled at the wait (a missing wait shows up).
#include <algorithm>
#include <cstring>

#include "test/simt/block.h"

namespace spindlekv::simt {

void async_copy(void* destination, const void* source, uint32_t bytes, uint32_t read_bytes) {
  check_aligned(destination, bytes, "async copy destination");
  check_aligned(source, bytes, "async copy source");
  if (!is_shared(destination, bytes)) fault("async copy: the destination is not in shared memory");
  note_access(destination, bytes, Access::kWrite, __builtin_return_address(0));
  std::memset(destination, 0xff, bytes);
  Thread& self = *current_thread;
  self.copies.push_back(AsyncCopy{destination, source, bytes, read_bytes, self.open_group});
}

void async_commit() { ++current_thread->open_group; }

void async_wait(int groups_left) {
  const void* code = __builtin_return_address(0);
  Thread& self = *current_thread;
  const int landed_before = self.open_group - groups_left;
  const auto lands = [=](const AsyncCopy& copy) { return copy.group < landed_before; };
  for (const AsyncCopy& copy : self.copies) {
    if (!lands(copy)) continue;
    note_access(copy.destination, copy.bytes, Access::kWrite, code);
    std::memset(copy.destination, 0, copy.bytes);
    if (copy.read_bytes > 0) std::memcpy(copy.destination, copy.source, copy.read_bytes);
  }
  std::erase_if(self.copies, lands);
}

}  // namespace spindlekv::simt
