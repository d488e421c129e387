// The one way to start a kernel, and how kernels declare shared memory.
//
//   SKV_SHARED(name, type);          static shared memory; the type comes last and may hold commas
//                                    and extents: SKV_SHARED(tile, float[32][33]);
//   SKV_DYNAMIC_SHARED(name, type);  pointer of `type*` to the launch's dynamic shared memory,
//                                    aligned to 128 bytes
//
//   launch<x_kernel<float, 128>>("x", {blocks}, {threads}, smem_bytes, stream, params)
//
// A kernel takes one params struct by const value. The same line compiles with nvcc and, for the
// SIMT test backend (SKV_SIMT), with the host compiler. A grid with no block launches nothing.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "core/status.h"
#include "cuda/common/status.h"

#if defined(SKV_SIMT)

#define SKV_SHARED(name, ...)                                                                     \
  static char skv_key_##name;                                                                     \
  auto& name = *static_cast<std::type_identity_t<__VA_ARGS__>*>(::spindlekv::simt::static_shared( \
      &skv_key_##name, sizeof(std::type_identity_t<__VA_ARGS__>), 16))
#define SKV_DYNAMIC_SHARED(name, ...) \
  auto* const name =                  \
      static_cast<std::type_identity_t<__VA_ARGS__>*>(::spindlekv::simt::dynamic_shared())

#else

extern __shared__ __align__(128) unsigned char skv_dynamic_shared[];

#define SKV_SHARED(name, ...) __shared__ __align__(16) std::type_identity_t<__VA_ARGS__> name
#define SKV_DYNAMIC_SHARED(name, ...) \
  auto* const name = reinterpret_cast<std::type_identity_t<__VA_ARGS__>*>(skv_dynamic_shared)

#endif

namespace spindlekv::cuda {

// Blocks of a launch; 64-bit so that a product of shapes is checked, not truncated.
struct Grid {
  int64_t x = 1;
  int64_t y = 1;
  int64_t z = 1;
};

inline constexpr int64_t kMaxGridX = 2147483647;  // CUDA programming guide, compute capability 3.0+
inline constexpr int64_t kMaxGridYz = 65535;
inline constexpr unsigned kMaxThreadsPerBlock = 1024;
inline constexpr size_t kSharedWithoutOptIn = size_t{48} << 10;
inline constexpr size_t kMaxParamsBytes = 4096;  // the limit before CUDA 12.1, kept

// Blocks of `per_block` items that cover `items`.
inline constexpr int64_t ceil_div(int64_t items, int64_t per_block) {
  return (items + per_block - 1) / per_block;
}

namespace detail {

template <typename Function>
struct KernelParams;

template <typename Params>
struct KernelParams<void (*)(Params)> {
  using Type = Params;
};

}  // namespace detail

// Launches `kKernel`. Returns at once with any error that the launch itself shows; errors while the
// kernel runs surface at the next call on the stream (or here, with SPINDLEKV_DEBUG_SYNC=1).
template <auto kKernel>
Status launch(const char* op, Grid grid, dim3 block, size_t dynamic_smem_bytes, cudaStream_t stream,
              const typename detail::KernelParams<decltype(kKernel)>::Type& params) {
  using Params = typename detail::KernelParams<decltype(kKernel)>::Type;
  static_assert(std::is_trivially_copyable_v<Params>, "kernel params must be plain data");
  static_assert(sizeof(Params) <= kMaxParamsBytes, "kernel params are over 4 KiB");
  SKV_RETURN_IF_ERROR(check_launch_shape(op, grid.x, grid.y, grid.z, block));
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return ok_status();
  const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y),
                    static_cast<unsigned>(grid.z));
#if defined(SKV_SIMT)
  const auto failure =
      simt::launch_kernel<kKernel>(op, blocks, block, dynamic_smem_bytes, stream, params);
  if (failure.code != cudaSuccess) {
    return status_from_cuda(op, failure.code, failure.message);
  }
#else
  if (dynamic_smem_bytes > kSharedWithoutOptIn) {
    const cudaError_t granted = cudaFuncSetAttribute(
        kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(dynamic_smem_bytes));
    if (granted != cudaSuccess)
      return status_from_cuda(op, granted, "setting the shared memory size");
  }
  void* arguments[] = {const_cast<Params*>(&params)};
  const cudaError_t launched = cudaLaunchKernel(reinterpret_cast<const void*>(kKernel), blocks,
                                                block, arguments, dynamic_smem_bytes, stream);
  if (launched != cudaSuccess) return status_from_cuda(op, launched, "launching the kernel");
#endif
  return after_launch(op, stream);
}

}  // namespace spindlekv::cuda
