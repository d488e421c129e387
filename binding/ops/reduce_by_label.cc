#include "binding/ops/op.h"
#include "binding/ops/register.h"

namespace spindlekv {
namespace {

struct ReduceByLabelCall {
  static constexpr char kName[] = "reduceByLabel";
  SkvReduceByLabelParams params{};

  void read(const ObjectReader& reader);
  static Status check(const SkvReduceByLabelParams& params) {
    return check_reduce_by_label(params);
  }
  static Status run(OpRunner& run, const SkvReduceByLabelParams& params) {
    return run.reduce_by_label(params);
  }
};

void ReduceByLabelCall::read(const ObjectReader& reader) {
  const auto list_of = [](int32_t dtype) {
    return TensorRule{.dtypes = dtype_bit(dtype), .rank = 1, .is_contiguous = true};
  };
  const TensorState* labels = reader.tensor("labels", list_of(SKV_I32));
  params.n = size_of(reader, "labels", labels, 0);
  params.n_labels = reader.integer("nLabels", 0, INT32_MAX - 1);
  const TensorState* x = reader.tensor_or_null("x", {.dtypes = kFloatDtypes, .rank = 2});
  const TensorState* weights = reader.tensor_or_null("weights", list_of(SKV_F32));
  const TensorState* sums = reader.tensor_or_null(
      "sums", {.dtypes = dtype_bit(SKV_F32), .rank = 2, .is_contiguous = true});
  const TensorState* counts = reader.tensor_or_null("counts", list_of(SKV_I32));
  const TensorState* offsets = reader.tensor_or_null("offsets", list_of(SKV_I32));
  const TensorState* order = reader.tensor_or_null("order", list_of(SKV_I32));
  if (sums != nullptr && x == nullptr) reader.fail("x", "a Tensor (sums is given)", "undefined");
  if (x != nullptr) {
    params.dtype = x->dtype;
    params.head_dim = size_of(reader, "x", x, 1);
    reader.require_axis("x", x, 0, params.n);
    reader.require_axis("sums", sums, 1, params.head_dim);
  }
  reader.require_axis("sums", sums, 0, params.n_labels);
  reader.require_axis("weights", weights, 0, params.n);
  reader.require_axis("counts", counts, 0, params.n_labels);
  reader.require_axis("offsets", offsets, 0, static_cast<int64_t>(params.n_labels) + 1);
  reader.require_axis("order", order, 0, params.n);
  params.x = pointer_of<const void>(x);
  params.x_stride = stride_of(x, 0);
  params.labels = pointer_of<const int32_t>(labels);
  params.weights = pointer_of<const float>(weights);
  params.sums = pointer_of<float>(sums);
  params.counts = pointer_of<int32_t>(counts);
  params.offsets = pointer_of<int32_t>(offsets);
  params.order = pointer_of<int32_t>(order);
}

}  // namespace

void register_reduce_by_label(Napi::Env env, Napi::Object exports) {
  register_op<ReduceByLabelCall>(env, exports);
}

}  // namespace spindlekv
