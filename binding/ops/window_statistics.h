// The outputs of windowScores, which has a form of its own for the slots of a cache.
#pragma once

#include "binding/args.h"
#include "core/ops.h"

namespace spindlekv {

// What the outputs must have room for.
struct WindowSizes {
  int32_t query_heads;
  int32_t queries;
  int64_t slots;  // of the longest head
};

// Reads sum, sumSq, max, entropy, lse and nonfinite, each optional, into `params`.
void read_window_statistics(const ObjectReader& reader, const WindowSizes& sizes,
                         SkvWindowScoresParams* params);

}  // namespace spindlekv
