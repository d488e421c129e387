// RoPE options of JavaScript, and tables made from them.
#pragma once

#include <napi.h>

#include "binding/args.h"
#include "core/rope_table.h"

namespace spindlekv {

// { theta, nRot, style?, scaling? } => RopeSpec, checked.
RopeSpec read_rope_spec(const ObjectReader& reader);

void register_rope_table(Napi::Env env, Napi::Object exports);

}  // namespace spindlekv
