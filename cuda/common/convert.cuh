// Loading, storing and converting f32, f16 and bf16 elements; the arithmetic is always float.
//
// load8 and store8 move eight elements in 16-byte accesses; the address must be 16-byte aligned.
// Conversions to f16 and bf16 round to nearest even, overflow to infinity and keep NaN.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/types.h"

namespace spindlekv::cuda {

using f16 = __half;
using bf16 = __nv_bfloat16;

template <typename Elem>
inline constexpr SkvDType kDTypeOf = std::is_same_v<Elem, float> ? SKV_F32
                                     : std::is_same_v<Elem, f16> ? SKV_F16
                                                                 : SKV_BF16;

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(f16 value) { return __half2float(value); }
__device__ __forceinline__ float to_float(bf16 value) { return __bfloat162float(value); }

template <typename Elem>
__device__ __forceinline__ Elem from_float(float value) {
  if constexpr (std::is_same_v<Elem, f16>) {
    return __float2half_rn(value);
  } else if constexpr (std::is_same_v<Elem, bf16>) {
    return __float2bfloat16_rn(value);
  } else {
    static_assert(std::is_same_v<Elem, float>);
    return value;
  }
}

__device__ __forceinline__ void check_vector_address([[maybe_unused]] const void* address) {
#if defined(SKV_SIMT)
  simt::check_aligned(address, 16, "16-byte access");
#endif
}

// Eight packed 16-bit elements as they lie in one 16-byte word.
template <typename Elem>
union Packed8 {
  static_assert(sizeof(Elem) == 2);
  uint4 word;
  Elem element[8];
  __device__ Packed8() {}
};

// Two elements as a register of a tensor core fragment holds them: `low` in the lower half.
template <typename Elem>
__device__ __forceinline__ uint32_t pack_two(float low, float high) {
  using Pair = std::conditional_t<std::is_same_v<Elem, f16>, __half2, __nv_bfloat162>;
  Pair pair;
  if constexpr (std::is_same_v<Elem, f16>) {
    pair = __floats2half2_rn(low, high);
  } else {
    pair = __floats2bfloat162_rn(low, high);
  }
  uint32_t packed;
  memcpy(&packed, &pair, sizeof(packed));
  return packed;
}

template <typename Elem>
__device__ __forceinline__ float2 unpack_two(uint32_t packed) {
  Elem pair[2];
  memcpy(static_cast<void*>(pair), &packed, sizeof(packed));
  return make_float2(to_float(pair[0]), to_float(pair[1]));
}

// Parts of two elements, each part rounded from what those before it leave: they add up to both.
template <typename Elem, int kParts>
__device__ __forceinline__ void pack_parts(float x, float y, uint32_t (&packed)[kParts]) {
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    packed[part] = pack_two<Elem>(x, y);
    const float2 rounded = unpack_two<Elem>(packed[part]);
    x -= rounded.x;
    y -= rounded.y;
  }
}

// out[i] = float(source[i]), i < 8.
__device__ __forceinline__ void load8(const float* source, float (&out)[8]) {
  check_vector_address(source);
  const float4 low = reinterpret_cast<const float4*>(source)[0];
  const float4 high = reinterpret_cast<const float4*>(source)[1];
  out[0] = low.x, out[1] = low.y, out[2] = low.z, out[3] = low.w;
  out[4] = high.x, out[5] = high.y, out[6] = high.z, out[7] = high.w;
}

template <typename Elem>
__device__ __forceinline__ void load8(const Elem* source, float (&out)[8]) {
  check_vector_address(source);
  Packed8<Elem> packed;
  packed.word = *reinterpret_cast<const uint4*>(source);
#pragma unroll
  for (int i = 0; i < 8; ++i) out[i] = to_float(packed.element[i]);
}

// target[i] = Elem(value[i]), i < 8.
__device__ __forceinline__ void store8(float* target, const float (&value)[8]) {
  check_vector_address(target);
  reinterpret_cast<float4*>(target)[0] = make_float4(value[0], value[1], value[2], value[3]);
  reinterpret_cast<float4*>(target)[1] = make_float4(value[4], value[5], value[6], value[7]);
}

template <typename Elem>
__device__ __forceinline__ void store8(Elem* target, const float (&value)[8]) {
  check_vector_address(target);
  Packed8<Elem> packed;
#pragma unroll
  for (int i = 0; i < 8; ++i) packed.element[i] = from_float<Elem>(value[i]);
  *reinterpret_cast<uint4*>(target) = packed.word;
}

// target[0..8) = source[0..8), no conversion.
template <typename Elem>
__device__ __forceinline__ void copy8(Elem* target, const Elem* source) {
  check_vector_address(source);
  check_vector_address(target);
#pragma unroll
  for (int word = 0; word < static_cast<int>(8 * sizeof(Elem) / 16); ++word) {
    reinterpret_cast<uint4*>(target)[word] = reinterpret_cast<const uint4*>(source)[word];
  }
}

}  // namespace spindlekv::cuda
