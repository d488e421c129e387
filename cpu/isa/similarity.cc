// The panel kernels of cpu/isa/similarity.h: a register-blocked product of rows with a transposed
// panel whose results never leave the core as floats.
//
//   tile: kTileRows rows (broadcast, one dim at a time) x kTileVectors * kWidth panel lanes
//   acc[r][v] = fma(rows[r][d], panel[d][v], acc[r][v]) for d ascending
//
// Compute-bound: D fused multiply-adds per pair, one panel (D * 256 bytes) kept in L1 or L2.
#include "cpu/isa/similarity.h"

#include "cpu/isa/similarity_parts.h"
#include "cpu/isa/similarity_vector.h"

namespace spindlekv::cpu::SKV_ISA {
namespace {

constexpr int kTileLanes = kTileVectors * kWidth;
static_assert(kPanelRows % kTileLanes == 0, "a panel is a whole number of tiles wide");

template <int kRows>
inline void accumulate(const float* const* rows, const float* panel, int32_t head_dim,
                       Vec (&acc)[kRows][kTileVectors]) {
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kTileVectors; ++v) acc[r][v] = zero();
  }
  for (int32_t d = 0; d < head_dim; ++d) {
    Vec lane[kTileVectors];
    for (int v = 0; v < kTileVectors; ++v) {
      lane[v] = load(panel + static_cast<int64_t>(d) * kPanelRows + v * kWidth);
    }
    for (int r = 0; r < kRows; ++r) {
      const Vec broadcast = splat(rows[r][d]);
      for (int v = 0; v < kTileVectors; ++v) acc[r][v] = fma(broadcast, lane[v], acc[r][v]);
    }
  }
}

template <int kRows>
inline void threshold_rows(const float* const* rows, int32_t head_dim, const float* panel,
                           float theta, uint64_t* words) {
  const Vec limit = splat(theta);
  for (int r = 0; r < kRows; ++r) words[r] = 0;
  for (int base = 0; base < kPanelRows; base += kTileLanes) {
    Vec acc[kRows][kTileVectors];
    accumulate<kRows>(rows, panel + base, head_dim, acc);
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kTileVectors; ++v) {
        words[r] |= bits_of(less(limit, acc[r][v])) << (base + v * kWidth);
      }
    }
  }
}

template <int kRows>
inline void dot_rows(const float* const* rows, int32_t head_dim, const float* panel,
                     float (*out)[kPanelRows]) {
  for (int base = 0; base < kPanelRows; base += kTileLanes) {
    Vec acc[kRows][kTileVectors];
    accumulate<kRows>(rows, panel + base, head_dim, acc);
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kTileVectors; ++v) {
        store(out[r] + base + v * kWidth, acc[r][v]);
      }
    }
  }
}

void pack_panel(const float* const* rows, int32_t count, int32_t head_dim, float* panel) {
  // Eight dims at a time: each row gives 32 contiguous bytes, each panel line stays in L1.
  for (int32_t d = 0; d < head_dim; d += 8) {
    float* lines = panel + static_cast<int64_t>(d) * kPanelRows;
    for (int32_t i = 0; i < count; ++i) {
      for (int e = 0; e < 8; ++e) lines[e * kPanelRows + i] = rows[i][d + e];
    }
    for (int e = 0; e < 8; ++e) {
      for (int32_t i = count; i < kPanelRows; ++i) lines[e * kPanelRows + i] = 0.0f;
    }
  }
}

void threshold_bits(const float* const* rows, int32_t count, int32_t head_dim, const float* panel,
                    float theta, uint64_t* words) {
  int32_t r = 0;
  for (; r + kTileRows <= count; r += kTileRows) {
    threshold_rows<kTileRows>(rows + r, head_dim, panel, theta, words + r);
  }
  for (; r < count; ++r) threshold_rows<1>(rows + r, head_dim, panel, theta, words + r);
}

// Calls use(j, dots) for every codeword j of [first, first + count) in order, dots being its
// products with the lanes of the panel.
template <typename Use>
inline void each_codeword(const float* codewords, int32_t first, int32_t count, int32_t head_dim,
                          const float* panel, const Use& use) {
  float dots[kTileRows][kPanelRows];
  const float* rows[kTileRows];
  int32_t j = 0;
  for (; j + kTileRows <= count; j += kTileRows) {
    for (int r = 0; r < kTileRows; ++r) {
      rows[r] = codewords + static_cast<int64_t>(first + j + r) * head_dim;
    }
    dot_rows<kTileRows>(rows, head_dim, panel, dots);
    for (int r = 0; r < kTileRows; ++r) use(first + j + r, dots[r]);
  }
  for (; j < count; ++j) {
    rows[0] = codewords + static_cast<int64_t>(first + j) * head_dim;
    dot_rows<1>(rows, head_dim, panel, dots);
    use(first + j, dots[0]);
  }
}

void largest_dot(const float* codewords, int32_t first, int32_t count, int32_t head_dim,
                 const float* panel, float* best, int32_t* index) {
  each_codeword(codewords, first, count, head_dim, panel, [&](int32_t j, const float* dots) {
    for (int i = 0; i < kPanelRows; ++i) {
      const float dot = dots[i];
      // A lane without a codeword yet takes anything but NaN, -inf included.
      const bool take = (dot > best[i]) | ((index[i] < 0) & (dot == dot));
      best[i] = take ? dot : best[i];
      index[i] = take ? j : index[i];
    }
  });
}

void nearest_in_bound(const float* codewords, const float* square, int32_t first, int32_t count,
                      int32_t head_dim, const float* panel, const float* bound, float* best,
                      int32_t* index) {
  each_codeword(codewords, first, count, head_dim, panel, [&](int32_t j, const float* dots) {
    const float own = square[j];
    for (int i = 0; i < kPanelRows; ++i) {
      const float value = 2.0f * dots[i] - own;
      const bool take = (dots[i] > bound[i]) & (value > best[i]);
      best[i] = take ? value : best[i];
      index[i] = take ? j : index[i];
    }
  });
}

}  // namespace

const SimilarityKernels similarity_kernels = {
    .load_rows = load_rows,
    .unit_rows = unit_rows,
    .round_values = round_values,
    .store_values = store_values,
    .add_row = add_row,
    .paired_dots = paired_dots,
    .pack_panel = pack_panel,
    .threshold_bits = threshold_bits,
    .largest_dot = largest_dot,
    .nearest_in_bound = nearest_in_bound,
    .common_bits = common_bits,
    .subtract_common = subtract_common,
    .first_largest = first_largest,
};

}  // namespace spindlekv::cpu::SKV_ISA
