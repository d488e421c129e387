// Shared memory of the SIMT test backend. See shared_memory.h.
#include "test/simt/shared_memory.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "test/simt/block.h"

namespace spindlekv::simt {
namespace {

constexpr unsigned char kPoison = 0xff;  // NaN as f32, f16 and bf16; -1 as an integer
constexpr size_t kDynamicAlign = 128;

}  // namespace

bool SharedMemory::allocate(Variable& variable, size_t bytes, size_t align) {
  void* memory = nullptr;
  if (posix_memalign(&memory, std::max(align, sizeof(void*)), bytes) != 0) return false;
  std::memset(memory, kPoison, bytes);
  variable.bytes = bytes;
  variable.memory.reset(memory);
  return true;
}

bool SharedMemory::reserve_dynamic(size_t bytes) {
  return bytes == 0 || allocate(dynamic_, bytes, kDynamicAlign);
}

void SharedMemory::poison() {
  for (Variable& variable : static_) std::memset(variable.memory.get(), kPoison, variable.bytes);
  if (dynamic_.bytes > 0) std::memset(dynamic_.memory.get(), kPoison, dynamic_.bytes);
}

void* SharedMemory::static_variable(const void* key, size_t bytes, size_t align) {
  for (Variable& variable : static_) {
    if (variable.key == key) return variable.memory.get();
  }
  static_bytes_ += bytes;
  if (static_bytes_ > kStaticSharedLimit || static_bytes_ + dynamic_.bytes > kSharedLimit) {
    fault(
        "shared memory: %zu static and %zu dynamic bytes are over the limit of %zu and %zu in all",
        static_bytes_, dynamic_.bytes, kStaticSharedLimit, kSharedLimit);
  }
  Variable variable;
  variable.key = key;
  if (!allocate(variable, bytes, align)) fault("no memory for %zu bytes of shared memory", bytes);
  static_.push_back(std::move(variable));
  return static_.back().memory.get();
}

void* SharedMemory::dynamic() {
  if (dynamic_.bytes == 0) {
    fault("dynamic shared memory is used, but the launch asked for 0 bytes");
  }
  return dynamic_.memory.get();
}

SharedMemory::Variable* SharedMemory::find(const void* address, size_t bytes) {
  const auto at = reinterpret_cast<uintptr_t>(address);
  const auto holds = [=](const Variable& variable) {
    const auto start = reinterpret_cast<uintptr_t>(variable.memory.get());
    return at >= start && at + bytes <= start + variable.bytes;
  };
  if (dynamic_.bytes > 0 && holds(dynamic_)) return &dynamic_;
  const auto found = std::find_if(static_.begin(), static_.end(), holds);
  return found == static_.end() ? nullptr : &*found;
}

void SharedMemory::check_race(const void* address, size_t bytes, Access access, const Touch& now) {
  Variable* variable = find(address, bytes);
  if (variable == nullptr) return;
  const size_t first = static_cast<size_t>(static_cast<const std::byte*>(address) -
                                           static_cast<const std::byte*>(variable->memory.get()));
  const Touch* earlier = variable->shadow.check(variable->bytes, first, bytes, access, now);
  if (earlier == nullptr) return;
  // Addresses as addr2line wants them: from the start of the library.
  Dl_info module{};
  dladdr(code_anchor(), &module);
  const auto anchor = reinterpret_cast<intptr_t>(code_anchor());
  const auto offset = anchor - reinterpret_cast<intptr_t>(module.dli_fbase);
  fault("race on shared memory: %s of %zu bytes at code 0x%llx, unordered with %s at 0x%llx",
        access == Access::kRead ? "read" : "write", bytes,
        static_cast<long long>(offset + now.code),
        earlier->warp == now.warp ? "another lane" : "another warp",
        static_cast<long long>(offset + earlier->code));
}

}  // namespace spindlekv::simt
