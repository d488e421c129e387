#include "binding/ops/attend_arguments.h"

#include <cmath>

#include "binding/ops/op.h"

namespace spindlekv {

void AttendArguments::read(const ObjectReader& reader) {
  const TensorState* q = reader.tensor("q", {.dtypes = kFloatDtypes, .rank = 3});
  if (q == nullptr) return;
  const int32_t query_heads = size_of(reader, "q", q, 0);
  params.q_dtype = q->dtype;
  params.queries = size_of(reader, "q", q, 1);
  params.head_dim = size_of(reader, "q", q, 2);
  require_head_dim(reader, params.head_dim);

  KvShape shape{-1, params.head_dim};
  lists = read_heads(reader, "heads", &shape);
  params.dtype = shape.dtype < 0 ? q->dtype : shape.dtype;
  params.kv_heads = static_cast<int32_t>(lists.heads.size());
  params.group = group_of(reader, query_heads, lists.heads.size());

  const TensorState* out = reader.tensor("out", {.dtypes = dtype_bit(q->dtype), .rank = 3});
  reader.require_axis("out", out, 0, query_heads);
  reader.require_axis("out", out, 1, params.queries);
  reader.require_axis("out", out, 2, params.head_dim);
  const TensorState* lse = reader.tensor_or_null(
      "lse", {.dtypes = dtype_bit(SKV_F32), .rank = 2, .is_contiguous = true});
  reader.require_axis("lse", lse, 0, query_heads);
  reader.require_axis("lse", lse, 1, params.queries);

  const TensorState* score_sum =
      reader.tensor_or_null("scoreSum", {.dtypes = dtype_bit(SKV_F32), .rank = 2});
  if (score_sum != nullptr) {
    params.score_mode = 1 + reader.choice("scoreMode", {"query-head", "kv-head"});
    reader.require_axis("scoreSum", score_sum, 0,
                        params.score_mode == SKV_SCORE_QUERY_HEAD ? query_heads : params.kv_heads);
    reader.require_axis_at_least("scoreSum", score_sum, 1, lists.most_slots);
  } else if (reader.has("scoreMode")) {
    reader.fail("scoreSum", "a Tensor (scoreMode is given)", "undefined");
  }

  params.q = pointer_of<void>(q);
  params.q_stride_head = stride_of(q, 0);
  params.q_stride_token = stride_of(q, 1);
  params.out = pointer_of<void>(out);
  params.out_stride_head = stride_of(out, 0);
  params.out_stride_token = stride_of(out, 1);
  params.lse = pointer_of<float>(lse);
  params.score_sum = pointer_of<float>(score_sum);
  params.score_stride = stride_of(score_sum, 0);
  if (params.score_sum == nullptr) params.score_mode = SKV_SCORE_NONE;  // no slots: nothing to add
  params.scale = static_cast<float>(
      reader.number_or("scale", 1.0 / std::sqrt(static_cast<double>(params.head_dim))));
  params.causal = reader.flag_or("causal", true) ? 1 : 0;
  params.query_position = reader.integer("queryPosition", 0, INT32_MAX);
  params.rope_query_position =
      reader.integer_or("ropeQueryPosition", 0, INT32_MAX, params.query_position);
  params.reindex = reader.flag_or("reindex", false) ? 1 : 0;
  params.rope = read_rope(reader, "rope");
  params.n_runs = static_cast<int32_t>(lists.runs.size());
  params.runs = lists.runs.data();
  params.heads = lists.heads.data();
}

}  // namespace spindlekv
