#include "binding/ops/op.h"
#include "binding/ops/register.h"
#include "core/check/checker.h"

namespace spindlekv {
namespace {

struct NearestCodewordCall {
  static constexpr char kName[] = "nearestCodeword";
  SkvNearestCodewordParams params{};
  std::vector<SkvNearestProblem> problems;

  void read(const ObjectReader& reader);
  static Status check(const SkvNearestCodewordParams& params) {
    return check_nearest_codeword(params);
  }
  static Status run(OpRunner& run, const SkvNearestCodewordParams& params) {
    return run.nearest_codeword(params);
  }
};

void NearestCodewordCall::read(const ObjectReader& reader) {
  params.dtype = SKV_F32;
  params.head_dim = kMinHeadDim;
  for (const ObjectReader& item : reader.objects("problems")) {
    SkvNearestProblem problem{};
    const bool is_first = problems.empty();
    const TensorState* x =
        item.tensor("x", {.dtypes = is_first ? kFloatDtypes : dtype_bit(params.dtype), .rank = 2});
    if (x == nullptr) return;
    if (is_first) {
      params.dtype = x->dtype;
      params.head_dim = size_of(item, "x", x, 1);
    }
    const TensorState* codewords =
        item.tensor("codewords", {.dtypes = dtype_bit(params.dtype), .rank = 2});
    item.require_axis("x", x, 1, params.head_dim);
    item.require_axis("codewords", codewords, 1, params.head_dim);
    problem.n = size_of(item, "x", x, 0);
    problem.c = size_of(item, "codewords", codewords, 0);
    const TensorRule scores = {.dtypes = dtype_bit(SKV_F32), .rank = 1, .is_contiguous = true};
    const TensorState* index =
        item.tensor("index", {.dtypes = dtype_bit(SKV_I32), .rank = 1, .is_contiguous = true});
    const TensorState* score = item.tensor_or_null("score", scores);
    const TensorState* norm = item.tensor_or_null("norm", scores);
    item.require_axis("index", index, 0, problem.n);
    item.require_axis("score", score, 0, problem.n);
    item.require_axis("norm", norm, 0, problem.n);
    problem.x = pointer_of<const void>(x);
    problem.codewords = pointer_of<const void>(codewords);
    problem.x_stride = stride_of(x, 0);
    problem.codeword_stride = stride_of(codewords, 0);
    problem.index = pointer_of<int32_t>(index);
    problem.score = pointer_of<float>(score);
    problem.norm = pointer_of<float>(norm);
    problems.push_back(problem);
  }
  params.normalize = reader.flag_or("normalize", true) ? 1 : 0;
  params.n_problems = static_cast<int32_t>(problems.size());
  params.problems = problems.data();
}

}  // namespace

void register_nearest_codeword(Napi::Env env, Napi::Object exports) {
  register_op<NearestCodewordCall>(env, exports);
}

}  // namespace spindlekv
