// The outputs of keyStats, which has a form of its own for the slots of a cache.
#pragma once

#include "binding/args.h"
#include "core/ops.h"

namespace spindlekv {

// Reads kNorm, cosToMean, vNorm, vL1 and nonfinite, each optional, into `params`; kv_heads is known
// there, `slots` those of the longest head.
void read_key_stats_outputs(const ObjectReader& reader, int64_t slots, SkvKeyStatsParams* params);

}  // namespace spindlekv
