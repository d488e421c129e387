// Keeping some lanes of a vector: masks as bits, and the selected lanes packed together.
//
// Bit i of a mask is lane i. `append` writes the selected lanes to `out` in order and returns how
// many there are; it may overwrite kWidth elements from `out` on, so callers leave that much room.
#pragma once

#include <cstdint>

#include "cpu/simd.h"

namespace spindlekv::cpu::SKV_ISA {

#if defined(__AVX512F__)

struct IntVec {
  __m512i v;
};

static inline uint32_t above(Vec a, Vec b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ); }
static inline uint32_t at_least(Vec a, Vec b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ); }
static inline uint32_t equal(Vec a, Vec b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ); }
static inline uint32_t not_a_number(Vec a) { return _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q); }
static inline int count_bits(uint32_t bits) { return __builtin_popcount(bits); }

static inline IntVec splat_int(int32_t x) { return {_mm512_set1_epi32(x)}; }
// first, first + 1, ...
static inline IntVec ascending(int32_t first) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return {_mm512_add_epi32(lanes, _mm512_set1_epi32(first))};
}
static inline IntVec or_where(IntVec a, uint32_t bits, int32_t x) {
  const __mmask16 mask = static_cast<__mmask16>(bits);
  return {_mm512_mask_or_epi32(a.v, mask, a.v, _mm512_set1_epi32(x))};
}
static inline uint32_t nonzero(IntVec a) { return _mm512_test_epi32_mask(a.v, a.v); }

static inline int append(float* out, Vec a, uint32_t bits) {
  _mm512_storeu_ps(out, _mm512_maskz_compress_ps(static_cast<__mmask16>(bits), a.v));
  return count_bits(bits);
}
static inline int append(int32_t* out, IntVec a, uint32_t bits) {
  _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(static_cast<__mmask16>(bits), a.v));
  return count_bits(bits);
}
// The lanes' low halves.
static inline int append(uint16_t* out, IntVec a, uint32_t bits) {
  const __m512i packed = _mm512_maskz_compress_epi32(static_cast<__mmask16>(bits), a.v);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_cvtepi32_epi16(packed));
  return count_bits(bits);
}

#elif defined(__AVX2__)

struct IntVec {
  __m256i v;
};

static inline uint32_t bits_of(__m256 m) { return static_cast<uint32_t>(_mm256_movemask_ps(m)); }
static inline uint32_t above(Vec a, Vec b) { return bits_of(_mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ)); }
static inline uint32_t at_least(Vec a, Vec b) {
  return bits_of(_mm256_cmp_ps(a.v, b.v, _CMP_GE_OQ));
}
static inline uint32_t equal(Vec a, Vec b) { return bits_of(_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ)); }
static inline uint32_t not_a_number(Vec a) {
  return bits_of(_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q));
}

// lanes[bits]: the numbers of the set bits, ascending, a byte each.
struct PackTable {
  uint64_t lanes[256];
  constexpr PackTable() : lanes() {
    for (int bits = 0; bits < 256; ++bits) {
      int at = 0;
      for (int lane = 0; lane < 8; ++lane) {
        if ((bits >> lane & 1) != 0) lanes[bits] |= uint64_t(lane) << (8 * at++);
      }
    }
  }
};
inline constexpr PackTable kPackTable;

static inline __m256i pack(__m256i a, uint32_t bits) {
  const __m128i lanes = _mm_cvtsi64_si128(static_cast<long long>(kPackTable.lanes[bits]));
  return _mm256_permutevar8x32_epi32(a, _mm256_cvtepu8_epi32(lanes));
}
static inline int count_bits(uint32_t bits) { return __builtin_popcount(bits); }

static inline IntVec splat_int(int32_t x) { return {_mm256_set1_epi32(x)}; }
// first, first + 1, ...
static inline IntVec ascending(int32_t first) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return {_mm256_add_epi32(lanes, _mm256_set1_epi32(first))};
}
static inline IntVec or_where(IntVec a, uint32_t bits, int32_t x) {
  const __m256i lane_bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i chosen = _mm256_and_si256(_mm256_set1_epi32(static_cast<int32_t>(bits)), lane_bits);
  const __m256i mask = _mm256_cmpeq_epi32(chosen, lane_bits);
  return {_mm256_or_si256(a.v, _mm256_and_si256(mask, _mm256_set1_epi32(x)))};
}
static inline uint32_t nonzero(IntVec a) {
  const __m256i is_zero = _mm256_cmpeq_epi32(a.v, _mm256_setzero_si256());
  return bits_of(_mm256_castsi256_ps(is_zero)) ^ 0xffu;
}

static inline int append(float* out, Vec a, uint32_t bits) {
  _mm256_storeu_ps(out, _mm256_castsi256_ps(pack(_mm256_castps_si256(a.v), bits)));
  return count_bits(bits);
}
static inline int append(int32_t* out, IntVec a, uint32_t bits) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), pack(a.v, bits));
  return count_bits(bits);
}
// The lanes' low halves.
static inline int append(uint16_t* out, IntVec a, uint32_t bits) {
  const __m256i packed = pack(a.v, bits);
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(out),
      _mm_packus_epi32(_mm256_castsi256_si128(packed), _mm256_extracti128_si256(packed, 1)));
  return count_bits(bits);
}

#elif defined(__aarch64__)

struct IntVec {
  int32x4_t v;
};

