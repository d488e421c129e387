#include <algorithm>

#include "binding/ops/op.h"
#include "binding/ops/register.h"
#include "core/check/checker.h"

namespace spindlekv {
namespace {

struct SelectTopkCall {
  static constexpr char kName[] = "selectTopk";
  SkvSelectTopkParams params{};
  std::vector<int32_t> lengths;
  std::vector<int32_t> k;

  void read(const ObjectReader& reader);
  static Status check(const SkvSelectTopkParams& params) { return check_select_topk(params); }
  static Status run(OpRunner& run, const SkvSelectTopkParams& params) {
    return run.select_topk(params);
  }
};

void SelectTopkCall::read(const ObjectReader& reader) {
  const TensorState* scores = reader.tensor("scores", {.dtypes = dtype_bit(SKV_F32), .rank = 2});
  params.rows = size_of(reader, "scores", scores, 0);
  params.pool_rows = reader.integer_or("poolRows", 1, INT32_MAX, 1);
  params.union_group = reader.integer_or("unionGroup", 1, kMaxGroup, 1);
  params.sinks = reader.integer_or("sinks", 0, INT32_MAX, 0);
  params.recent = reader.integer_or("recent", 0, INT32_MAX, 0);
  params.floor = reader.integer_or("floor", 0, INT32_MAX, 0);
  if (params.rows % params.pool_rows != 0) {
    reader.fail("scores", "a multiple of poolRows (" + std::to_string(params.pool_rows) + ") rows",
                std::to_string(params.rows));
  }
  if (params.rows % params.union_group != 0) {
    reader.fail("scores",
                "a multiple of unionGroup (" + std::to_string(params.union_group) + ") rows",
                std::to_string(params.rows));
  }
  lengths = reader.integers("lengths", params.rows);
  k = reader.integers("k", params.rows / params.pool_rows);
  const int32_t longest = lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
  reader.require_axis_at_least("scores", scores, 1, longest);

  const int32_t out_rows = params.rows / params.union_group;
  const TensorState* indices = reader.tensor("indices", {.dtypes = dtype_bit(SKV_I32), .rank = 2});
  reader.require_axis("indices", indices, 0, out_rows);
  const TensorState* counts =
      reader.tensor("counts", {.dtypes = dtype_bit(SKV_I32), .rank = 1, .is_contiguous = true});
  reader.require_axis("counts", counts, 0, out_rows);
  const TensorState* masks =
      reader.tensor_or_null("masks", {.dtypes = dtype_bit(SKV_U16), .rank = 2});
  reader.require_axis("masks", masks, 0, out_rows);
  params.scores = pointer_of<const float>(scores);
  params.stride = stride_of(scores, 0);
  params.lengths = lengths.data();
  params.k = k.data();
  params.indices = pointer_of<int32_t>(indices);
  params.counts = pointer_of<int32_t>(counts);
  params.masks = pointer_of<uint16_t>(masks);
  params.out_stride = stride_of(indices, 0);
  if (!reader.args().ok()) return;
  // How wide a result can get follows from the other parameters; the rows given must be as wide,
  // whatever the stride between them.
  SkvSelectTopkParams others = params;
  others.out_stride = longest;
  reader.args().fail(check_select_topk(others));
  if (reader.args().ok()) {
    reader.require_axis_at_least("indices", indices, 1, select_topk_width(params));
  }
  // One row has no next one: any stride would do, and the check wants one that holds the result.
  if (out_rows == 1) params.out_stride = std::max<int64_t>(params.out_stride, longest);
  const int64_t width = size_of(reader, "indices", indices, 1);
  reader.require_axis("masks", masks, 1, width);
  if (masks != nullptr && out_rows > 1 && stride_of(masks, 0) != stride_of(indices, 0)) {
    reader.fail("masks", "the row stride of indices", std::to_string(stride_of(masks, 0)));
  }
}

}  // namespace

void register_select_topk(Napi::Env env, Napi::Object exports) {
  register_op<SelectTopkCall>(env, exports);
}

}  // namespace spindlekv
