#include <cmath>

#include "binding/ops/op.h"
#include "binding/ops/register.h"
#include "binding/ops/runs.h"

namespace spindlekv {
namespace {

struct WindowScoresCall {
  static constexpr char kName[] = "windowScores";
  SkvWindowScoresParams params{};
  HeadLists lists;

  void read(const ObjectReader& reader);
  static Status check(const SkvWindowScoresParams& params) { return check_window_scores(params); }
  static Status run(OpRunner& run, const SkvWindowScoresParams& params) {
    return run.window_scores(params);
  }

 private:
  float* read_rows(const ObjectReader& reader, const char* name, int32_t query_heads);
};

// One of the [Hq, slots] outputs; all of them share one stride.
float* WindowScoresCall::read_rows(const ObjectReader& reader, const char* name,
                                   int32_t query_heads) {
  const TensorState* rows = reader.tensor_or_null(name, {.dtypes = dtype_bit(SKV_F32), .rank = 2});
  if (rows == nullptr) return nullptr;
  reader.require_axis(name, rows, 0, query_heads);
  reader.require_axis_at_least(name, rows, 1, lists.most_slots);
  const int64_t stride = stride_of(rows, 0);
  if (params.stride != 0 && params.stride != stride) {
    reader.fail(name, "the row stride of the other outputs (" + std::to_string(params.stride) + ")",
                std::to_string(stride));
  }
  params.stride = stride;
  return pointer_of<float>(rows);
}

void WindowScoresCall::read(const ObjectReader& reader) {
  const TensorState* q = reader.tensor("q", {.dtypes = kFloatDtypes, .rank = 3});
  if (q == nullptr) return;
  const int32_t query_heads = size_of(reader, "q", q, 0);
  params.q_dtype = q->dtype;
  params.queries = size_of(reader, "q", q, 1);
  params.head_dim = size_of(reader, "q", q, 2);
  require_head_dim(reader, params.head_dim);
  if (params.queries < 1) reader.fail("queries", "an integer >= 1", "0");

  KvShape shape{-1, params.head_dim};
  lists = read_heads(reader, "heads", &shape);
  params.dtype = shape.dtype < 0 ? q->dtype : shape.dtype;
  params.kv_heads = static_cast<int32_t>(lists.heads.size());
  params.group = group_of(reader, query_heads, lists.heads.size());

  params.q = pointer_of<void>(q);
  params.q_stride_head = stride_of(q, 0);
  params.q_stride_token = stride_of(q, 1);
  params.scale = static_cast<float>(
      reader.number_or("scale", 1.0 / std::sqrt(static_cast<double>(params.head_dim))));
  params.query_position = reader.integer("queryPosition", 0, INT32_MAX);
  params.rope_query_position =
      reader.integer_or("ropeQueryPosition", 0, INT32_MAX, params.query_position);
  params.reindex = reader.flag_or("reindex", false) ? 1 : 0;
  params.rope = read_rope(reader, "rope");
  params.norm = reader.choice_or("norm", {"sum", "window", "causalCount"}, SKV_NORM_SUM);
  params.sum = read_rows(reader, "sum", query_heads);
  params.sum_sq = read_rows(reader, "sumSq", query_heads);
  params.max = read_rows(reader, "max", query_heads);

  const TensorRule list = {.dtypes = dtype_bit(SKV_F32), .rank = 1, .is_contiguous = true};
  const TensorState* entropy = reader.tensor_or_null("entropy", list);
  reader.require_axis("entropy", entropy, 0, query_heads);
  const TensorState* lse = reader.tensor_or_null(
      "lse", {.dtypes = dtype_bit(SKV_F32), .rank = 2, .is_contiguous = true});
  reader.require_axis("lse", lse, 0, query_heads);
  reader.require_axis("lse", lse, 1, params.queries);
  const TensorState* nonfinite = reader.tensor_or_null(
      "nonfinite", {.dtypes = dtype_bit(SKV_I32), .rank = 1, .is_contiguous = true});
  reader.require_axis("nonfinite", nonfinite, 0, 1);
  params.entropy = pointer_of<float>(entropy);
  params.lse = pointer_of<float>(lse);
  params.nonfinite = pointer_of<int32_t>(nonfinite);
  params.n_runs = static_cast<int32_t>(lists.runs.size());
  params.runs = lists.runs.data();
  params.heads = lists.heads.data();
}

}  // namespace

void register_window_scores(Napi::Env env, Napi::Object exports) {
  register_op<WindowScoresCall>(env, exports);
}

}  // namespace spindlekv
