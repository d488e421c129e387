#include "core/check.h"
#include "core/check/checker.h"

namespace spindlekv {

Status check_reduce_by_label(const SkvReduceByLabelParams& p) {
  Checker check("reduce_by_label");
  check.at_least("n", p.n, 0);
  check.at_least("n_labels", p.n_labels, 0);
  if (p.x != nullptr || p.sums != nullptr) {
    check.float_dtype("dtype", p.dtype);
    check.head_dim(p.head_dim);
  }
  if (!check.ok() || p.n == 0) return check.status();
  check.present("labels", p.labels);
  if (p.sums != nullptr) check.present("x", p.x);
  if (p.x != nullptr) check.row_stride("x_stride", p.x_stride, p.n, p.head_dim);
  return check.status();
}

}  // namespace spindlekv
