// One function per op: adds <op> and <op>Async to the addon's exports.
#pragma once

#include <napi.h>

#include "core/ops.h"

namespace spindlekv {

#define SKV_DECLARE_REGISTER(name, Stem) void register_##name(Napi::Env env, Napi::Object exports);
SKV_OPS(SKV_DECLARE_REGISTER)
#undef SKV_DECLARE_REGISTER

// The short way of attend.
void register_attend_by_numbers(Napi::Env env, Napi::Object exports);

inline void register_ops(Napi::Env env, Napi::Object exports) {
#define SKV_REGISTER(name, Stem) register_##name(env, exports);
  SKV_OPS(SKV_REGISTER)
#undef SKV_REGISTER
}

}  // namespace spindlekv
