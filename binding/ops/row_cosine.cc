#include "binding/ops/op.h"
#include "binding/ops/register.h"

namespace spindlekv {
namespace {

struct RowCosineCall {
  static constexpr char kName[] = "rowCosine";
  SkvRowCosineParams params{};

  void read(const ObjectReader& reader);
  static Status check(const SkvRowCosineParams& params) { return check_row_cosine(params); }
  static Status run(OpRunner& run, const SkvRowCosineParams& params) {
    return run.row_cosine(params);
  }
};

void RowCosineCall::read(const ObjectReader& reader) {
  const TensorState* a = reader.tensor("a", {.dtypes = kFloatDtypes, .rank = 2});
  if (a == nullptr) return;
  const TensorState* b = reader.tensor("b", {.dtypes = dtype_bit(a->dtype), .rank = 2});
  params.dtype = a->dtype;
  params.rows = size_of(reader, "a", a, 0);
  params.width = size_of(reader, "a", a, 1);
  if (params.width < 1) reader.fail("a", "at least one entry on axis 1", "none");
  reader.require_axis("b", b, 0, params.rows);
  reader.require_axis("b", b, 1, params.width);
  const TensorRule list = {.dtypes = dtype_bit(SKV_F32), .rank = 1, .is_contiguous = true};
  const TensorState* cosines = reader.tensor_or_null("cosines", list);
  const TensorState* sum = reader.tensor_or_null("sum", list);
  reader.require_axis("cosines", cosines, 0, params.rows);
  reader.require_axis("sum", sum, 0, 1);
  params.a = pointer_of<const void>(a);
  params.b = pointer_of<const void>(b);
  params.a_stride = stride_of(a, 0);
  params.b_stride = stride_of(b, 0);
  params.cosines = pointer_of<float>(cosines);
  params.sum = pointer_of<float>(sum);
  params.nonfinite = read_counter(reader, "nonfinite");
}

}  // namespace

void register_row_cosine(Napi::Env env, Napi::Object exports) {
  register_op<RowCosineCall>(env, exports);
}

}  // namespace spindlekv
