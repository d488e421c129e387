// Kernels on rows of scores, for select_topk.
//
// Scores are compared as floats: for numbers that is the order of canonical::score_key (-0 equals
// +0), and NaN, which is below all of them, compares false.
#pragma once

#include <cstdint>

#include "cpu/isa.h"

namespace spindlekv::cpu {

// Selected are the scores above `score` and the first `ties` equal to it. With NaN as the score,
// all numbers and the first `ties` NaN.
struct Cut {
  float score;
  int64_t ties;
};

struct Bracketed {
  int64_t above;   // scores > high
  int64_t inside;  // low <= scores <= high
};

// Where selected slots go; both arrays have room for kSelectSlack more than are selected.
struct SelectedSlots {
  int32_t* indices;
  uint16_t* masks;  // NULL: not wanted
};
inline constexpr int kSelectSlack = 16;

struct SelectKernels {
  // Copies the scores inside [low, high] to `inside`, keeping their order; NULL only counts.
  // `inside` has room for `count` + kSelectSlack.
  Bracketed (*narrow)(const float* scores, int64_t count, float low, float high, float* inside);
  // The number of scores >= pivot; of NaN if the pivot is NaN.
  int64_t (*count_at_least)(const float* scores, int64_t count, float pivot);
  // Copies what a cut leaves over, its ties apart: the scores below it, and NaN; returns their
  // number. `rest` has room for `count` + kSelectSlack.
  int64_t (*below)(const float* scores, int64_t count, float cut, float* rest);
  // The slots first_slot + i of scores[i] that the cut takes, ascending; uses up its ties.
  int64_t (*select)(const float* scores, int64_t count, int32_t first_slot, Cut* cut,
                    const SelectedSlots& out);
  // The union of `group` rows `stride` apart, each with its cut; bit g of a mask: row g took it.
  int64_t (*select_union)(const float* scores, int64_t stride, int group, int64_t count,
                          int32_t first_slot, Cut* cuts, const SelectedSlots& out);
};

SKV_DECLARE_ISA_TABLE(SelectKernels, select_kernels)

}  // namespace spindlekv::cpu
