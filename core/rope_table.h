// Tables of RoPE angles, made on the host in float64 so that every backend reads the same numbers.
//
// Pair i of n_rot / 2 turns at position p by p * f_i (times a magnitude for YaRN), where
// f_i = theta^(-2i / n_rot), changed by the scaling:
//   none     f_i
//   linear   f_i / factor                                       (position interpolation, arXiv
//   2306.15595) yarn     f_i / factor * (1 - m_i) + f_i * m_i               (arXiv 2309.00071,
//   section 3.2 and 3.4)
//            m_i = 1 - clamp((i - low) / (high - low), 0, 1), where low = floor(d(beta_fast)) and
//            high = ceil(d(beta_slow)), both clamped to [0, n_rot - 1], and d(r) =
//            n_rot * ln(original_positions / (2 pi r)) / (2 ln theta) is the pair that turns r
//            times over the original context. Cosine and sine are multiplied by attention_factor
//            (0: 0.1 ln(factor) + 1).
//   llama3   wavelength w_i = 2 pi / f_i; f_i while w_i < original_positions / high_freq_factor;
//            f_i / factor while w_i > original_positions / low_freq_factor; between them
//            f_i * ((1 - s) / factor + s) with s = (original_positions / w_i - low_freq_factor) /
//            (high_freq_factor - low_freq_factor)               (Llama 3.1 model code)
//   factors  f_i / factors[i], a divisor for each pair          (llama.cpp's rope_freqs.weight)
#pragma once

#include <cstdint>
#include <vector>

#include "core/status.h"
#include "core/types.h"

namespace spindlekv {

enum class RopeScalingKind : int32_t { kNone, kLinear, kYarn, kLlama3, kFactors };

struct RopeScaling {
  RopeScalingKind kind = RopeScalingKind::kNone;
  double factor = 1.0;              // context extension, >= 1
  double original_positions = 0.0;  // context the model was trained with; yarn and llama3
  double beta_fast = 32.0;          // yarn: turns above which a pair is left alone
  double beta_slow = 1.0;           // yarn: turns below which a pair is interpolated
  double attention_factor = 0.0;    // yarn: magnitude of the turned vectors; 0: the formula above
  double low_freq_factor = 1.0;     // llama3
  double high_freq_factor = 4.0;    // llama3
  std::vector<double> factors;      // factors: [n_rot / 2], > 0
};

struct RopeSpec {
  double theta = 10000.0;         // base, > 1
  int32_t n_rot = 0;              // leading dims that turn; even, 2..512
  int32_t style = SKV_ROPE_NORM;  // SkvRopeStyle, for the SkvRope made from the table
  RopeScaling scaling;
};

// Whether a table can be made; make_rope_table checks the same.
Status check_rope_spec(const RopeSpec& spec);

// Fills *table with [positions, n_rot / 2, 2] cosines and sines, rounded to f32 once.
Status make_rope_table(const RopeSpec& spec, int32_t positions, std::vector<float>* table);

}  // namespace spindlekv
