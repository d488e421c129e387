// Which run of a head is taken through its codewords, and how it is cut. See codebook.h.
#pragma once

#include <cstdint>

#include "cuda/attend/plan.h"

namespace spindlekv::cuda {

// The run (in the table of runs) of head `h` that has the most slots among those that gain by it,
// or -1. For heads that share nothing and have all rows in one tile.
int32_t choose_codebook(const AttendPlan& plan, int32_t h);

// Adds the run to the plan; its partials are numbered from `first_partial` on. Returns how many.
int32_t add_codebook(AttendPlan& plan, int32_t h, int32_t run, int32_t first_partial);

}  // namespace spindlekv::cuda
