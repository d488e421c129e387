#include "core/check.h"
#include "core/check/checker.h"

namespace spindlekv {

Status check_reduce_by_label(const SkvReduceByLabelParams& p) {
  Checker check("reduce_by_label");
  check.at_least("n_problems", p.n_problems, 0);
  if (p.n_problems > 0) check.present("problems", p.problems);
  for (int32_t i = 0; check.ok() && i < p.n_problems; ++i) {
    const SkvLabelProblem& problem = p.problems[i];
    if (problem.x != nullptr || problem.sums != nullptr) {
      check.float_dtype("dtype", p.dtype);
      check.head_dim(p.head_dim);
    }
    check.enter("problems", i);
    check.at_least("n", problem.n, 0);
    check.at_least("n_labels", problem.n_labels, 0);
    if (!check.ok() || problem.n == 0) continue;
    check.present("labels", problem.labels);
    if (problem.sums != nullptr) check.present("x", problem.x);
    if (problem.x != nullptr) {
      check.row_stride("x_stride", problem.x_stride, problem.n, p.head_dim);
    }
  }
  return check.status();
}

}  // namespace spindlekv
