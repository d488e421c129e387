#include <cmath>

#include "binding/ops/op.h"
#include "binding/ops/register.h"
#include "binding/ops/runs.h"
#include "binding/ops/window_statistics.h"

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
};

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
  read_window_statistics(reader, {query_heads, params.queries, lists.most_slots}, &params);
  params.n_runs = static_cast<int32_t>(lists.runs.size());
  params.runs = lists.runs.data();
  params.heads = lists.heads.data();
}

}  // namespace

void register_window_scores(Napi::Env env, Napi::Object exports) {
  register_op<WindowScoresCall>(env, exports);
}

}  // namespace spindlekv
