#include "core/check.h"
#include "core/check/checker.h"
#include "core/check/runs.h"

namespace spindlekv {

namespace {

void check_problem(Checker& check, const SkvAttendParams& p) {
  check.float_dtype("dtype", p.dtype);
  check.float_dtype("q_dtype", p.q_dtype);
  check.head_dim(p.head_dim);
  check.at_least("kv_heads", p.kv_heads, 1);
  check.range("group", p.group, 1, kMaxGroup);
  check.at_least("queries", p.queries, 0);
  check.finite("scale", p.scale);
  check.flag("causal", p.causal);
  check.flag("reindex", p.reindex);
  check.rope(p.rope, p.head_dim);
  check.positions("query_position", p.query_position, p.queries, SkvRope{});
  check.positions("rope_query_position", p.rope_query_position, p.queries, p.rope);
  check.range("score_mode", p.score_mode, SKV_SCORE_NONE, SKV_SCORE_KV_HEAD);
  if (!check.ok()) return;

  const int64_t query_heads = static_cast<int64_t>(p.kv_heads) * p.group;
  if (p.queries > 0) {
    check.present("q", p.q);
    check.present("out", p.out);
    check.row_stride("q_stride_token", p.q_stride_token, p.queries, p.head_dim);
    check.row_stride("q_stride_head", p.q_stride_head, query_heads, p.head_dim);
    const Block q{p.q,
                  query_heads,
                  p.queries,
                  p.head_dim,
                  p.q_stride_head,
                  p.q_stride_token,
                  dtype_bytes(p.q_dtype)};
    const Block out{p.out,
                    query_heads,
                    p.queries,
                    p.head_dim,
                    p.out_stride_head,
                    p.out_stride_token,
                    dtype_bytes(p.q_dtype)};
    check.distinct_rows("out", out);
    check.apart("out", "q", out, q);
  }

  int64_t most_slots = 0;
  check_heads(&check, {p.dtype, p.runs, p.n_runs, p.heads, p.kv_heads, p.reindex, &p.rope},
              &most_slots);

  if (p.score_mode == SKV_SCORE_NONE) {
    check.require(p.score_sum == nullptr, "score_sum", "NULL (score_mode is 0)", "memory");
  } else if (most_slots > 0) {
    const int64_t rows = p.score_mode == SKV_SCORE_QUERY_HEAD ? query_heads : p.kv_heads;
    check.present("score_sum", p.score_sum);
    check.row_stride("score_stride", p.score_stride, rows, most_slots);
  }
}

}  // namespace

Status check_attend(const SkvAttendParams& params) {
  Checker check("attend");
  check_problem(check, params);
  return check.status();
}

Status check_attend_batch(const SkvAttendBatchParams& params) {
  Checker check("attend_batch");
  check.at_least("n_items", params.n_items, 0);
  if (params.n_items > 0) check.present("items", params.items);
  for (int32_t i = 0; check.ok() && i < params.n_items; ++i) {
    const SkvAttendParams& item = params.items[i];
    const SkvAttendParams& first = params.items[0];
    check.within("items", i);
    check_problem(check, item);
    check.range("dtype", item.dtype, first.dtype, first.dtype);
    check.range("q_dtype", item.q_dtype, first.q_dtype, first.q_dtype);
    check.range("head_dim", item.head_dim, first.head_dim, first.head_dim);
    check.range("group", item.group, first.group, first.group);
  }
  return check.status();
}

}  // namespace spindlekv
