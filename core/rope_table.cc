#include "core/rope_table.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/check/checker.h"

namespace spindlekv {
namespace {

constexpr const char* kOp = "make_rope_table";

// YaRN: the (fractional) pair that turns `turns` times over the original context.
double pair_of_turns(const RopeSpec& spec, double turns) {
  const double positions = spec.scaling.original_positions;
  return spec.n_rot * std::log(positions / (2.0 * std::numbers::pi * turns)) /
         (2.0 * std::log(spec.theta));
}

// Share of pair i that keeps its own frequency.
double yarn_kept_share(const RopeSpec& spec, int32_t pair) {
  const double last = spec.n_rot - 1.0;
  const double low = std::clamp(std::floor(pair_of_turns(spec, spec.scaling.beta_fast)), 0.0, last);
  double high = std::clamp(std::ceil(pair_of_turns(spec, spec.scaling.beta_slow)), 0.0, last);
  if (high <= low) high = low + 0.001;  // a step instead of a ramp, without dividing by zero
  return 1.0 - std::clamp((pair - low) / (high - low), 0.0, 1.0);
}

double llama3_frequency(const RopeScaling& scaling, double frequency) {
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  if (wavelength < scaling.original_positions / scaling.high_freq_factor) return frequency;
  if (wavelength > scaling.original_positions / scaling.low_freq_factor) {
    return frequency / scaling.factor;
  }
  const double smooth = (scaling.original_positions / wavelength - scaling.low_freq_factor) /
                        (scaling.high_freq_factor - scaling.low_freq_factor);
  return frequency * ((1.0 - smooth) / scaling.factor + smooth);
}

double scaled_frequency(const RopeSpec& spec, int32_t pair) {
  const double frequency = std::pow(spec.theta, -2.0 * pair / spec.n_rot);
  switch (spec.scaling.kind) {
    case RopeScalingKind::kNone:
      return frequency;
    case RopeScalingKind::kLinear:
      return frequency / spec.scaling.factor;
    case RopeScalingKind::kYarn: {
      const double kept = yarn_kept_share(spec, pair);
      return frequency / spec.scaling.factor * (1.0 - kept) + frequency * kept;
    }
    case RopeScalingKind::kLlama3:
      return llama3_frequency(spec.scaling, frequency);
    case RopeScalingKind::kFactors:
      return frequency / spec.scaling.factors[static_cast<size_t>(pair)];
  }
  return frequency;
}

double magnitude(const RopeScaling& scaling) {
  if (scaling.kind != RopeScalingKind::kYarn) return 1.0;
  if (scaling.attention_factor > 0.0) return scaling.attention_factor;
  return 0.1 * std::log(scaling.factor) + 1.0;
}

Status expected(const char* what, const char* param, double value) {
  return error_status(SKV_ARGUMENT, kOp, "expected %s for %s, got %g", what, param, value);
}

Status check_factors(const std::vector<double>& factors, int32_t pairs) {
  if (factors.size() != static_cast<size_t>(pairs)) {
    return error_status(SKV_ARGUMENT, kOp, "expected %d numbers for scaling.factors, got %zu",
                        pairs, factors.size());
  }
  for (const double factor : factors) {
    if (!(factor > 0.0) || !std::isfinite(factor)) {
      return expected("numbers > 0", "scaling.factors", factor);
    }
  }
  return ok_status();
}

Status check_scaling(const RopeSpec& spec) {
  const RopeScaling& scaling = spec.scaling;
  if (scaling.kind == RopeScalingKind::kNone) return ok_status();
  if (scaling.kind == RopeScalingKind::kFactors) {
    return check_factors(scaling.factors, spec.n_rot / 2);
  }
  if (!(scaling.factor >= 1.0) || !std::isfinite(scaling.factor)) {
    return expected("a number >= 1", "scaling.factor", scaling.factor);
  }
  if (scaling.kind == RopeScalingKind::kLinear) return ok_status();
  if (!(scaling.original_positions >= 1.0) || !std::isfinite(scaling.original_positions)) {
    return expected("a number >= 1", "scaling.original_positions", scaling.original_positions);
  }
  if (scaling.kind == RopeScalingKind::kYarn) {
    if (!(scaling.beta_slow > 0.0)) {
      return expected("a number > 0", "scaling.beta_slow", scaling.beta_slow);
    }
    if (!(scaling.beta_fast > scaling.beta_slow) || !std::isfinite(scaling.beta_fast)) {
      return expected("a number above beta_slow", "scaling.beta_fast", scaling.beta_fast);
    }
    if (!(scaling.attention_factor >= 0.0) || !std::isfinite(scaling.attention_factor)) {
      return expected("a number >= 0", "scaling.attention_factor", scaling.attention_factor);
    }
    return ok_status();
  }
  if (!(scaling.low_freq_factor > 0.0)) {
    return expected("a number > 0", "scaling.low_freq_factor", scaling.low_freq_factor);
  }
  if (!(scaling.high_freq_factor > scaling.low_freq_factor) ||
      !std::isfinite(scaling.high_freq_factor)) {
    return expected("a number above low_freq_factor", "scaling.high_freq_factor",
                    scaling.high_freq_factor);
  }
  return ok_status();
}

}  // namespace

Status check_rope_spec(const RopeSpec& spec) {
  if (!(spec.theta > 1.0) || !std::isfinite(spec.theta)) {
    return expected("a number > 1", "theta", spec.theta);
  }
  if (spec.n_rot < 2 || spec.n_rot > kMaxHeadDim || spec.n_rot % 2 != 0) {
    return expected("an even number in [2, 512]", "n_rot", spec.n_rot);
  }
  if (spec.style != SKV_ROPE_NORM && spec.style != SKV_ROPE_NEOX) {
    return expected("0 (norm) or 1 (neox)", "style", spec.style);
  }
  return check_scaling(spec);
}

Status make_rope_table(const RopeSpec& spec, int32_t positions, std::vector<float>* table) {
  SKV_RETURN_IF_ERROR(check_rope_spec(spec));
  if (positions < 0) return expected("an integer >= 0", "positions", positions);
  const int32_t pairs = spec.n_rot / 2;
  table->resize(static_cast<size_t>(positions) * static_cast<size_t>(pairs) * 2);
  const double scale = magnitude(spec.scaling);
  for (int32_t pair = 0; pair < pairs; ++pair) {
    const double frequency = scaled_frequency(spec, pair);
    for (int32_t position = 0; position < positions; ++position) {
      const double angle = position * frequency;
      float* entry = table->data() + (static_cast<size_t>(position) * pairs + pair) * 2;
      entry[0] = static_cast<float>(std::cos(angle) * scale);
      entry[1] = static_cast<float>(std::sin(angle) * scale);
    }
  }
  return ok_status();
}

}  // namespace spindlekv
