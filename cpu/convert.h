// The 16-bit floats of K and V, and their scalar conversions: to f32 exactly, from f32 by rounding
// to nearest even. NaN stays NaN (quiet); what is too large becomes infinity; subnormals are kept.
//
// Everything here has internal linkage, because sources compiled for several instruction sets use
// it.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/types.h"

namespace spindlekv::cpu {

struct F16 {
  uint16_t bits;
};

struct Bf16 {
  uint16_t bits;
};

static inline size_t dtype_bytes(int32_t dtype) { return dtype == SKV_F32 ? 4 : 2; }

static inline float float_of_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

static inline uint32_t bits_of_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}

static inline float to_float(float value) { return value; }

static inline float to_float(Bf16 value) {
  return float_of_bits(static_cast<uint32_t>(value.bits) << 16);
}

static inline float to_float(F16 value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t rest = value.bits & 0x7fffu;
  if (rest >= 0x7c00u) {  // infinity or NaN
    const uint32_t quiet = rest > 0x7c00u ? 0x00400000u : 0u;
    return float_of_bits(sign | 0x7f800000u | quiet | ((rest & 0x3ffu) << 13));
  }
  // Scaled as if it were a float with f16's exponent bias; the product is exact, subnormals
  // included.
  const float scaled = float_of_bits(rest << 13) * 0x1p112f;
  return float_of_bits(sign | bits_of_float(scaled));
}

static inline void from_float(float value, float* out) { *out = value; }

static inline void from_float(float value, Bf16* out) {
  const uint32_t bits = bits_of_float(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    out->bits = static_cast<uint16_t>((bits >> 16) | 0x40u);
    return;
  }
  out->bits = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static inline void from_float(float value, F16* out) {
  const uint32_t bits = bits_of_float(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t rest = bits & 0x7fffffffu;
  uint32_t half;
  if (rest > 0x7f800000u) {  // NaN
    half = 0x7e00u | ((rest >> 13) & 0x3ffu);
  } else if (rest >= 0x477ff000u) {  // 65520 and above round to infinity
    half = 0x7c00u;
  } else if (rest < 0x38800000u) {  // below 2^-14: adding 2^-1 leaves the subnormal in the low bits
    half = bits_of_float(float_of_bits(rest) + 0.5f) - 0x3f000000u;
  } else {
    half = (rest - 0x38000000u + 0xfffu + ((rest >> 13) & 1u)) >> 13;
  }
  out->bits = static_cast<uint16_t>(sign | half);
}

}  // namespace spindlekv::cpu
