// Asynchronous 16-byte copies from global to shared memory (cp.async, sm_80 and later).
//
//   copy_async_16(...);  ...  copy_async_commit();  ...  copy_async_wait<groups_left>();
//
// A thread sees only its own copies after its wait; a __syncthreads() makes them seen by the block.
// From issue to wait the destination holds nothing defined. Every copy must be waited for before
// the kernel ends. The host twin lands the data at the wait and not before.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/launch.h"

namespace spindlekv::cuda {

#if defined(SKV_SIMT)

inline void copy_async_16(void* shared, const void* global) {
  simt::async_copy(shared, global, 16, 16);
}

inline void copy_async_16_or_zero(void* shared, const void* global, bool is_valid) {
  simt::async_copy(shared, global, 16, is_valid ? 16 : 0);
}

inline void copy_async_commit() { simt::async_commit(); }

template <int kGroupsLeft>
inline void copy_async_wait() {
  simt::async_wait(kGroupsLeft);
}

#else

// Copies 16 bytes, past L1. Both addresses are 16-byte aligned.
__device__ __forceinline__ void copy_async_16(void* shared, const void* global) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(global) : "memory");
}

// As copy_async_16, but writes zeros when `is_valid` is false; `global` is not read then, but must
// be an aligned address all the same.
__device__ __forceinline__ void copy_async_16_or_zero(void* shared, const void* global,
                                                      bool is_valid) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const int read_bytes = is_valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global),
               "r"(read_bytes)
               : "memory");
}

// Closes the group of the copies issued since the last commit.
__device__ __forceinline__ void copy_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most the `kGroupsLeft` youngest groups are still under way.
template <int kGroupsLeft>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroupsLeft) : "memory");
}

#endif

}  // namespace spindlekv::cuda
