// What the similarity kernels need of the instruction set beyond cpu/simd.h: the size of the
// register tile, and comparisons as bits. Included by cpu/isa/ sources only.
#pragma once

#include <cstdint>

#include "cpu/simd.h"

namespace spindlekv::cpu::SKV_ISA {

// kTileVectors vectors of kTileRows rows are accumulated at once: enough independent chains to hide
// the latency of the fused multiply-add (4 or 5 cycles, two a cycle), few enough for the registers
// (32 with AVX-512 and NEON, 16 with AVX2).
#if defined(__AVX512F__)
inline constexpr int kTileRows = 4;
inline constexpr int kTileVectors = 4;
static inline uint64_t bits_of(Mask mask) { return mask.m; }
#elif defined(__AVX2__)
inline constexpr int kTileRows = 6;
inline constexpr int kTileVectors = 2;
static inline uint64_t bits_of(Mask mask) {
  return static_cast<uint32_t>(_mm256_movemask_ps(mask.m));
}
#elif defined(__aarch64__)
inline constexpr int kTileRows = 4;
inline constexpr int kTileVectors = 4;
static inline uint64_t bits_of(Mask mask) { return bits_of(mask.m); }
#else
inline constexpr int kTileRows = 4;
inline constexpr int kTileVectors = 4;
static inline uint64_t bits_of(Mask mask) {
  uint64_t bits = 0;
  for (int lane = 0; lane < kWidth; ++lane) bits |= static_cast<uint64_t>(mask.m[lane] & 1) << lane;
  return bits;
}
#endif

}  // namespace spindlekv::cpu::SKV_ISA
