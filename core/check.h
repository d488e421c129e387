// The argument rules of core/ops.h as code: Status check_<op>(const Skv<Op>Params&) for every op.
//
// Every backend calls the check of an op before anything else, so that all of them refuse the same
// input with the same words: "expected <what> for <param>, got <value>". A check reads only the
// structs and their host arrays, never device memory; what is only there (indices, labels,
// positions of stored slots) is the caller's duty as core/ops.h says. Cost: O(items + runs + rows).
#pragma once

#include "core/ops.h"
#include "core/status.h"

namespace spindlekv {

#define SKV_DECLARE_CHECK(name, Stem) Status check_##name(const Skv##Stem##Params& params);
SKV_OPS(SKV_DECLARE_CHECK)
#undef SKV_DECLARE_CHECK

// The most indices that one output row of a select_topk can get. The params have passed the check
// but for out_stride, which must be at least this.
int64_t select_topk_width(const SkvSelectTopkParams& params);

}  // namespace spindlekv
