// The cut of select_topk: the score of the last selected slot, found without sorting.
//
// A few hundred scores taken at even distances bracket the cut; one pass counts the scores above
// the bracket and copies those inside, usually a tenth. What is left is halved by value. The sample
// only decides how fast this goes: where the bracket misses, the other side of it is looked at.
#pragma once

#include <cstdint>
#include <limits>

#include "cpu/select_kernels.h"

namespace spindlekv::cpu {

inline constexpr int64_t kAllTies = INT64_MAX;
inline constexpr Cut kCutNothing{std::numeric_limits<float>::infinity(), 0};
inline constexpr Cut kCutEverything{std::numeric_limits<float>::quiet_NaN(), kAllTies};

// A piece of the scores that compete with each other.
struct ScoreSpan {
  const float* scores;
  int64_t count;
  float* room;   // for count + kSelectSlack scores; may be `scores`
  int64_t kept;  // how many of them are in `room`; of no concern to the caller
};

// The cut that takes the `wanted` largest scores of all spans together. The spans are used up.
Cut find_cut(const SelectKernels& kernels, ScoreSpan* spans, int64_t n_spans, int64_t wanted);

}  // namespace spindlekv::cpu
