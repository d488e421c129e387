#include "core/check.h"
#include "core/check/checker.h"

namespace spindlekv {

Status check_row_cosine(const SkvRowCosineParams& p) {
  Checker check("row_cosine");
  check.float_dtype("dtype", p.dtype);
  check.at_least("rows", p.rows, 0);
  check.at_least("width", p.width, 1);
  if (!check.ok() || p.rows == 0) return check.status();
  check.aligned("a", p.a, dtype_bytes(p.dtype));
  check.aligned("b", p.b, dtype_bytes(p.dtype));
  check.row_stride("a_stride", p.a_stride, p.rows, p.width);
  check.row_stride("b_stride", p.b_stride, p.rows, p.width);
  return check.status();
}

}  // namespace spindlekv
