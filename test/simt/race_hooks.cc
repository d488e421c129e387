// The functions that `-fsanitize=thread` calls before every load and store, for the race checker.
// The objects that are compiled so are linked without the sanitizer's runtime; its names end here.
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "test/simt/block.h"
#include "test/simt/race.h"

namespace spindlekv::simt {
namespace {

std::atomic<bool> is_hooked{false};

inline void on_access(const void* address, size_t bytes, Access access, const void* code) {
  if (!is_hooked.load(std::memory_order_relaxed)) is_hooked = true;
  if (current_thread != nullptr) check_race(address, bytes, access, code);
}

}  // namespace

void note_access(const void* address, size_t bytes, Access access, const void* code) {
  if (is_hooked.load(std::memory_order_relaxed) && current_thread != nullptr)
    check_race(address, bytes, access, code);
}

const void* code_anchor() { return reinterpret_cast<const void*>(&note_access); }

}  // namespace spindlekv::simt

using spindlekv::simt::Access;
using spindlekv::simt::on_access;

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}

#define SKV_SIMT_HOOK(name, bytes, access) \
  void name(void* address) { on_access(address, bytes, access, __builtin_return_address(0)); }
#define SKV_SIMT_HOOKS(bytes)                                                \
  SKV_SIMT_HOOK(__tsan_read##bytes, bytes, Access::kRead)                    \
  SKV_SIMT_HOOK(__tsan_write##bytes, bytes, Access::kWrite)                  \
  SKV_SIMT_HOOK(__tsan_unaligned_read##bytes, bytes, Access::kRead)          \
  SKV_SIMT_HOOK(__tsan_unaligned_write##bytes, bytes, Access::kWrite)        \
  SKV_SIMT_HOOK(__tsan_volatile_read##bytes, bytes, Access::kRead)           \
  SKV_SIMT_HOOK(__tsan_volatile_write##bytes, bytes, Access::kWrite)         \
  SKV_SIMT_HOOK(__tsan_unaligned_volatile_read##bytes, bytes, Access::kRead) \
  SKV_SIMT_HOOK(__tsan_unaligned_volatile_write##bytes, bytes, Access::kWrite)
SKV_SIMT_HOOKS(1)
SKV_SIMT_HOOKS(2)
SKV_SIMT_HOOKS(4)
SKV_SIMT_HOOKS(8)
SKV_SIMT_HOOKS(16)
#undef SKV_SIMT_HOOKS
#undef SKV_SIMT_HOOK

void __tsan_read_range(void* address, size_t bytes) {
  on_access(address, bytes, Access::kRead, __builtin_return_address(0));
}
void __tsan_write_range(void* address, size_t bytes) {
  on_access(address, bytes, Access::kWrite, __builtin_return_address(0));
}

// Host code of the same files uses atomics; the hooks for those only do what was asked.
#define SKV_SIMT_ATOMIC_HOOKS(bits, Int)                                                           \
  Int __tsan_atomic##bits##_load(const volatile Int* address, int) {                               \
    return __atomic_load_n(address, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  void __tsan_atomic##bits##_store(volatile Int* address, Int value, int) {                        \
    __atomic_store_n(address, value, __ATOMIC_SEQ_CST);                                            \
  }                                                                                                \
  Int __tsan_atomic##bits##_exchange(volatile Int* address, Int value, int) {                      \
    return __atomic_exchange_n(address, value, __ATOMIC_SEQ_CST);                                  \
  }                                                                                                \
  Int __tsan_atomic##bits##_fetch_add(volatile Int* address, Int value, int) {                     \
    return __atomic_fetch_add(address, value, __ATOMIC_SEQ_CST);                                   \
  }                                                                                                \
  Int __tsan_atomic##bits##_fetch_sub(volatile Int* address, Int value, int) {                     \
    return __atomic_fetch_sub(address, value, __ATOMIC_SEQ_CST);                                   \
  }                                                                                                \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile Int* address, Int* expected,          \
                                                    Int value, int, int) {                         \
    return __atomic_compare_exchange_n(address, expected, value, false, __ATOMIC_SEQ_CST,          \
                                       __ATOMIC_SEQ_CST);                                          \
  }                                                                                                \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile Int* address, Int* expected, Int value, \
                                                  int, int) {                                      \
    return __tsan_atomic##bits##_compare_exchange_strong(address, expected, value, 0, 0);          \
  }
SKV_SIMT_ATOMIC_HOOKS(8, uint8_t)
SKV_SIMT_ATOMIC_HOOKS(32, uint32_t)
SKV_SIMT_ATOMIC_HOOKS(64, uint64_t)
#undef SKV_SIMT_ATOMIC_HOOKS

void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

}  // extern "C"
