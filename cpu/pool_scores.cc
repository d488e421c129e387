// Moving maximum or mean of score rows.
//
//   in [rows, stride] f32 -> out [rows, stride] f32; out[i] from in[i - kernel/2 .. i + kernel/2]
//
// A block of outputs is accumulated for one neighbour after the other, so that each output meets
// its window in ascending order (canonical) while the loop runs over outputs and vectorises.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "core/ops.h"
#include "cpu/entries.h"

namespace spindlekv::cpu {
namespace {

constexpr int64_t kBlock = 512;  // outputs accumulated at once: 2 KB, well inside L1

// acc[i - first] takes in[i + shift] for every output i of [first, last) that has this neighbour.
template <class Take>
void take_neighbour(const float* in, int64_t length, int64_t first, int64_t last, int64_t shift,
                    float* acc, const Take& take) {
  const int64_t begin = std::max(first, -shift);
  const int64_t end = std::min(last, length - shift);
  for (int64_t i = begin; i < end; ++i) acc[i - first] = take(acc[i - first], in[i + shift]);
}

void pool_row(const SkvPoolScoresParams& params, const float* in, int64_t length, float* out) {
  const int64_t reach = params.kernel / 2;
  const bool is_max = params.kind == SKV_POOL_MAX;
  const float start = is_max ? -std::numeric_limits<float>::infinity() : 0.0f;
  float acc[kBlock];
  for (int64_t first = 0; first < length; first += kBlock) {
    const int64_t last = std::min(length, first + kBlock);
    std::fill(acc, acc + (last - first), start);
    // Neighbours beyond the whole row cannot take part, however wide the kernel is.
    const int64_t low = std::max(-reach, -(last - 1));
    const int64_t high = std::min(reach, length - 1 - first);
    for (int64_t shift = low; shift <= high; ++shift) {
      if (is_max) {
        // `x != x` lets a NaN in; nothing is above it afterwards.
        take_neighbour(in, length, first, last, shift, acc,
                       [](float a, float x) { return (x > a) | (x != x) ? x : a; });
      } else {
        take_neighbour(in, length, first, last, shift, acc, [](float a, float x) { return a + x; });
      }
    }
    if (!is_max) {
      for (int64_t i = first; i < last; ++i) {
        const int64_t inside =
            std::min(length - 1, i + reach) - std::max<int64_t>(0, i - reach) + 1;
        const int64_t divisor = params.divisor == SKV_POOL_KERNEL ? params.kernel : inside;
        acc[i - first] /= static_cast<float>(divisor);
      }
    }
    std::memcpy(out + first, acc, sizeof(float) * static_cast<size_t>(last - first));
  }
}

}  // namespace

Status pool_scores(SkvDevice& device, const SkvExec&, const SkvPoolScoresParams& params) {
  device.pool.parallel_for(params.rows, [&](int64_t row, int) {
    const int64_t length = params.lengths[row];
    if (length == 0) return;
    const float* const in = params.in + row * params.in_stride;
    float* const out = params.out + row * params.out_stride;
    if (params.kernel == 1) {
      std::memcpy(out, in, sizeof(float) * static_cast<size_t>(length));
    } else {
      pool_row(params, in, length, out);
    }
  });
  return ok_status();
}

size_t pool_scores_workspace(SkvDevice&, const SkvPoolScoresParams&) { return 0; }

}  // namespace spindlekv::cpu
