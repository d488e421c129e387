// Mean, maximum or sum of the score rows of a group of query heads.
//
//   in [rows * group, stride] f32 -> out [rows, stride] f32, over the group ascending (canonical)
//
// Memory-bound: reads group floats and writes one per output; the loops run over outputs.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/ops.h"
#include "cpu/entries.h"

namespace spindlekv::cpu {
namespace {

constexpr int64_t kChunk = 4096;  // outputs of one task: 16 KB, stays in L1 over the group

void reduce_chunk(const SkvReduceGroupParams& params, const float* in, int64_t count, float* out) {
  if (params.kind == SKV_REDUCE_MAX) {
    std::memcpy(out, in, sizeof(float) * static_cast<size_t>(count));
  } else {
    std::fill(out, out + count, 0.0f);
  }
  for (int32_t g = params.kind == SKV_REDUCE_MAX ? 1 : 0; g < params.group; ++g) {
    const float* const row = in + g * params.in_stride;
    if (params.kind == SKV_REDUCE_MAX) {
      for (int64_t i = 0; i < count; ++i) {
        out[i] = (row[i] > out[i]) | (row[i] != row[i]) ? row[i] : out[i];
      }
    } else {
      for (int64_t i = 0; i < count; ++i) out[i] += row[i];
    }
  }
  if (params.kind == SKV_REDUCE_MEAN) {
    const float divisor = static_cast<float>(params.group);
    for (int64_t i = 0; i < count; ++i) out[i] /= divisor;
  }
}

}  // namespace

Status reduce_group(SkvDevice& device, const SkvExec&, const SkvReduceGroupParams& params) {
  const int64_t chunks = (static_cast<int64_t>(params.length) + kChunk - 1) / kChunk;
  device.pool.parallel_for(params.rows * chunks, [&](int64_t task, int) {
    const int64_t row = task / chunks;
    const int64_t first = task % chunks * kChunk;
    const int64_t count = std::min<int64_t>(kChunk, params.length - first);
    reduce_chunk(params, params.in + row * params.group * params.in_stride + first, count,
                 params.out + row * params.out_stride + first);
  });
  return ok_status();
}

size_t reduce_group_workspace(SkvDevice&, const SkvReduceGroupParams&) { return 0; }

}  // namespace spindlekv::cpu