static inline uint32_t above(Vec a, Vec b) { return bits_of(vcgtq_f32(a.v, b.v)); }
static inline uint32_t at_least(Vec a, Vec b) { return bits_of(vcgeq_f32(a.v, b.v)); }
static inline uint32_t equal(Vec a, Vec b) { return bits_of(vceqq_f32(a.v, b.v)); }
static inline uint32_t not_a_number(Vec a) { return bits_of(vmvnq_u32(vceqq_f32(a.v, a.v))); }
// Of 4 bits.
static inline int count_bits(uint32_t bits) {
  return static_cast<int>(0x4332322132212110u >> (4 * bits) & 0xfu);
}

static inline IntVec splat_int(int32_t x) { return {vdupq_n_s32(x)}; }
// first, first + 1, ...
static inline IntVec ascending(int32_t first) {
  static constexpr int32_t kLanes[kWidth] = {0, 1, 2, 3};
  return {vaddq_s32(vld1q_s32(kLanes), vdupq_n_s32(first))};
}
static inline IntVec or_where(IntVec a, uint32_t bits, int32_t x) {
  static constexpr int32_t kLaneBits[kWidth] = {1, 2, 4, 8};
  const uint32x4_t chosen =
      vtstq_s32(vdupq_n_s32(static_cast<int32_t>(bits)), vld1q_s32(kLaneBits));
  return {vorrq_s32(a.v, vandq_s32(vreinterpretq_s32_u32(chosen), vdupq_n_s32(x)))};
}
static inline uint32_t nonzero(IntVec a) { return bits_of(vtstq_s32(a.v, a.v)); }

// bytes[bits]: the bytes of the lanes of the set bits, ascending.
struct PackTable {
  uint8_t bytes[16][16];
  constexpr PackTable() : bytes() {
    for (int bits = 0; bits < 16; ++bits) {
      int at = 0;
      for (int lane = 0; lane < kWidth; ++lane) {
        if ((bits >> lane & 1) == 0) continue;
        for (int byte = 0; byte < 4; ++byte) {
          bytes[bits][at++] = static_cast<uint8_t>(4 * lane + byte);
        }
      }
    }
  }
};
inline constexpr PackTable kPackTable;

static inline uint8x16_t pack(uint8x16_t a, uint32_t bits) {
  return vqtbl1q_u8(a, vld1q_u8(kPackTable.bytes[bits]));
}
static inline int append(float* out, Vec a, uint32_t bits) {
  vst1q_f32(out, vreinterpretq_f32_u8(pack(vreinterpretq_u8_f32(a.v), bits)));
  return count_bits(bits);
}
static inline int append(int32_t* out, IntVec a, uint32_t bits) {
  vst1q_s32(out, vreinterpretq_s32_u8(pack(vreinterpretq_u8_s32(a.v), bits)));
  return count_bits(bits);
}
// The lanes' low halves.
static inline int append(uint16_t* out, IntVec a, uint32_t bits) {
  const uint8x16_t packed = pack(vreinterpretq_u8_s32(a.v), bits);
  vst1_u16(out, vmovn_u32(vreinterpretq_u32_u8(packed)));
  return count_bits(bits);
}

#else

struct IntVec {
  Ints v;
};

static inline uint32_t bits_of(Ints m) {
#if defined(__SSE2__)
  return static_cast<uint32_t>(_mm_movemask_ps((__m128)m));
#else
  const Ints weighed = m & Ints{1, 2, 4, 8};
  return static_cast<uint32_t>(weighed[0] + weighed[1] + weighed[2] + weighed[3]);
#endif
}
static inline uint32_t above(Vec a, Vec b) { return bits_of(a.v > b.v); }
static inline uint32_t at_least(Vec a, Vec b) { return bits_of(a.v >= b.v); }
static inline uint32_t equal(Vec a, Vec b) { return bits_of(a.v == b.v); }
static inline uint32_t not_a_number(Vec a) { return bits_of(a.v != a.v); }
// Of 4 bits; the baseline has no instruction for it.
static inline int count_bits(uint32_t bits) {
  return static_cast<int>(0x4332322132212110u >> (4 * bits) & 0xfu);
}

static inline IntVec splat_int(int32_t x) { return {Ints{x, x, x, x}}; }
// first, first + 1, ...
static inline IntVec ascending(int32_t first) {
  return {Ints{first, first + 1, first + 2, first + 3}};
}
static inline IntVec or_where(IntVec a, uint32_t bits, int32_t x) {
  const Ints lane_bits{1, 2, 4, 8};
  const int32_t all = static_cast<int32_t>(bits);
  return {a.v | (((Ints{all, all, all, all} & lane_bits) == lane_bits) & Ints{x, x, x, x})};
}
static inline uint32_t nonzero(IntVec a) { return bits_of(a.v != Ints{0, 0, 0, 0}); }

// Every lane is written, the next one over it if it was not selected.
template <class Out, class Lanes>
static inline int append_lanes(Out* out, Lanes lanes, uint32_t bits) {
  uint32_t n = 0;
  for (int i = 0; i < kWidth; ++i) {
    out[n] = static_cast<Out>(lanes[i]);
    n += bits >> i & 1u;
  }
  return static_cast<int>(n);
}
static inline int append(float* out, Vec a, uint32_t bits) { return append_lanes(out, a.v, bits); }
static inline int append(int32_t* out, IntVec a, uint32_t bits) {
  return append_lanes(out, a.v, bits);
}
// The lanes' low halves.
static inline int append(uint16_t* out, IntVec a, uint32_t bits) {
  return append_lanes(out, a.v, bits);
}

#endif

}  // namespace spindlekv::cpu::SKV_ISA
