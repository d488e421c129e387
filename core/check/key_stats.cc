#include "core/check.h"
#include "core/check/checker.h"
#include "core/check/runs.h"

namespace spindlekv {

Status check_key_stats(const SkvKeyStatsParams& p) {
  Checker check("key_stats");
  check.float_dtype("dtype", p.dtype);
  check.head_dim(p.head_dim);
  check.at_least("kv_heads", p.kv_heads, 1);
  check.flag("reindex", p.reindex);
  check.rope(p.rope, p.head_dim);
  if (!check.ok()) return check.status();

  int64_t most_slots = 0;
  check_heads(&check, {p.dtype, p.runs, p.n_runs, p.heads, p.kv_heads, p.reindex, &p.rope},
              &most_slots);
  float* const outputs[] = {p.k_norm, p.cos_to_mean, p.v_norm, p.v_l1};
  bool has_output = false;
  for (const float* output : outputs) has_output = has_output || output != nullptr;
  if (has_output) check.row_stride("stride", p.stride, p.kv_heads, most_slots);
  return check.status();
}

}  // namespace spindlekv
