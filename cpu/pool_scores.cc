// Moving maximum or mean of score rows.
//
//   in [rows, stride] f32 -> out [rows, stride] f32; out[i] from in[i - kernel/2 .. i + kernel/2]
//
// Memory-bound for the kernels in use: reads and writes each score once. A task is a piece of a
// row.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/ops.h"
#include "cpu/entries.h"
#include "cpu/score_kernels.h"

namespace spindlekv::cpu {
namespace {

constexpr int64_t kPiece = 8192;  // outputs of a task: 32 KB in, 32 KB out

}  // namespace

Status pool_scores(SkvDevice& device, const SkvExec&, const SkvPoolScoresParams& params) {
  if (params.rows == 0) return ok_status();
  const ScoreKernels& kernels = score_kernels_for(device.isa);
  const int64_t longest = *std::max_element(params.lengths, params.lengths + params.rows);
  const int64_t pieces = (longest + kPiece - 1) / kPiece;
  device.pool.parallel_for(params.rows * pieces, [&](int64_t task, int) {
    const int64_t row = task / pieces;
    const int64_t length = params.lengths[row];
    const int64_t first = task % pieces * kPiece;
    const int64_t last = std::min(length, first + kPiece);
    if (first >= last) return;
    const float* const in = params.in + row * params.in_stride;
    float* const out = params.out + row * params.out_stride;
    if (params.kernel == 1) {
      std::memcpy(out + first, in + first, sizeof(float) * static_cast<size_t>(last - first));
    } else {
      kernels.pool(params, in, length, first, last, out);
    }
  });
  return ok_status();
}

size_t pool_scores_workspace(SkvDevice&, const SkvPoolScoresParams&) { return 0; }

}  // namespace spindlekv::cpu
