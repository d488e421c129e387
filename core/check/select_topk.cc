#include <algorithm>

#include "core/check.h"
#include "core/check/checker.h"

namespace spindlekv {
namespace {

// Slots of a row that are selected whatever their score.
int64_t protected_slots(const SkvSelectTopkParams& p, int32_t row) {
  const int64_t length = p.lengths[row];
  return std::min(length, static_cast<int64_t>(p.sinks) + p.recent);
}

// The most slots that a row can give.
int64_t most_selected(const SkvSelectTopkParams& p, int32_t row) {
  const int64_t kept = protected_slots(p, row);
  const int64_t total = p.k[row / p.pool_rows];
  const int64_t ranked = p.pool_rows > 1 ? std::max<int64_t>(total, p.floor) : total;
  return kept + std::min(p.lengths[row] - kept, ranked);
}

}  // namespace

int64_t select_topk_width(const SkvSelectTopkParams& p) {
  int64_t widest = 0;
  for (int32_t first = 0; first < p.rows; first += p.union_group) {
    int64_t result = protected_slots(p, first);  // shared by the rows of a union
    for (int32_t row = first; row < first + p.union_group; ++row) {
      result += most_selected(p, row) - protected_slots(p, row);
    }
    widest = std::max(widest, std::min<int64_t>(result, p.lengths[first]));
  }
  return widest;
}

Status check_select_topk(const SkvSelectTopkParams& p) {
  Checker check("select_topk");
  check.at_least("rows", p.rows, 0);
  check.at_least("sinks", p.sinks, 0);
  check.at_least("recent", p.recent, 0);
  check.at_least("floor", p.floor, 0);
  check.at_least("pool_rows", p.pool_rows, 1);
  check.range("union_group", p.union_group, 1, kMaxGroup);
  check.require(p.pool_rows <= 1 || p.union_group <= 1, "union_group", "1 (pool_rows is above 1)",
                p.union_group);
  check.require(p.pool_rows > 1 || p.floor == 0, "floor", "0 (pool_rows is 1)", p.floor);
  if (!check.ok() || p.rows == 0) return check.status();
  check.multiple("rows", p.rows, p.pool_rows, "pool_rows");
  check.multiple("rows", p.rows, p.union_group, "union_group");
  check.present("lengths", p.lengths);
  check.present("k", p.k);
  check.present("counts", p.counts);

  for (int32_t set = 0; check.ok() && set < p.rows / p.pool_rows; ++set) {
    check.at_least("k", p.k[set], 0);
  }
  int64_t longest = 0;
  for (int32_t row = 0; check.ok() && row < p.rows; ++row) {
    const int32_t first = row - row % p.union_group;
    check.at_least("lengths", p.lengths[row], 0);
    check.require(p.lengths[row] == p.lengths[first], "lengths",
                  "the same length for all rows of a union", p.lengths[row]);
    longest = std::max<int64_t>(longest, p.lengths[row]);
  }
  if (!check.ok()) return check.status();
  const int64_t widest = select_topk_width(p);
  if (longest > 0) check.present("scores", p.scores);
  check.row_stride("stride", p.stride, p.rows, longest);
  if (widest > 0) check.present("indices", p.indices);
  check.at_least("out_stride", p.out_stride, widest);
  return check.status();
}

}  // namespace spindlekv
