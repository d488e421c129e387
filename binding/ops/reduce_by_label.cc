#include "binding/ops/op.h"
#include "binding/ops/register.h"

namespace spindlekv {
namespace {

struct ReduceByLabelCall {
  static constexpr char kName[] = "reduceByLabel";
  SkvReduceByLabelParams params{};
  std::vector<SkvLabelProblem> problems;

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
  bool has_rows = false;  // of a problem before: dtype and head dim are known
  for (const ObjectReader& item : reader.objects("problems")) {
    SkvLabelProblem problem{};
    const TensorState* labels = item.tensor("labels", list_of(SKV_I32));
    problem.n = size_of(item, "labels", labels, 0);
    problem.n_labels = item.integer("nLabels", 0, INT32_MAX - 1);
    const TensorState* x = item.tensor_or_null(
        "x", {.dtypes = has_rows ? dtype_bit(params.dtype) : kFloatDtypes, .rank = 2});
    const TensorState* weights = item.tensor_or_null("weights", list_of(SKV_F32));
    const TensorState* sums = item.tensor_or_null(
        "sums", {.dtypes = dtype_bit(SKV_F32), .rank = 2, .is_contiguous = true});
    const TensorState* counts = item.tensor_or_null("counts", list_of(SKV_I32));
    const TensorState* offsets = item.tensor_or_null("offsets", list_of(SKV_I32));
    const TensorState* order = item.tensor_or_null("order", list_of(SKV_I32));
    if (sums != nullptr && x == nullptr) item.fail("x", "a Tensor (sums is given)", "undefined");
    if (x != nullptr) {
      if (!has_rows) {
        params.dtype = x->dtype;
        params.head_dim = size_of(item, "x", x, 1);
        has_rows = true;
      }
      item.require_axis("x", x, 0, problem.n);
      item.require_axis("x", x, 1, params.head_dim);
      item.require_axis("sums", sums, 1, params.head_dim);
    }
    item.require_axis("sums", sums, 0, problem.n_labels);
    item.require_axis("weights", weights, 0, problem.n);
    item.require_axis("counts", counts, 0, problem.n_labels);
    item.require_axis("offsets", offsets, 0, static_cast<int64_t>(problem.n_labels) + 1);
    item.require_axis("order", order, 0, problem.n);
    problem.x = pointer_of<const void>(x);
    problem.x_stride = stride_of(x, 0);
    problem.labels = pointer_of<const int32_t>(labels);
    problem.weights = pointer_of<const float>(weights);
    problem.sums = pointer_of<float>(sums);
    problem.counts = pointer_of<int32_t>(counts);
    problem.offsets = pointer_of<int32_t>(offsets);
    problem.order = pointer_of<int32_t>(order);
    problems.push_back(problem);
  }
  params.n_problems = static_cast<int32_t>(problems.size());
  params.problems = problems.data();
}

}  // namespace

void register_reduce_by_label(Napi::Env env, Napi::Object exports) {
  register_op<ReduceByLabelCall>(env, exports);
}

}  // namespace spindlekv
