// What the CUDA compiler supplies to kernels: qualifiers, index variables, barriers, intrinsics.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "test/simt/block.h"
#include "test/simt/warp_builtins.h"

// __global__, __device__, __host__, __shared__ and __forceinline__ come from the toolkit's
// host_defines.h and mean nothing (or inline) to a host compiler.
#define __launch_bounds__(...)

#define threadIdx (::spindlekv::simt::current_thread->thread_idx)
#define blockIdx (::spindlekv::simt::current_thread->block_idx)
#define blockDim (::spindlekv::simt::current_thread->block_dim)
#define gridDim (::spindlekv::simt::current_thread->grid_dim)
inline constexpr int warpSize = ::spindlekv::simt::kWarpLanes;

// --- block barriers ----------------------------------------------------------------------------

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  ::spindlekv::simt::block_barrier(0, {file, line});
}
inline int __syncthreads_count(int predicate, const char* file = __builtin_FILE(),
                               int line = __builtin_LINE()) {
  return static_cast<int>(
      ::spindlekv::simt::block_barrier(static_cast<unsigned>(predicate), {file, line}));
}
inline int __syncthreads_or(int predicate, const char* file = __builtin_FILE(),
                            int line = __builtin_LINE()) {
  return __syncthreads_count(predicate != 0, file, line) > 0 ? 1 : 0;
}
inline int __syncthreads_and(int predicate, const char* file = __builtin_FILE(),
                             int line = __builtin_LINE()) {
  return __syncthreads_count(predicate == 0, file, line) == 0 ? 1 : 0;
}

inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned) {}
[[noreturn]] inline void __trap() { ::spindlekv::simt::fault("__trap()"); }

// --- loads and stores with cache hints ---------------------------------------------------------

