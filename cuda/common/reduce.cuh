// Reductions over a warp and over a block, in one fixed tree.
//
// Sums follow the halving sum of core/canonical.h: x[i] = x[i] + x[i + n] for n = 16, 8, 4, 2, 1.
// The butterfly gives every lane the same bits, because addition commutes. Every thread of the warp
// (or block) calls; every thread gets the result. kThreads is the block size, a multiple of 32.
// Order of candidates everywhere: larger score, then smaller index; NaN below everything.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/canonical.h"
#include "cuda/common/launch.h"

namespace spindlekv::cuda {

inline constexpr unsigned kAllLanes = 0xffffffffu;
inline constexpr int kWarpSize = 32;

__device__ __forceinline__ int lane_id() { return static_cast<int>(threadIdx.x) % kWarpSize; }
__device__ __forceinline__ int warp_id() { return static_cast<int>(threadIdx.x) / kWarpSize; }

struct SumOp {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
  template <typename T>
  __device__ static T identity() {
    return T(0);
  }
};

// For floats: NaN loses against any number (fmaxf).
struct MaxOp {
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
  __device__ int operator()(int a, int b) const { return a > b ? a : b; }
  __device__ unsigned operator()(unsigned a, unsigned b) const { return a > b ? a : b; }
};

// A candidate by score_key (core/canonical.h): larger key first, then smaller index.
struct Candidate {
  uint32_t key;
  int32_t index;
};

__device__ __forceinline__ Candidate better(Candidate a, Candidate b) {
  const bool takes_a = a.key > b.key || (a.key == b.key && a.index < b.index);
  return takes_a ? a : b;
}

// Combines `value` over each aligned group of kLanes lanes.
template <int kLanes = kWarpSize, typename T, typename Op>
__device__ __forceinline__ T warp_reduce(T value, Op op) {
  static_assert(kLanes >= 1 && kLanes <= kWarpSize && (kLanes & (kLanes - 1)) == 0);
#pragma unroll
  for (int n = kLanes / 2; n >= 1; n /= 2) {
    value = op(value, __shfl_xor_sync(kAllLanes, value, n));
  }
  return value;
}

template <int kLanes = kWarpSize, typename T>
__device__ __forceinline__ T warp_sum(T value) {
  return warp_reduce<kLanes>(value, SumOp{});
}

template <int kLanes = kWarpSize, typename T>
__device__ __forceinline__ T warp_max(T value) {
  return warp_reduce<kLanes>(value, MaxOp{});
}

template <int kLanes = kWarpSize>
__device__ __forceinline__ Candidate warp_best(Candidate candidate) {
#pragma unroll
  for (int n = kLanes / 2; n >= 1; n /= 2) {
    Candidate other;
    other.key = __shfl_xor_sync(kAllLanes, candidate.key, n);
    other.index = __shfl_xor_sync(kAllLanes, candidate.index, n);
    candidate = better(candidate, other);
  }
  return candidate;
}

// Sum over the earlier lanes of the warp and this one.
template <typename T>
__device__ __forceinline__ T warp_inclusive_sum(T value) {
#pragma unroll
  for (int n = 1; n < kWarpSize; n *= 2) {
    const T earlier = __shfl_up_sync(kAllLanes, value, n);
    if (lane_id() >= n) value += earlier;
  }
  return value;
}

// Sums kCount values over each group of kLanes lanes; the sum of value i ends up in value[0] of the
// lanes i * kLanes / kCount and following. Halves the values with the lanes, so it takes about
// kCount shuffles instead of kCount * log2(kLanes).
template <int kCount, int kLanes>
__device__ __forceinline__ void transpose_sum(float (&value)[kCount]) {
  int count = kCount;
#pragma unroll
  for (int offset = kLanes / 2; offset >= 1; offset /= 2) {
    const bool is_upper = (lane_id() & offset) != 0;
    if (count > 1) {
      count /= 2;
#pragma unroll
      for (int i = 0; i < kCount / 2; ++i) {
        if (i >= count) continue;
        const float sent = is_upper ? value[i] : value[i + count];
        const float kept = is_upper ? value[i + count] : value[i];
        value[i] = kept + __shfl_xor_sync(kAllLanes, sent, offset);
      }
    } else {
      value[0] += __shfl_xor_sync(kAllLanes, value[0], offset);
    }
  }
}

namespace detail {

// Lane values of the first warp level: `value` of warp `lane`, or `identity` past the last warp.
template <int kThreads, typename T>
__device__ __forceinline__ T exchange_warp_values(T value, T identity) {
  constexpr int kWarps = kThreads / kWarpSize;
  static_assert(kThreads % kWarpSize == 0 && kWarps >= 1 && kWarps <= kWarpSize);
  SKV_SHARED(warp_values, T[kWarps]);
  if (lane_id() == 0) warp_values[warp_id()] = value;
  __syncthreads();
  const T result = lane_id() < kWarps ? warp_values[lane_id()] : identity;
  __syncthreads();  // the storage is shared by all calls of one type
  return result;
}

}  // namespace detail

template <int kThreads, typename T>
__device__ __forceinline__ T block_sum(T value) {
  return warp_sum(detail::exchange_warp_values<kThreads>(warp_sum(value), T(0)));
}

// `lowest` is the identity, for example -INFINITY.
template <int kThreads, typename T>
__device__ __forceinline__ T block_max(T value, T lowest) {
  return warp_max(detail::exchange_warp_values<kThreads>(warp_max(value), lowest));
}

template <int kThreads>
__device__ __forceinline__ Candidate block_best(Candidate candidate) {
  const Candidate nobody{0u, INT32_MAX};
  return warp_best(detail::exchange_warp_values<kThreads>(warp_best(candidate), nobody));
}

template <typename T>
struct ScanResult {
  T before;  // sum over the earlier threads
  T total;   // sum over the block
};

// Exclusive prefix sum over the threads of a one-dimensional block (integers: exact).
template <int kThreads, typename T>
__device__ __forceinline__ ScanResult<T> block_exclusive_sum(T value) {
  constexpr int kWarps = kThreads / kWarpSize;
  const T inclusive = warp_inclusive_sum(value);
  const T warp_total = __shfl_sync(kAllLanes, inclusive, kWarpSize - 1);
  const T totals = detail::exchange_warp_values<kThreads>(warp_total, T(0));
  const T running = warp_inclusive_sum(totals);
  const T total = __shfl_sync(kAllLanes, running, kWarps - 1);
  const T through_previous = __shfl_sync(kAllLanes, running, warp_id() > 0 ? warp_id() - 1 : 0);
  const T warps_before = warp_id() > 0 ? through_previous : T(0);
  return ScanResult<T>{warps_before + inclusive - value, total};
}

}  // namespace spindlekv::cuda
