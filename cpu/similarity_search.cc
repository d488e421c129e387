// Compute-bound: D / 2 integer steps per row and codeword, then one canonical product per row (two
// where the first two codewords are too close to call). Rows for which three are, or which have no
// integer form, are compared with every codeword in f32.
#include "cpu/similarity_search.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace spindlekv::cpu {
namespace {

// Codewords per call of filter_largest: their numbers take the low 14 bits of 31, less than the
// error of a product already costs.
constexpr int32_t kCodewordsPerPass = 1 << 14;
// A panel in f32 costs as much as this many rows compared one by one (measured: D = 128, AVX-512).
constexpr int32_t kFewRows = 2;

// A row without a codeword yet takes anything but NaN, -inf included.
void take_if_larger(float dot, int32_t codeword, float* best, int32_t* index) {
  const bool is_first = *index < 0 && dot == dot;
  if (!is_first && !(dot > *best)) return;
  *best = dot;
  *index = codeword;
}

}  // namespace

int32_t exponent_for(float square) {
  constexpr double kRoom = 1.005;  // a row a little longer than 2^e is still taken as of norm 2^e
  if (!(square <= std::numeric_limits<float>::max())) return kMostExponent + 1;
  if (square == 0.0f) return kUnitExponent;
  int exponent;
  std::frexp(std::sqrt(static_cast<double>(square)) / kRoom, &exponent);
  return std::min(kUnitExponent - exponent, kMostExponent);
}

SearchScratch SearchScratch::carve(int32_t head_dim, Carver& carver) {
  const int64_t values = static_cast<int64_t>(kPanelRows) * head_dim;
  return {carver.take<float>(values), carver.take<int16_t>(values),
          carver.take<int32_t>(values / 2)};
}

// Rows of a panel that the filter did not decide.
struct SimilaritySearch::Undecided {
  int32_t count = 0;
  int32_t rows[kPanelRows];

  void add(int32_t row) { rows[count++] = row; }
};

// The undecided rows against codewords [first, last) in f32.
void SimilaritySearch::compare_all(const CodewordList& codewords, int32_t first, int32_t last,
                                   const float* const* rows, const Undecided& undecided,
                                   float* panel, float* best, int32_t* index) const {
  const int32_t head_dim = codewords.head_dim;
  if (undecided.count > kFewRows) {
    const float* some[kPanelRows] = {};
    float some_best[kPanelRows];
    int32_t some_index[kPanelRows];
    std::fill(some_best, some_best + kPanelRows, -std::numeric_limits<float>::infinity());
    std::fill(some_index, some_index + kPanelRows, -1);
    for (int32_t i = 0; i < undecided.count; ++i) {
      const int32_t row = undecided.rows[i];
      some[i] = rows[row];
      some_best[i] = best[row];
      some_index[i] = index[row];
    }
    kernels.pack_panel(some, undecided.count, head_dim, panel);
    kernels.largest_dot(codewords.values, first, last - first, head_dim, panel, some_best,
                        some_index);
    for (int32_t i = 0; i < undecided.count; ++i) {
      best[undecided.rows[i]] = some_best[i];
      index[undecided.rows[i]] = some_index[i];
    }
    return;
  }
  const float* row[kPanelRows];
  const float* others[kPanelRows];
  float dots[kPanelRows];
  for (int32_t i = 0; i < undecided.count; ++i) {
    const int32_t at = undecided.rows[i];
    std::fill(row, row + kPanelRows, rows[at]);
    for (int32_t base = first; base < last; base += kPanelRows) {
      const int32_t some = std::min(kPanelRows, last - base);
      for (int32_t j = 0; j < some; ++j) {
        others[j] = codewords.values + static_cast<int64_t>(base + j) * head_dim;
      }
      kernels.paired_dots(row, others, some, head_dim, dots);
      for (int32_t j = 0; j < some; ++j) take_if_larger(dots[j], base + j, best + at, index + at);
    }
  }
}

void SimilaritySearch::largest_dots(const CodewordList& codewords, const float* const* rows,
                                    int32_t count, const SearchScratch& scratch, float* best,
                                    int32_t* index) const {
  const int32_t head_dim = codewords.head_dim;
  if (codewords.quantised == nullptr) {
    kernels.pack_panel(rows, count, head_dim, scratch.panel);
    kernels.largest_dot(codewords.values, 0, codewords.count, head_dim, scratch.panel, best, index);
    return;
  }

  int32_t slack[kPanelRows];
  const int16_t* quantised[kPanelRows] = {};
  for (int32_t i = 0; i < count; ++i) {
    int16_t* const own = scratch.quantised + static_cast<int64_t>(i) * head_dim;
    slack[i] = kNoSlack;
    if (are_units) slack[i] = filter.quantise_row(rows[i], head_dim, kUnitExponent, own);
    if (slack[i] == kNoSlack) {
      const int32_t exponent = exponent_for(filter.rough_square(rows[i], head_dim));
      slack[i] = filter.quantise_row(rows[i], head_dim, exponent, own);
    }
    quantised[i] = own;
  }
  filter.pack_pairs(quantised, count, head_dim, scratch.pairs);

  for (int32_t first = 0; first < codewords.count; first += kCodewordsPerPass) {
    const int32_t last = std::min(codewords.count, first + kCodewordsPerPass);
    const int32_t mask =
        static_cast<int32_t>(std::bit_ceil(static_cast<uint32_t>(last - first))) - 1;
    int32_t keys[kRanks][kPanelRows];
    filter.filter_largest(codewords.quantised + static_cast<int64_t>(first) * head_dim,
                          last - first, head_dim, scratch.pairs, mask, keys);

    // Pairs to compare in f32: each decided row with one codeword or two.
    Undecided undecided;
    int32_t pairs = 0;
    int32_t row_of[2 * kPanelRows];
    int32_t codeword_of[2 * kPanelRows];
    const auto add_pair = [&](int32_t row, int32_t key) {
      row_of[pairs] = row;
      codeword_of[pairs++] = first + (key & mask);
    };
    for (int32_t i = 0; i < count; ++i) {
      // Whatever has the largest product is within twice the error of the largest key.
      const int64_t error = int64_t{slack[i]} + codewords.slack + rounding_slack(head_dim) + mask;
      const int64_t reach = keys[0][i] - 2 * error;
      if (slack[i] == kNoSlack || keys[2][i] >= reach) {
        undecided.add(i);
        continue;
      }
      // Equal products go to the smaller index, so that is compared first.
      const bool is_close = keys[1][i] >= reach;
      const bool is_swapped = is_close && (keys[1][i] & mask) < (keys[0][i] & mask);
      add_pair(i, keys[is_swapped ? 1 : 0][i]);
      if (is_close) add_pair(i, keys[is_swapped ? 0 : 1][i]);
    }
    for (int32_t base = 0; base < pairs; base += kPanelRows) {
      const int32_t some = std::min(kPanelRows, pairs - base);
      const float* a[kPanelRows];
      const float* b[kPanelRows];
      float dots[kPanelRows];
      for (int32_t i = 0; i < some; ++i) {
        a[i] = rows[row_of[base + i]];
        b[i] = codewords.values + static_cast<int64_t>(codeword_of[base + i]) * head_dim;
      }
      kernels.paired_dots(a, b, some, head_dim, dots);
      for (int32_t i = 0; i < some; ++i) {
        const int32_t row = row_of[base + i];
        take_if_larger(dots[i], codeword_of[base + i], best + row, index + row);
      }
    }
    if (undecided.count > 0) {
      compare_all(codewords, first, last, rows, undecided, scratch.panel, best, index);
    }
  }
}

}  // namespace spindlekv::cpu