#define SKV_SIMT_HINTED_LOAD(name)                                \
  template <typename T>                                           \
  inline T name(const T* address) {                               \
    ::spindlekv::simt::check_aligned(address, alignof(T), #name); \
    return *address;                                              \
  }
SKV_SIMT_HINTED_LOAD(__ldg)
SKV_SIMT_HINTED_LOAD(__ldca)
SKV_SIMT_HINTED_LOAD(__ldcg)
SKV_SIMT_HINTED_LOAD(__ldcs)
SKV_SIMT_HINTED_LOAD(__ldcv)
SKV_SIMT_HINTED_LOAD(__ldlu)
#undef SKV_SIMT_HINTED_LOAD

#define SKV_SIMT_HINTED_STORE(name)                               \
  template <typename T>                                           \
  inline void name(T* address, T value) {                         \
    ::spindlekv::simt::check_aligned(address, alignof(T), #name); \
    *address = value;                                             \
  }
SKV_SIMT_HINTED_STORE(__stwb)
SKV_SIMT_HINTED_STORE(__stcg)
SKV_SIMT_HINTED_STORE(__stcs)
SKV_SIMT_HINTED_STORE(__stwt)
#undef SKV_SIMT_HINTED_STORE

// --- atomics: one OS thread, so plain read-modify-write ----------------------------------------

#define SKV_SIMT_UNSEEN __attribute__((no_sanitize("thread")))  // by the race checker's hooks

namespace spindlekv::simt {
inline void before_atomic(const void* address, size_t bytes, const char* name) {
  check_aligned(address, bytes, name);
  note_access(address, bytes, Access::kAtomic, __builtin_return_address(0));
}
}  // namespace spindlekv::simt

#define SKV_SIMT_ATOMIC(name, result)                                        \
  template <typename T>                                                      \
  SKV_SIMT_UNSEEN inline T name(T* address, std::type_identity_t<T> value) { \
    ::spindlekv::simt::before_atomic(address, sizeof(T), #name);             \
    const T old = *address;                                                  \
    *address = static_cast<T>(result);                                       \
    return old;                                                              \
  }
SKV_SIMT_ATOMIC(atomicAdd, old + value)
SKV_SIMT_ATOMIC(atomicSub, old - value)
SKV_SIMT_ATOMIC(atomicMax, value > old ? value : old)
SKV_SIMT_ATOMIC(atomicMin, value < old ? value : old)
SKV_SIMT_ATOMIC(atomicOr, old | value)
SKV_SIMT_ATOMIC(atomicAnd, old& value)
SKV_SIMT_ATOMIC(atomicXor, old ^ value)
SKV_SIMT_ATOMIC(atomicExch, value)
SKV_SIMT_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
SKV_SIMT_ATOMIC(atomicDec, old == 0 || old > value ? value : old - 1)
#undef SKV_SIMT_ATOMIC

template <typename T>
SKV_SIMT_UNSEEN inline T atomicCAS(T* address, std::type_identity_t<T> compare,
                                   std::type_identity_t<T> value) {
  ::spindlekv::simt::before_atomic(address, sizeof(T), "atomicCAS");
  const T old = *address;
  if (old == compare) *address = value;
  return old;
}

// --- integers ----------------------------------------------------------------------------------

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline int __ffsll(long long x) {
  return x == 0 ? 0 : std::countr_zero(static_cast<unsigned long long>(x)) + 1;
}
inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int bit = 0; bit < 32; ++bit) reversed |= ((x >> bit) & 1u) << (31 - bit);
  return reversed;
}
inline int __mulhi(int x, int y) {
  return static_cast<int>((static_cast<int64_t>(x) * static_cast<int64_t>(y)) >> 32);
}
inline unsigned __umulhi(unsigned x, unsigned y) {
  return static_cast<unsigned>((static_cast<uint64_t>(x) * static_cast<uint64_t>(y)) >> 32);
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const uint64_t bytes = (static_cast<uint64_t>(y) << 32) | x;
  unsigned result = 0;
  for (int index = 0; index < 4; ++index) {
    const unsigned pick = (selector >> (4 * index)) & 0x7u;
    result |= static_cast<unsigned>((bytes >> (8 * pick)) & 0xffu) << (8 * index);
  }
  return result;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  const uint64_t both = (static_cast<uint64_t>(high) << 32) | low;
  return static_cast<unsigned>((both << (shift & 31u)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  const uint64_t both = (static_cast<uint64_t>(high) << 32) | low;
  return static_cast<unsigned>(both >> (shift & 31u));
}

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
inline long min(long a, long b) { return a < b ? a : b; }
inline long max(long a, long b) { return a > b ? a : b; }
inline unsigned long min(unsigned long a, unsigned long b) { return a < b ? a : b; }
inline unsigned long max(unsigned long a, unsigned long b) { return a > b ? a : b; }
inline long long min(long long a, long long b) { return a < b ? a : b; }
inline long long max(long long a, long long b) { return a > b ? a : b; }
inline unsigned long long min(unsigned long long a, unsigned long long b) { return a < b ? a : b; }
inline unsigned long long max(unsigned long long a, unsigned long long b) { return a > b ? a : b; }
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }

// --- floating point ----------------------------------------------------------------------------

inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }

inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fmaf_rn(float x, float y, float z) { return std::fmaf(x, y, z); }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __frsqrt_rn(float x) { return static_cast<float>(1.0 / std::sqrt(double{x})); }
inline float rsqrtf(float x) { return static_cast<float>(1.0 / std::sqrt(double{x})); }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __fma_rn(double x, double y, double z) { return std::fma(x, y, z); }

// Round to nearest even, saturating and NaN -> 0 as the hardware conversions do.
inline int __float2int_rn(float x) {
  if (x != x) return 0;
  if (x >= 2147483648.0f) return INT32_MAX;
  if (x < -2147483648.0f) return INT32_MIN;
  return static_cast<int>(std::nearbyint(x));
}
inline unsigned __float2uint_rn(float x) {
  if (!(x > 0.0f)) return 0;
  if (x >= 4294967296.0f) return UINT32_MAX;
  return static_cast<unsigned>(std::nearbyint(x));
}
inline int __float2int_rd(float x) { return __float2int_rn(std::floor(x)); }
inline int __float2int_ru(float x) { return __float2int_rn(std::ceil(x)); }
inline int __float2int_rz(float x) { return __float2int_rn(std::trunc(x)); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }

// The C library declares some of these names for its own use, so they are macros here. The device
// versions are approximations (about 2 ulp); the twins are as exact as the C library.
#define __expf(x) ::std::exp(static_cast<float>(x))
#define __exp10f(x) ::std::pow(10.0f, static_cast<float>(x))
#define __logf(x) ::std::log(static_cast<float>(x))
#define __log2f(x) ::std::log2(static_cast<float>(x))
#define __log10f(x) ::std::log10(static_cast<float>(x))
#define __sinf(x) ::std::sin(static_cast<float>(x))
#define __cosf(x) ::std::cos(static_cast<float>(x))
#define __powf(x, y) ::std::pow(static_cast<float>(x), static_cast<float>(y))
