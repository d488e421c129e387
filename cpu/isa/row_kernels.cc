// Single rows: conversion, rotation, norm, products of pairs.
#include "cpu/row_kernels.h"

#include "cpu/isa/rows.h"

namespace spindlekv::cpu::SKV_ISA {
namespace {

constexpr int kMaxRow = 512;  // the largest head_dim

void load_floats(int32_t dtype, const void* in, float* out, int head_dim) {
  load_row_of(dtype, in, out, head_dim, head_dim);
}

// Calls use(from, to) with null pointers to the element types that the two dtypes name.
template <class Use>
void with_elements(int32_t from, int32_t to, const Use& use) {
  const auto with_target = [&](const auto* in) {
    if (to == SKV_F16) {
      use(in, static_cast<F16*>(nullptr));
    } else if (to == SKV_BF16) {
      use(in, static_cast<Bf16*>(nullptr));
    } else {
      use(in, static_cast<float*>(nullptr));
    }
  };
  if (from == SKV_F16) {
    with_target(static_cast<const F16*>(nullptr));
  } else if (from == SKV_BF16) {
    with_target(static_cast<const Bf16*>(nullptr));
  } else {
    with_target(static_cast<const float*>(nullptr));
  }
}

template <class From, class To>
void convert_row(const From* in, To* out, int n) {
  int d = 0;
  for (; d + kWidth <= n; d += kWidth) store(out + d, load(in + d));
  if (kWidth > 8 && d < n) store_8(out + d, load_8(in + d));
}

void convert(int32_t from, const void* in, int32_t to, void* out, int head_dim) {
  with_elements(from, to, [&](const auto* source, auto* target) {
    convert_row(static_cast<decltype(source)>(in), static_cast<decltype(target)>(out), head_dim);
  });
}

// Half-split pairs straight from dtype to dtype: the arithmetic of rotate_row.
template <class From, class To>
void turn_halves(const From* in, To* out, const float* angles, int pairs, float sign) {
  for (int i = 0; i < pairs; i += kWidth) {
    Vec c, s;
    load_pairs(angles + 2 * i, &c, &s);
    s = mul(s, splat(sign));
    const Vec x = load(in + i), y = load(in + pairs + i);
    store(out + i, neg_fma(y, s, mul(x, c)));
    store(out + pairs + i, fma(y, c, mul(x, s)));
  }
}

void turn(int32_t from, const void* in, int32_t to, void* out, int head_dim, const SkvRope& rope,
          int64_t distance, bool is_back) {
  const float* const angles = table_row(rope, distance);
  const float sign = is_back ? -1.0f : 1.0f;
  const int pairs = rope.n_rot / 2;
  if (rope.style == SKV_ROPE_NEOX && rope.n_rot == head_dim && pairs % kWidth == 0) {
    with_elements(from, to, [&](const auto* source, auto* target) {
      turn_halves(static_cast<decltype(source)>(in), static_cast<decltype(target)>(out), angles,
                  pairs, sign);
    });
    return;
  }
  float row[kMaxRow];
  load_floats(from, in, row, head_dim);
  rotate_row(row, angles, rope.n_rot, rope.style, sign);
  store_row_of(to, row, out, head_dim);
}

float norm(const float* row, int head_dim) {
  float sum = 0.0f;
  for (int d = 0; d < head_dim; ++d) sum = __builtin_fmaf(row[d], row[d], sum);
  return __builtin_sqrtf(sum);
}

constexpr int kLanes = 64;                            // sums of a wide dot
constexpr int kLaneVecs = kHasManyRegisters ? 4 : 2;  // of them kept in registers at a time
constexpr int kAllVecs = kLanes / kWidth;

float halve_lanes(const float* lanes) {
  Vec part[kAllVecs];
  for (int v = 0; v < kAllVecs; ++v) part[v] = load(lanes + v * kWidth);
  for (int n = kAllVecs / 2; n >= 1; n /= 2) {
    for (int v = 0; v < n; ++v) part[v] = add(part[v], part[v + n]);
  }
  return halving_sum(part[0]);
}

template <class Element>
WideDots wide_dots_of(const Element* a, const Element* b, int64_t width) {
  float aa[kLanes], ab[kLanes], bb[kLanes];
  const int64_t whole = width - width % kLanes;
  for (int lane = 0; lane < kLanes; lane += kLaneVecs * kWidth) {
    Vec sum_aa[kLaneVecs], sum_ab[kLaneVecs], sum_bb[kLaneVecs];
    for (int v = 0; v < kLaneVecs; ++v) sum_aa[v] = sum_ab[v] = sum_bb[v] = zero();
    for (int64_t d = lane; d < whole; d += kLanes) {
      for (int v = 0; v < kLaneVecs; ++v) {
        const Vec x = load(a + d + v * kWidth), y = load(b + d + v * kWidth);
        sum_aa[v] = fma(x, x, sum_aa[v]);
        sum_ab[v] = fma(x, y, sum_ab[v]);
        sum_bb[v] = fma(y, y, sum_bb[v]);
      }
    }
    for (int v = 0; v < kLaneVecs; ++v) {
      store(aa + lane + v * kWidth, sum_aa[v]);
      store(ab + lane + v * kWidth, sum_ab[v]);
      store(bb + lane + v * kWidth, sum_bb[v]);
    }
  }
  for (int64_t d = whole; d < width; ++d) {
    const int64_t lane = d - whole;
    const float x = to_float(a[d]), y = to_float(b[d]);
    aa[lane] = __builtin_fmaf(x, x, aa[lane]);
    ab[lane] = __builtin_fmaf(x, y, ab[lane]);
    bb[lane] = __builtin_fmaf(y, y, bb[lane]);
  }
  return {halve_lanes(aa), halve_lanes(ab), halve_lanes(bb)};
}

WideDots wide_dots(int32_t dtype, const void* a, const void* b, int64_t width) {
  switch (dtype) {
    case SKV_F16:
      return wide_dots_of(static_cast<const F16*>(a), static_cast<const F16*>(b), width);
    case SKV_BF16:
      return wide_dots_of(static_cast<const Bf16*>(a), static_cast<const Bf16*>(b), width);
    default:
      return wide_dots_of(static_cast<const float*>(a), static_cast<const float*>(b), width);
  }
}

}  // namespace

extern const RowKernels row_kernels = {load_floats, convert, turn, norm, wide_dots};

}  // namespace spindlekv::cpu::SKV_ISA
