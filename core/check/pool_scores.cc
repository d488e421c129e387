#include <algorithm>

#include "core/check.h"
#include "core/check/checker.h"

namespace spindlekv {

Status check_pool_scores(const SkvPoolScoresParams& p) {
  Checker check("pool_scores");
  check.at_least("rows", p.rows, 0);
  check.at_least("kernel", p.kernel, 1);
  check.require(p.kernel % 2 == 1, "kernel", "an odd number", p.kernel);
  check.range("kind", p.kind, SKV_POOL_MEAN, SKV_POOL_MAX);
  check.range("divisor", p.divisor, SKV_POOL_KERNEL, SKV_POOL_VALID);
  if (p.rows > 0) check.present("lengths", p.lengths);

  int64_t longest = 0;
  for (int32_t r = 0; check.ok() && r < p.rows; ++r) {
    check.at_least("lengths", p.lengths[r], 0);
    longest = std::max<int64_t>(longest, p.lengths[r]);
  }
  if (!check.ok() || longest == 0) return check.status();
  check.present("in", p.in);
  check.present("out", p.out);
  check.row_stride("in_stride", p.in_stride, p.rows, longest);
  check.row_stride("out_stride", p.out_stride, p.rows, longest);
  const Block in{p.in, 1, p.rows, longest, 0, p.in_stride, sizeof(float)};
  const Block out{p.out, 1, p.rows, longest, 0, p.out_stride, sizeof(float)};
  check.apart("out", "in", out, in);
  return check.status();
}

}  // namespace spindlekv
