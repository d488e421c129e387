// The statistics that windowScores makes, which has a form of its own for the slots of a cache.
#pragma once

#include "binding/args.h"
#include "core/ops.h"

namespace spindlekv {

// What they must have room for.
struct WindowSizes {
  int32_t query_heads;
  int32_t queries;
  int64_t slots;  // of the longest head
};

// Reads sum, sumSq, max, entropy, lse and nonfinite, and what they count, queryWeights and
// entropyContext, all of them optional, into `params`.
void read_window_statistics(const ObjectReader& reader, const WindowSizes& sizes,
                            SkvWindowScoresParams* params);

}  // namespace spindlekv
