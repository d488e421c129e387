#include <algorithm>

#include "binding/ops/op.h"
#include "binding/ops/register.h"

namespace spindlekv {
namespace {

struct PoolScoresCall {
  static constexpr char kName[] = "poolScores";
  SkvPoolScoresParams params{};
  std::vector<int32_t> lengths;

  void read(const ObjectReader& reader);
  static Status check(const SkvPoolScoresParams& params) { return check_pool_scores(params); }
  static Status run(OpRunner& run, const SkvPoolScoresParams& params) {
    return run.pool_scores(params);
  }
};

void PoolScoresCall::read(const ObjectReader& reader) {
  const TensorRule rule = {.dtypes = dtype_bit(SKV_F32), .rank = 2};
  const TensorState* in = reader.tensor("in", rule);
  const TensorState* out = reader.tensor("out", rule);
  params.rows = size_of(reader, "in", in, 0);
  lengths = reader.integers("lengths", params.rows);
  const int32_t longest = lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
  reader.require_axis_at_least("in", in, 1, longest);
  reader.require_axis("out", out, 0, params.rows);
  reader.require_axis_at_least("out", out, 1, longest);
  params.in = pointer_of<const float>(in);
  params.out = pointer_of<float>(out);
  params.in_stride = stride_of(in, 0);
  params.out_stride = stride_of(out, 0);
  params.kernel = reader.integer("kernel", 1, INT32_MAX);
  params.kind = reader.choice("kind", {"mean", "max"});
  params.divisor = reader.choice_or("divisor", {"kernel", "valid"}, SKV_POOL_KERNEL);
  params.lengths = lengths.data();
}

}  // namespace

void register_pool_scores(Napi::Env env, Napi::Object exports) {
  register_op<PoolScoresCall>(env, exports);
}

}  // namespace spindlekv
