// Cosines of paired rows, and their sum.
//
//   a, b [T, width] -> cosines [T] f32, sum [1] f32 (added to)
//
// Memory-bound: reads both rows once. A task is a block of 64 rows, whose sum is taken in order.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/canonical.h"
#include "core/ops.h"
#include "cpu/carve.h"
#include "cpu/convert.h"
#include "cpu/device.h"
#include "cpu/entries.h"
#include "cpu/row_kernels.h"

namespace spindlekv::cpu {
namespace {

constexpr int64_t kBlockRows = canonical::kBlockSlots;

int64_t blocks_of(const SkvRowCosineParams& params) {
  return (int64_t{params.rows} + kBlockRows - 1) / kBlockRows;
}

struct Workspace {
  float* sums;         // [blocks]
  int32_t* nonfinite;  // [blocks]
};

size_t carve(const SkvRowCosineParams& params, void* base, Workspace* workspace) {
  Carver carver(base);
  workspace->sums = carver.take<float>(blocks_of(params));
  workspace->nonfinite = carver.take<int32_t>(blocks_of(params));
  return carver.used();
}

float cosine_of(const SkvRowCosineParams& params, const RowKernels& kernels, int64_t row) {
  const auto bytes = static_cast<int64_t>(dtype_bytes(params.dtype));
  const char* const a = static_cast<const char*>(params.a) + row * params.a_stride * bytes;
  const char* const b = static_cast<const char*>(params.b) + row * params.b_stride * bytes;
  const WideDots dots = kernels.wide_dots(params.dtype, a, b, params.width);
  const float a_norm = std::sqrt(dots.aa);
  const float b_norm = std::sqrt(dots.bb);
  return a_norm == 0.0f || b_norm == 0.0f ? 0.0f : dots.ab / a_norm / b_norm;
}

}  // namespace

size_t row_cosine_workspace(SkvDevice&, const SkvRowCosineParams& params) {
  Workspace workspace;
  return carve(params, nullptr, &workspace);
}

Status row_cosine(SkvDevice& device, const SkvExec& exec, const SkvRowCosineParams& params) {
  Workspace workspace;
  carve(params, exec.workspace, &workspace);
  const RowKernels& kernels = row_kernels_for(device.isa);
  device.pool.parallel_for(blocks_of(params), [&](int64_t block, int) {
    float sum = 0.0f;
    int32_t nonfinite = 0;
    const int64_t end = std::min<int64_t>(params.rows, (block + 1) * kBlockRows);
    for (int64_t row = block * kBlockRows; row < end; ++row) {
      const float cosine = cosine_of(params, kernels, row);
      if (params.cosines != nullptr) params.cosines[row] = cosine;
      nonfinite += std::isfinite(cosine) ? 0 : 1;
      sum = sum + cosine;
    }
    workspace.sums[block] = sum;
    workspace.nonfinite[block] = nonfinite;
  });
  float total = 0.0f;
  int32_t nonfinite = 0;
  for (int64_t block = 0; block < blocks_of(params); ++block) {
    total = total + workspace.sums[block];
    nonfinite += workspace.nonfinite[block];
  }
  if (params.sum != nullptr) *params.sum = *params.sum + total;
  if (params.nonfinite != nullptr) *params.nonfinite += nonfinite;
  return ok_status();
}

}  // namespace spindlekv::cpu
