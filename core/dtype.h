// Facts about dtypes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/types.h"

namespace spindlekv {

// Byte size of one element; 0 for an unknown dtype.
constexpr size_t dtype_bytes(int32_t dtype) {
  switch (dtype) {
    case SKV_F32:
    case SKV_I32:
      return 4;
    case SKV_F16:
    case SKV_BF16:
    case SKV_U16:
      return 2;
    case SKV_U8:
      return 1;
    case SKV_U64:
      return 8;
    default:
      return 0;
  }
}

}  // namespace spindlekv
