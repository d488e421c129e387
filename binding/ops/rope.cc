#include "binding/ops/op.h"
#include "binding/ops/register.h"
#include "binding/ops/runs.h"

namespace spindlekv {
namespace {

struct RopeCall {
  static constexpr char kName[] = "rope";
  SkvRopeParams params{};

  void read(const ObjectReader& reader);
  static Status check(const SkvRopeParams& params) { return check_rope(params); }
  static Status run(OpRunner& run, const SkvRopeParams& params) { return run.rope(params); }
};

void RopeCall::read(const ObjectReader& reader) {
  const TensorState* in = reader.tensor("in", {.dtypes = kFloatDtypes, .rank = 3});
  if (in == nullptr) return;
  params.dtype = in->dtype;
  params.heads = size_of(reader, "in", in, 0);
  params.tokens = size_of(reader, "in", in, 1);
  params.head_dim = size_of(reader, "in", in, 2);
  const TensorState* out = reader.tensor("out", {.dtypes = dtype_bit(in->dtype), .rank = 3});
  reader.require_axis("out", out, 0, params.heads);
  reader.require_axis("out", out, 1, params.tokens);
  reader.require_axis("out", out, 2, params.head_dim);
  const TensorRule list = {.dtypes = dtype_bit(SKV_I32), .rank = 1, .is_contiguous = true};
  const TensorState* from = reader.tensor_or_null("positionsFrom", list);
  const TensorState* to = reader.tensor_or_null("positionsTo", list);
  reader.require_axis("positionsFrom", from, 0, params.tokens);
  reader.require_axis("positionsTo", to, 0, params.tokens);
  if (!reader.has("rope")) reader.fail("rope", "a table and a style", "undefined");
  params.rope = read_rope(reader, "rope");
  params.in = pointer_of<const void>(in);
  params.out = pointer_of<void>(out);
  params.in_stride_head = stride_of(in, 0);
  params.in_stride_token = stride_of(in, 1);
  params.out_stride_head = stride_of(out, 0);
  params.out_stride_token = stride_of(out, 1);
  params.positions_from = pointer_of<const int32_t>(from);
  params.positions_to = pointer_of<const int32_t>(to);
}

}  // namespace

void register_rope(Napi::Env env, Napi::Object exports) { register_op<RopeCall>(env, exports); }

}  // namespace spindlekv
