// Making and passing on SkvStatus values in C++. Nothing below binding/ throws.
#pragma once

#include <cstdarg>
#include <cstdio>

#include "core/types.h"

namespace spindlekv {

using Status = SkvStatus;

inline Status ok_status() { return Status{SKV_OK, 0, "", {0}}; }

inline bool is_ok(const Status& status) { return status.code == SKV_OK; }

#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
inline Status error_status(SkvCode code, const char* op, const char* format, ...) {
  Status status{code, 0, op, {0}};
  va_list args;
  va_start(args, format);
  std::vsnprintf(status.message, sizeof(status.message), format, args);
  va_end(args);
  return status;
}

}  // namespace spindlekv

// Passes a failed Status on to the caller.
#define SKV_RETURN_IF_ERROR(expression)                       \
  do {                                                        \
    const ::spindlekv::Status skv_status_ = (expression);     \
    if (!::spindlekv::is_ok(skv_status_)) return skv_status_; \
  } while (false)
