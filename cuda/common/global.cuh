// Loads from device memory through addresses that were themselves loaded, from a table of runs for
// example. The compiler cannot know which memory such an address names and would use slower generic
// loads; these say that it is global memory.
//
//   load_constant(p)  nobody writes *p while the kernel runs; may come from the read-only cache
//   load_shared_by_blocks(p)  another block may have written *p: read at L2, past L1
//
// T is plain data of any size; it is read in the widest words that its alignment allows.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace spindlekv::cuda {

namespace detail {

template <size_t kAlignment>
struct WordOf {
  using Type = uint4;
};
template <>
struct WordOf<8> {
  using Type = uint2;
};
template <>
struct WordOf<4> {
  using Type = unsigned;
};
template <>
struct WordOf<2> {
  using Type = unsigned short;
};

}  // namespace detail

template <typename T>
__device__ __forceinline__ T load_constant(const T* address) {
  using Word = typename detail::WordOf<alignof(T)>::Type;
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(Word) == 0);
  Word words[sizeof(T) / sizeof(Word)];
#pragma unroll
  for (size_t i = 0; i < sizeof(T) / sizeof(Word); ++i) {
    words[i] = __ldg(reinterpret_cast<const Word*>(address) + i);
  }
  T value;
  memcpy(static_cast<void*>(&value), words, sizeof(T));
  return value;
}

template <typename T>
__device__ __forceinline__ T load_shared_by_blocks(const T* address) {
  using Word = typename detail::WordOf<alignof(T)>::Type;
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) == sizeof(Word));
  const Word word = __ldcg(reinterpret_cast<const Word*>(address));
  T value;
  memcpy(static_cast<void*>(&value), &word, sizeof(T));
  return value;
}

}  // namespace spindlekv::cuda
