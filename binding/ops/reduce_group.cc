#include "binding/ops/op.h"
#include "binding/ops/register.h"
#include "core/check/checker.h"

namespace spindlekv {
namespace {

struct ReduceGroupCall {
  static constexpr char kName[] = "reduceGroup";
  SkvReduceGroupParams params{};

  void read(const ObjectReader& reader);
  static Status check(const SkvReduceGroupParams& params) { return check_reduce_group(params); }
  static Status run(OpRunner& run, const SkvReduceGroupParams& params) {
    return run.reduce_group(params);
  }
};

void ReduceGroupCall::read(const ObjectReader& reader) {
  const TensorRule rule = {.dtypes = dtype_bit(SKV_F32), .rank = 2};
  const TensorState* in = reader.tensor("in", rule);
  const TensorState* out = reader.tensor("out", rule);
  params.group = reader.integer("group", 1, kMaxGroup);
  // Before the sizes: of one tensor given twice they cannot be right.
  if (in != nullptr && out != nullptr && in->data() != nullptr && in->data() == out->data()) {
    reader.fail("out", "memory of its own", "memory shared with in");
  }
  params.rows = size_of(reader, "out", out, 0);
  params.length = size_of(reader, "out", out, 1);
  reader.require_axis("in", in, 0, static_cast<int64_t>(params.rows) * params.group);
  reader.require_axis("in", in, 1, params.length);
  params.in = pointer_of<const float>(in);
  params.out = pointer_of<float>(out);
  params.in_stride = stride_of(in, 0);
  params.out_stride = stride_of(out, 0);
  params.kind = reader.choice("kind", {"mean", "max", "sum"});
}

}  // namespace

void register_reduce_group(Napi::Env env, Napi::Object exports) {
  register_op<ReduceGroupCall>(env, exports);
}

}  // namespace spindlekv
