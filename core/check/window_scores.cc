#include "core/check.h"
#include "core/check/checker.h"
#include "core/check/runs.h"

namespace spindlekv {

Status check_window_scores(const SkvWindowScoresParams& p) {
  Checker check("window_scores");
  check.float_dtype("dtype", p.dtype);
  check.float_dtype("q_dtype", p.q_dtype);
  check.head_dim(p.head_dim);
  check.at_least("kv_heads", p.kv_heads, 1);
  check.range("group", p.group, 1, kMaxGroup);
  check.at_least("queries", p.queries, 1);
  check.finite("scale", p.scale);
  check.flag("reindex", p.reindex);
  check.flag("entropy_context", p.entropy_context);
  check.range("norm", p.norm, SKV_NORM_SUM, SKV_NORM_CAUSAL_COUNT);
  check.rope(p.rope, p.head_dim);
  check.positions("query_position", p.query_position, p.queries, SkvRope{});
  check.positions("rope_query_position", p.rope_query_position, p.queries, p.rope);
  if (!check.ok()) return check.status();

  const int64_t query_heads = static_cast<int64_t>(p.kv_heads) * p.group;
  check.present("q", p.q);
  check.row_stride("q_stride_token", p.q_stride_token, p.queries, p.head_dim);
  check.row_stride("q_stride_head", p.q_stride_head, query_heads, p.head_dim);

  int64_t most_slots = 0;
  check_heads(&check, {p.dtype, p.runs, p.n_runs, p.heads, p.kv_heads, p.reindex, &p.rope},
              &most_slots);
  if (p.sum != nullptr || p.sum_sq != nullptr || p.max != nullptr) {
    check.row_stride("stride", p.stride, query_heads, most_slots);
  }
  return check.status();
}

}  // namespace spindlekv
