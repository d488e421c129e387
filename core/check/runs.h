// Rules for stored slots: runs, and the heads that are made of them.
#pragma once

#include "core/check/checker.h"
#include "core/types.h"

namespace spindlekv {

// The codec of a run that an op reads or writes, and the widths that belong to it.
void check_codec(Checker* check, const SkvRun& run);

// The pointers that `slots` slots of the run's codec need. `with_codewords`: also its K and V
// codewords (a codebook run whose slots are only moved does not touch them).
void check_run_pointers(Checker* check, const SkvRun& run, int64_t slots, size_t element_bytes,
                        bool with_codewords);

struct HeadRules {
  int32_t dtype;  // of K and V
  const SkvRun* runs;
  int32_t n_runs;
  const SkvHead* heads;
  int32_t kv_heads;
  int32_t reindex;
  const SkvRope* rope;
};

// Every run of every head, their slot numbering, and what reindex asks of them.
// *most_slots: the largest head.
void check_heads(Checker* check, const HeadRules& rules, int64_t* most_slots);

}  // namespace spindlekv
