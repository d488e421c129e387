// The one place that makes JavaScript errors: every failure of the native side arrives as a
// SpindleKVError with its code, op, message, native code and cause.
//
// The class itself lives in lib/errors.ts, which hands over a function (code, op, message,
// nativeCode, cause) => SpindleKVError when the addon is loaded; tests of the addon alone get a
// plain Error.
#pragma once

#include <napi.h>

#include <string>

#include "core/status.h"

namespace spindlekv {

// "ERR_SPINDLEKV_..." of a code; a number outside core/error_codes.def is an internal error.
const char* public_code(int32_t code);

// The error object of a Status, or nullptr if JavaScript may not run any more. `message` replaces a
// text that the Status had to cut.
napi_value make_error(napi_env env, const Status& status, napi_value cause = nullptr,
                      const std::string* message = nullptr);

// Makes the error and throws it. An exception that is already on its way (a getter that threw)
// stays.
void throw_status(napi_env env, const Status& status, napi_value cause = nullptr,
                  const std::string* message = nullptr);

}  // namespace spindlekv
