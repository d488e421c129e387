#include "core/check.h"
#include "core/check/checker.h"

namespace spindlekv {

Status check_reduce_group(const SkvReduceGroupParams& p) {
  Checker check("reduce_group");
  check.at_least("rows", p.rows, 0);
  check.range("group", p.group, 1, kMaxGroup);
  check.range("kind", p.kind, SKV_REDUCE_MEAN, SKV_REDUCE_SUM);
  check.at_least("length", p.length, 0);
  if (!check.ok() || p.rows == 0 || p.length == 0) return check.status();

  const int64_t in_rows = static_cast<int64_t>(p.rows) * p.group;
  check.present("in", p.in);
  check.present("out", p.out);
  check.row_stride("in_stride", p.in_stride, in_rows, p.length);
  check.row_stride("out_stride", p.out_stride, p.rows, p.length);
  const Block in{p.in, 1, in_rows, p.length, 0, p.in_stride, sizeof(float)};
  const Block out{p.out, 1, p.rows, p.length, 0, p.out_stride, sizeof(float)};
  check.apart("out", "in", out, in);
  return check.status();
}

}  // namespace spindlekv
