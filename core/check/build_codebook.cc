#include <algorithm>

#include "core/check.h"
#include "core/check/checker.h"

namespace spindlekv {
namespace {

constexpr int32_t kAllStages = SKV_STAGE_GRAPH | SKV_STAGE_COVER | SKV_STAGE_EMIT;

void check_problem(Checker* check, const SkvBuildCodebookParams& p,
                   const SkvCodebookProblem& problem) {
  const bool graph = (p.stages & SKV_STAGE_GRAPH) != 0;
  const bool cover = (p.stages & SKV_STAGE_COVER) != 0;
  const bool emit = (p.stages & SKV_STAGE_EMIT) != 0;
  check->at_least("n", problem.n, 0);
  check->range("n_rows", problem.n_rows, 0, problem.n);
  if (problem.rows == nullptr) {
    check->require(problem.n_rows == problem.n || problem.n_rows == 0, "n_rows",
                   "n (rows is NULL: all)", problem.n_rows);
  }
  check->finite("theta", problem.theta);
  check->require(problem.theta >= -1.0f && problem.theta <= 1.0f, "theta", "a cosine in [-1, 1]",
                 problem.theta < 0.0f ? "one below -1" : "one above 1");
  if (problem.x != nullptr) check->row_stride("x_stride", problem.x_stride, problem.n, p.head_dim);
  check->at_least("capacity", problem.capacity, 0);
  if (cover || emit) check->present("count", problem.count);
  if (!check->ok()) return;

  if (problem.n > 0) {
    if (graph) check->present("graph", problem.graph);
    const bool reads_x = graph || emit || problem.graph == nullptr || p.max_codewords > 0;
    if (reads_x) check->present("x", problem.x);
  }
  if (problem.n_rows == 0 || !(cover || emit)) return;
  check->present("labels", problem.labels);
  check->present("leaders", problem.leaders);
  if (cover) {
    const int32_t most =
        p.max_codewords > 0 ? std::min(p.max_codewords, problem.n_rows) : problem.n_rows;
    check->at_least("capacity", problem.capacity, most);
  } else {
    check->at_least("capacity", problem.capacity, 1);
  }
  if (!emit) return;
  check->present("codewords", problem.codewords);
  if (problem.refs != nullptr && p.ref_bytes == 2) {
    const int64_t most = std::min(problem.capacity, problem.n_rows);
    check->require(most <= kMaxShortReference, "capacity",
                   "at most 65536 codewords (ref_bytes is 2)", most);
  }
}

}  // namespace

Status check_build_codebook(const SkvBuildCodebookParams& p) {
  Checker check("build_codebook");
  check.float_dtype("dtype", p.dtype);
  check.head_dim(p.head_dim);
  check.range("stages", p.stages, 1, kAllStages);
  check.at_least("max_codewords", p.max_codewords, 0);
  check.at_least("refine", p.refine, 0);
  if ((p.stages & SKV_STAGE_EMIT) != 0) {
    check.require(p.ref_bytes == 2 || p.ref_bytes == 4, "ref_bytes", "2 or 4", p.ref_bytes);
  }
  check.at_least("n_problems", p.n_problems, 0);
  if (p.n_problems > 0) check.present("problems", p.problems);
  for (int32_t i = 0; check.ok() && i < p.n_problems; ++i) {
    check.enter("problems", i);
    check_problem(&check, p, p.problems[i]);
  }
  return check.status();
}

}  // namespace spindlekv
