#include <algorithm>

#include "binding/ops/op.h"
#include "binding/ops/register.h"
#include "core/check/checker.h"

namespace spindlekv {
namespace {

constexpr int64_t kBitsPerWord = 64;

struct BuildCodebookCall {
  static constexpr char kName[] = "buildCodebook";
  SkvBuildCodebookParams params{};
  std::vector<SkvCodebookProblem> problems;

  void read(const ObjectReader& reader);
  static Status check(const SkvBuildCodebookParams& params) { return check_build_codebook(params); }
  static Status run(OpRunner& run, const SkvBuildCodebookParams& params) {
    return run.build_codebook(params);
  }

 private:
  void read_problem(const ObjectReader& reader, SkvCodebookProblem* problem);
  void read_outputs(const ObjectReader& reader, SkvCodebookProblem* problem);
};

TensorRule list_of(uint32_t dtypes) { return {.dtypes = dtypes, .rank = 1, .is_contiguous = true}; }

void BuildCodebookCall::read_problem(const ObjectReader& reader, SkvCodebookProblem* problem) {
  const bool is_first = params.head_dim == 0;
  const TensorState* x = reader.tensor_or_null(
      "x", {.dtypes = is_first ? kFloatDtypes : dtype_bit(params.dtype), .rank = 2});
  const TensorState* graph = reader.tensor_or_null(
      "graph", {.dtypes = dtype_bit(SKV_U64), .rank = 2, .is_contiguous = true});
  const bool covers_graph_alone = params.stages == SKV_STAGE_COVER && params.max_codewords == 0;
  if (x == nullptr && (graph == nullptr || !covers_graph_alone)) {
    reader.fail("x", "a Tensor (only covering a graph without maxCodewords does without)",
                "undefined");
    return;
  }
  if (x != nullptr) {
    if (is_first) {
      params.dtype = x->dtype;
      params.head_dim = size_of(reader, "x", x, 1);
    }
    reader.require_axis("x", x, 1, params.head_dim);
    problem->x = pointer_of<const void>(x);
    problem->x_stride = stride_of(x, 0);
    problem->n = size_of(reader, "x", x, 0);
  } else {
    problem->n = size_of(reader, "graph", graph, 0);
  }
  const TensorState* rows = reader.tensor_or_null("rows", list_of(dtype_bit(SKV_I32)));
  problem->rows = pointer_of<const int32_t>(rows);
  problem->n_rows = rows == nullptr ? problem->n : size_of(reader, "rows", rows, 0);
  problem->theta = static_cast<float>(reader.number("theta"));
  reader.require_axis("graph", graph, 0, problem->n);
  reader.require_axis("graph", graph, 1, (problem->n + kBitsPerWord - 1) / kBitsPerWord);
  problem->graph = pointer_of<uint64_t>(graph);
}

void BuildCodebookCall::read_outputs(const ObjectReader& reader, SkvCodebookProblem* problem) {
  const uint32_t i32 = dtype_bit(SKV_I32);
  const TensorState* labels = reader.tensor_or_null("labels", list_of(i32));
  reader.require_axis("labels", labels, 0, problem->n_rows);
  const TensorState* leaders = reader.tensor_or_null("leaders", list_of(i32));
  const TensorState* count = reader.tensor_or_null("count", list_of(i32));
  reader.require_axis("count", count, 0, 1);
  const TensorState* codewords = reader.tensor_or_null(
      "codewords", {.dtypes = dtype_bit(params.dtype), .rank = 2, .is_contiguous = true});
  reader.require_axis("codewords", codewords, 1, params.head_dim);
  problem->capacity = size_of(reader, "leaders", leaders, 0);
  if (codewords != nullptr) {
    problem->capacity = std::min(problem->capacity, size_of(reader, "codewords", codewords, 0));
  }

  const TensorState* refs = reader.tensor_or_null("refs", list_of(dtype_bit(SKV_U16) | i32));
  if (refs != nullptr) {
    const auto bytes = static_cast<int32_t>(dtype_bytes(refs->dtype));
    if (params.ref_bytes != 0 && params.ref_bytes != bytes) {
      reader.fail("refs", "the dtype of the other problems' refs", dtype_name(refs->dtype));
    }
    params.ref_bytes = bytes;
  }
  const TensorState* magnitudes =
      reader.tensor_or_null("magnitudes", list_of(dtype_bit(params.dtype)));
  const TensorState* cosines = reader.tensor_or_null("cosines", list_of(dtype_bit(SKV_F32)));
  reader.require_axis("refs", refs, 0, problem->n_rows);
  reader.require_axis("magnitudes", magnitudes, 0, problem->n_rows);
  reader.require_axis("cosines", cosines, 0, problem->n_rows);
  problem->labels = pointer_of<int32_t>(labels);
  problem->leaders = pointer_of<int32_t>(leaders);
  problem->count = pointer_of<int32_t>(count);
  problem->codewords = pointer_of<void>(codewords);
  problem->refs = pointer_of<void>(refs);
  problem->magnitudes = pointer_of<void>(magnitudes);
  problem->cosines = pointer_of<float>(cosines);
}

void BuildCodebookCall::read(const ObjectReader& reader) {
  for (const std::string& stage : reader.texts("stages")) {
    if (stage == "graph") {
      params.stages |= SKV_STAGE_GRAPH;
    } else if (stage == "cover") {
      params.stages |= SKV_STAGE_COVER;
    } else if (stage == "emit") {
      params.stages |= SKV_STAGE_EMIT;
    } else {
      reader.fail("stages", "\"graph\", \"cover\" or \"emit\"", "\"" + stage + "\"");
    }
  }
  params.max_codewords = reader.integer_or("maxCodewords", 0, INT32_MAX, 0);
  params.refine = reader.integer_or("refine", 0, INT32_MAX, 0);
  for (const ObjectReader& item : reader.objects("problems")) {
    SkvCodebookProblem problem{};
    read_problem(item, &problem);
    read_outputs(item, &problem);
    problems.push_back(problem);
  }
  if (params.head_dim == 0) {  // no rows anywhere: the graphs alone are read
    params.dtype = SKV_F32;
    params.head_dim = kMinHeadDim;
  }
  if (params.ref_bytes == 0) params.ref_bytes = 2;  // no references are asked for
  params.nonfinite = read_counter(reader, "nonfinite");
  params.n_problems = static_cast<int32_t>(problems.size());
  params.problems = problems.data();
}

}  // namespace

void register_build_codebook(Napi::Env env, Napi::Object exports) {
  register_op<BuildCodebookCall>(env, exports);
}

}  // namespace spindlekv
