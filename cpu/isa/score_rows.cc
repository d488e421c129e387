// Sums and maxima of neighbouring scores, or of the same score in several rows. Outputs are the
// lanes and inputs the loop, so that each output meets its inputs in ascending order (canonical).
#include "cpu/score_kernels.h"
#include "cpu/simd.h"

namespace spindlekv::cpu::SKV_ISA {
namespace {

constexpr float kNegativeInfinity = -__builtin_inff();

// `inputs` scores, `step` apart. A NaN wins over everything, also over what follows it.
template <bool kIsMax>
float combine_one(const float* in, int64_t inputs, int64_t step) {
  float acc = kIsMax ? kNegativeInfinity : 0.0f;
  for (int64_t j = 0; j < inputs; ++j) {
    const float x = in[j * step];
    acc = kIsMax ? (x > acc || x != x ? x : acc) : acc + x;
  }
  return acc;
}

// out[i] from in[i], in[i + step], ... for i < kWidth, divided by `divisor`.
template <bool kIsMax>
void combine_vector(const float* in, int64_t inputs, int64_t step, const Vec& divisor, float* out) {
  if constexpr (kIsMax) {
    Vec acc = splat(kNegativeInfinity);
    Vec probe = zero();  // NaN where an input is NaN or infinite
    for (int64_t j = 0; j < inputs; ++j) {
      const Vec x = load(in + j * step);
      acc = max(x, acc);
      probe = madd(x, zero(), probe);
    }
    store(out, acc);
    const float sum = halving_sum(probe);
    if (sum == sum) return;
    for (int i = 0; i < kWidth; ++i) out[i] = combine_one<true>(in + i, inputs, step);
  } else {
    Vec acc = zero();
    for (int64_t j = 0; j < inputs; ++j) acc = add(acc, load(in + j * step));
    store(out, div(acc, divisor));
  }
}

template <bool kIsMax>
void pool_row(const SkvPoolScoresParams& params, const float* in, int64_t length, int64_t first,
              int64_t last, float* out) {
  const int64_t reach = params.kernel / 2;
  const float kernel = static_cast<float>(params.kernel);
  const auto edge = [&](int64_t i) {
    const int64_t low = i > reach ? i - reach : 0;
    const int64_t inside = (i + reach < length ? i + reach : length - 1) - low + 1;
    const float combined = combine_one<kIsMax>(in + low, inside, 1);
    const float divisor = params.divisor == SKV_POOL_KERNEL ? kernel : static_cast<float>(inside);
    out[i] = kIsMax ? combined : combined / divisor;
  };
  int64_t i = first;
  for (; i < last && i < reach; ++i) edge(i);
  const int64_t whole = last < length - reach ? last : length - reach;  // all neighbours exist
  for (; i + kWidth <= whole; i += kWidth) {
    combine_vector<kIsMax>(in + i - reach, params.kernel, 1, splat(kernel), out + i);
  }
  for (; i < last; ++i) edge(i);
}

void pool(const SkvPoolScoresParams& params, const float* in, int64_t length, int64_t first,
          int64_t last, float* out) {
  if (params.kind == SKV_POOL_MAX) {
    pool_row<true>(params, in, length, first, last, out);
  } else {
    pool_row<false>(params, in, length, first, last, out);
  }
}

template <bool kIsMax>
void reduce_row(const SkvReduceGroupParams& params, const float* in, int64_t count, float* out) {
  const float divisor = params.kind == SKV_REDUCE_MEAN ? static_cast<float>(params.group) : 1.0f;
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) {
    combine_vector<kIsMax>(in + i, params.group, params.in_stride, splat(divisor), out + i);
  }
  for (; i < count; ++i) {
    const float combined = combine_one<kIsMax>(in + i, params.group, params.in_stride);
    out[i] = kIsMax ? combined : combined / divisor;
  }
}

void reduce(const SkvReduceGroupParams& params, const float* in, int64_t count, float* out) {
  if (params.kind == SKV_REDUCE_MAX) {
    reduce_row<true>(params, in, count, out);
  } else {
    reduce_row<false>(params, in, count, out);
  }
}

}  // namespace

extern const ScoreKernels score_kernels = {pool, reduce};

}  // namespace spindlekv::cpu::SKV_ISA
