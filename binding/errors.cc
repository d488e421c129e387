#include "binding/errors.h"

#include <cstring>

#include "binding/environment.h"

namespace spindlekv {
namespace {

constexpr const char* kInternalCode = "ERR_SPINDLEKV_INTERNAL";

napi_value string_of(napi_env env, const char* text, size_t length) {
  napi_value value = nullptr;
  napi_create_string_utf8(env, text, length, &value);
  return value;
}

// Without lib/errors.ts: an Error with the code set, so that nothing gets lost.
napi_value plain_error(napi_env env, napi_value code, napi_value message) {
  napi_value error = nullptr;
  napi_create_error(env, code, message, &error);
  return error;
}

}  // namespace

const char* public_code(int32_t code) {
  switch (code) {
#define SKV_ERROR(name, text, meaning) \
  case SKV_##name:                     \
    return text;
#include "core/error_codes.def"
#undef SKV_ERROR
    default:
      return kInternalCode;
  }
}

napi_value make_error(napi_env env, const Status& status, napi_value cause,
                      const std::string* message) {
  const napi_value code = string_of(env, public_code(status.code), NAPI_AUTO_LENGTH);
  const napi_value op = string_of(env, status.op == nullptr ? "" : status.op, NAPI_AUTO_LENGTH);
  const napi_value text =
      message != nullptr
          ? string_of(env, message->data(), message->size())
          : string_of(env, status.message, strnlen(status.message, sizeof(status.message)));
  napi_value native_code = nullptr;
  napi_create_int32(env, status.native_code, &native_code);
  napi_value undefined = nullptr;
  napi_get_undefined(env, &undefined);

  const std::shared_ptr<Environment> environment = environment_of(env);
  if (environment == nullptr || environment->create_error == nullptr) {
    return plain_error(env, code, text);
  }
  napi_value create = nullptr;
  if (napi_get_reference_value(env, environment->create_error, &create) != napi_ok) return nullptr;
  const napi_value values[] = {code, op, text, native_code, cause == nullptr ? undefined : cause};
  napi_value error = nullptr;
  // Fails where JavaScript may not run: a worker that is being terminated.
  if (napi_call_function(env, undefined, create, 5, values, &error) != napi_ok) return nullptr;
  return error;
}

void throw_status(napi_env env, const Status& status, napi_value cause,
                  const std::string* message) {
  bool is_pending = false;
  if (napi_is_exception_pending(env, &is_pending) != napi_ok || is_pending) return;
  const napi_value error = make_error(env, status, cause, message);
  if (error != nullptr) static_cast<void>(napi_throw(env, error));
}

}  // namespace spindlekv
