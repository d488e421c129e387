#include "binding/convert.h"

#include <bit>

namespace spindlekv {
namespace {

constexpr uint32_t kF32SignMask = 0x80000000u;
constexpr uint32_t kF32Infinity = 0x7f800000u;
constexpr uint16_t kF16Infinity = 0x7c00u;
constexpr uint16_t kF16QuietBit = 0x0200u;
constexpr uint16_t kBf16QuietBit = 0x0040u;

// `value` shifted right by `shift` bits, to nearest, ties to even.
uint32_t shift_right_to_even(uint32_t value, int shift) {
  const uint32_t half = 1u << (shift - 1);
  const uint32_t rest = value & ((1u << shift) - 1);
  const uint32_t result = value >> shift;
  return result + ((rest > half || (rest == half && (result & 1u) != 0)) ? 1u : 0u);
}

}  // namespace

uint16_t f32_to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits & kF32SignMask) >> 16);
  const uint32_t magnitude = bits & ~kF32SignMask;
  if (magnitude > kF32Infinity) {
    // The top of the payload survives; the quiet bit keeps it from becoming infinity.
    return static_cast<uint16_t>(sign | kF16Infinity | kF16QuietBit | ((magnitude >> 13) & 0x3ffu));
  }
  const int exponent = static_cast<int>(magnitude >> 23) - 127 + 15;
  const uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
  if (exponent >= 31) return static_cast<uint16_t>(sign | kF16Infinity);
  if (exponent <= 0) {
    if (exponent < -10) return sign;  // below half of the smallest subnormal
    return static_cast<uint16_t>(sign | shift_right_to_even(mantissa, 14 - exponent));
  }
  // A carry out of the mantissa raises the exponent, up to infinity, as it should.
  const uint32_t rounded =
      (static_cast<uint32_t>(exponent - 1) << 10) + shift_right_to_even(mantissa, 13);
  return static_cast<uint16_t>(sign | rounded);
}

float f16_to_f32(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu;
  const uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0) {
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | sign);
  }
  if (exponent == 31) return std::bit_cast<float>(sign | kF32Infinity | (mantissa << 13));
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

uint16_t f32_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & ~kF32SignMask) > kF32Infinity) {
    return static_cast<uint16_t>((bits >> 16) | kBf16QuietBit);
  }
  return static_cast<uint16_t>(shift_right_to_even(bits, 16));
}

float bf16_to_f32(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

}  // namespace spindlekv
