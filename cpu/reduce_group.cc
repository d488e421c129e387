// Mean, maximum or sum of the score rows of a group of query heads.
//
//   in [rows * group, stride] f32 -> out [rows, stride] f32, over the group ascending (canonical)
//
// Memory-bound: reads group floats and writes one per output.
#include <algorithm>
#include <cstdint>

#include "core/ops.h"
#include "cpu/entries.h"
#include "cpu/score_kernels.h"

namespace spindlekv::cpu {
namespace {

constexpr int64_t kPiece = 8192;  // outputs of a task: 32 KB of each row

}  // namespace

Status reduce_group(SkvDevice& device, const SkvExec&, const SkvReduceGroupParams& params) {
  const ScoreKernels& kernels = score_kernels_for(device.isa);
  const int64_t pieces = (static_cast<int64_t>(params.length) + kPiece - 1) / kPiece;
  device.pool.parallel_for(params.rows * pieces, [&](int64_t task, int) {
    const int64_t row = task / pieces;
    const int64_t first = task % pieces * kPiece;
    const int64_t count = std::min<int64_t>(kPiece, params.length - first);
    kernels.reduce(params, params.in + row * params.group * params.in_stride + first, count,
                   params.out + row * params.out_stride + first);
  });
  return ok_status();
}

size_t reduce_group_workspace(SkvDevice&, const SkvReduceGroupParams&) { return 0; }

}  // namespace spindlekv::cpu
