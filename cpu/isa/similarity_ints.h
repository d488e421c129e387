// Vectors of kWidth 32-bit integers for the filter of cpu/isa/similarity_filter.h: sums of products
// of int16 pairs, comparisons as bits, larger and smaller. Included by cpu/isa/ sources only, on
// x86-64 only: elsewhere the filter does not pay.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "cpu/simd.h"

namespace spindlekv::cpu::SKV_ISA {

#if defined(__AVX512F__)
struct IntVec {
  __m512i v;
};
static inline IntVec splat_int(int32_t x) { return {_mm512_set1_epi32(x)}; }
static inline IntVec load_ints(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
static inline void store_ints(int32_t* p, IntVec a) { _mm512_storeu_si512(p, a.v); }
static inline IntVec add(IntVec a, IntVec b) { return {_mm512_add_epi32(a.v, b.v)}; }
static inline IntVec larger(IntVec a, IntVec b) { return {_mm512_max_epi32(a.v, b.v)}; }
static inline IntVec smaller(IntVec a, IntVec b) { return {_mm512_min_epi32(a.v, b.v)}; }
// The bits of `high` where mask is set, those of `low` elsewhere.
static inline IntVec merge_bits(IntVec mask, IntVec high, IntVec low) {
  return {_mm512_ternarylogic_epi32(mask.v, high.v, low.v, 0xca)};
}
// Bit i: a[i] > b[i].
static inline uint64_t above(IntVec a, IntVec b) { return _mm512_cmpgt_epi32_mask(a.v, b.v); }
// acc[i] + a[i].low * b[i].low + a[i].high * b[i].high, by AVX512-VNNI. As assembly, so that this
// source need not be compiled once more for processors that have it.
static inline IntVec add_products(IntVec acc, IntVec a, IntVec b) {
  asm("vpdpwssd %2, %1, %0" : "+v"(acc.v) : "v"(a.v), "v"(b.v));
  return acc;
}
// Stores integers in [-2^15, 2^15), given as floats, as int16; store_shorts_8 the first 8.
static inline __m256i shorts_of(Vec a) { return _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(a.v)); }
static inline void store_shorts(int16_t* p, Vec a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), shorts_of(a));
}
static inline void store_shorts_8(int16_t* p, Vec a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(shorts_of(a)));
}
#elif defined(__AVX2__)
struct IntVec {
  __m256i v;
};
static inline IntVec splat_int(int32_t x) { return {_mm256_set1_epi32(x)}; }
static inline IntVec load_ints(const int32_t* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))};
}
static inline void store_ints(int32_t* p, IntVec a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.v);
}
static inline IntVec add(IntVec a, IntVec b) { return {_mm256_add_epi32(a.v, b.v)}; }
static inline IntVec larger(IntVec a, IntVec b) { return {_mm256_max_epi32(a.v, b.v)}; }
static inline IntVec smaller(IntVec a, IntVec b) { return {_mm256_min_epi32(a.v, b.v)}; }
static inline IntVec merge_bits(IntVec mask, IntVec high, IntVec low) {
  return {_mm256_or_si256(_mm256_and_si256(mask.v, high.v), _mm256_andnot_si256(mask.v, low.v))};
}
static inline uint64_t above(IntVec a, IntVec b) {
  return static_cast<uint32_t>(
      _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(a.v, b.v))));
}
// acc[i] + a[i].low * b[i].low + a[i].high * b[i].high
static inline IntVec add_products(IntVec acc, IntVec a, IntVec b) {
  return {_mm256_add_epi32(acc.v, _mm256_madd_epi16(a.v, b.v))};
}
static inline void store_shorts(int16_t* p, Vec a) {
  const __m256i ints = _mm256_cvtps_epi32(a.v);
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(p),
      _mm_packs_epi32(_mm256_castsi256_si128(ints), _mm256_extracti128_si256(ints, 1)));
}
static inline void store_shorts_8(int16_t* p, Vec a) { store_shorts(p, a); }
#else
struct IntVec {
  __m128i v;
};
static inline IntVec splat_int(int32_t x) { return {_mm_set1_epi32(x)}; }
static inline IntVec load_ints(const int32_t* p) {
  return {_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))};
}
static inline void store_ints(int32_t* p, IntVec a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), a.v);
}
static inline IntVec add(IntVec a, IntVec b) { return {_mm_add_epi32(a.v, b.v)}; }
static inline IntVec merge_bits(IntVec mask, IntVec high, IntVec low) {
  return {_mm_or_si128(_mm_and_si128(mask.v, high.v), _mm_andnot_si128(mask.v, low.v))};
}
static inline IntVec larger(IntVec a, IntVec b) {
  return merge_bits({_mm_cmpgt_epi32(a.v, b.v)}, a, b);
}
static inline IntVec smaller(IntVec a, IntVec b) {
  return merge_bits({_mm_cmpgt_epi32(a.v, b.v)}, b, a);
}
static inline uint64_t above(IntVec a, IntVec b) {
  return static_cast<uint32_t>(_mm_movemask_ps(_mm_castsi128_ps(_mm_cmpgt_epi32(a.v, b.v))));
}
static inline IntVec add_products(IntVec acc, IntVec a, IntVec b) {
  return {_mm_add_epi32(acc.v, _mm_madd_epi16(a.v, b.v))};
}
static inline void store_shorts(int16_t* p, Vec a) {
  const __m128i ints = _mm_cvtps_epi32((__m128)a.v);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi32(ints, ints));
}
// Never called: rows are a multiple of 8 long.
static inline void store_shorts_8(int16_t* p, Vec a) { store_shorts(p, a); }
#endif

}  // namespace spindlekv::cpu::SKV_ISA
