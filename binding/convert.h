// f32 <-> f16 and bf16, one value at a time, rounding to nearest even. For moving tensors in and
// out of JavaScript; the backends have vectorised conversions of their own.
#pragma once

#include <cstdint>

namespace spindlekv {

uint16_t f32_to_f16(float value);
float f16_to_f32(uint16_t bits);
uint16_t f32_to_bf16(float value);
float bf16_to_f32(uint16_t bits);

}  // namespace spindlekv
