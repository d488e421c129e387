#include "core/check.h"
#include "core/check/checker.h"

namespace spindlekv {

Status check_nearest_codeword(const SkvNearestCodewordParams& p) {
  Checker check("nearest_codeword");
  check.float_dtype("dtype", p.dtype);
  check.head_dim(p.head_dim);
  check.flag("normalize", p.normalize);
  check.at_least("n_problems", p.n_problems, 0);
  if (p.n_problems > 0) check.present("problems", p.problems);
  for (int32_t i = 0; check.ok() && i < p.n_problems; ++i) {
    const SkvNearestProblem& problem = p.problems[i];
    check.enter("problems", i);
    check.at_least("n", problem.n, 0);
    check.at_least("c", problem.c, 0);
    if (problem.n <= 0) continue;
    check.present("x", problem.x);
    check.present("index", problem.index);
    if (problem.c > 0) check.present("codewords", problem.codewords);
    check.row_stride("x_stride", problem.x_stride, problem.n, p.head_dim);
    check.row_stride("codeword_stride", problem.codeword_stride, problem.c, p.head_dim);
  }
  return check.status();
}

}  // namespace spindlekv
