#include "binding/rope_options.h"

#include <cstring>
#include <vector>

#include "binding/callback.h"

namespace spindlekv {

RopeSpec read_rope_spec(const ObjectReader& reader) {
  RopeSpec spec;
  spec.theta = reader.number("theta");
  spec.n_rot = reader.integer("nRot", 2, INT32_MAX);
  spec.style = reader.choice_or("style", {"norm", "neox"}, SKV_ROPE_NORM);
  if (reader.has("scaling")) {
    const ObjectReader options = reader.object("scaling");
    RopeScaling& scaling = spec.scaling;
    scaling.kind = static_cast<RopeScalingKind>(
        options.choice("kind", {"none", "linear", "yarn", "llama3", "factors"}));
    if (scaling.kind == RopeScalingKind::kFactors) {
      scaling.factors = options.numbers("factors");
    } else if (scaling.kind != RopeScalingKind::kNone) {
      scaling.factor = options.number("factor");
    }
    if (scaling.kind == RopeScalingKind::kYarn || scaling.kind == RopeScalingKind::kLlama3) {
      scaling.original_positions = options.number("originalPositions");
    }
    scaling.beta_fast = options.number_or("betaFast", scaling.beta_fast);
    scaling.beta_slow = options.number_or("betaSlow", scaling.beta_slow);
    scaling.attention_factor = options.number_or("attentionFactor", scaling.attention_factor);
    scaling.low_freq_factor = options.number_or("lowFreqFactor", scaling.low_freq_factor);
    scaling.high_freq_factor = options.number_or("highFreqFactor", scaling.high_freq_factor);
  }
  if (reader.args().ok()) reader.args().fail(check_rope_spec(spec));
  return spec;
}

namespace {

// ({ theta, nRot, positions, scaling? }) => Float32Array [positions, nRot / 2, 2]
Napi::Value make_rope_angles(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "makeRopeTable");
  const ObjectReader options = args.object(info[0], "options");
  const RopeSpec spec = read_rope_spec(options);
  const int32_t positions = options.integer("positions", 1, 1 << 24);
  std::vector<float> table;
  if (args.ok()) args.fail(make_rope_table(spec, positions, &table));
  if (!args.ok()) return Napi::Value(info.Env(), args.raise());
  Napi::Float32Array angles = Napi::Float32Array::New(info.Env(), table.size());
  if (info.Env().IsExceptionPending()) return {};
  std::memcpy(angles.Data(), table.data(), table.size() * sizeof(float));
  return angles;
}

}  // namespace

void register_rope_table(Napi::Env env, Napi::Object exports) {
  export_function<make_rope_angles>(env, exports, "makeRopeAngles");
}

}  // namespace spindlekv
