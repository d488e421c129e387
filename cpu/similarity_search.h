// The codeword of the largest dot product of each of up to 64 rows, canonical, by way of the
// integer filter (cpu/isa/similarity_filter.h) where that applies.
#pragma once

#include <cstdint>

#include "cpu/carve.h"
#include "cpu/isa/similarity.h"
#include "cpu/isa/similarity_filter.h"

namespace spindlekv::cpu {

// The exponent at which a row of this sum of squares is quantised; kMostExponent + 1 (which
// quantise_row refuses) when there is none.
int32_t exponent_for(float square);

// Codewords to search: f32 and, if `quantised` is not null, their integer form, all of one exponent
// and of at most `slack`.
struct CodewordList {
  const float* values = nullptr;  // [count, D]
  const int16_t* quantised = nullptr;
  int32_t slack = 0;
  int32_t count = 0;
  int32_t head_dim = 0;
};

// Memory of one thread.
struct SearchScratch {
  float* panel;        // [D, 64]
  int16_t* quantised;  // [64, D]
  int32_t* pairs;      // [D / 2, 64]

  static SearchScratch carve(int32_t head_dim, Carver& carver);
};

struct SimilaritySearch {
  const SimilarityKernels& kernels;
  const FilterKernels& filter;
  bool are_units;  // rows are of norm 1 or 0, which is not relied on but saves measuring them

  // best[i], index[i]: the largest dot(rows[i], codeword) and the first codeword that has it; NaN
  // products lose. Before: best = -inf, index = -1, which remain where every product is NaN.
  void largest_dots(const CodewordList& codewords, const float* const* rows, int32_t count,
                    const SearchScratch& scratch, float* best, int32_t* index) const;

 private:
  struct Undecided;
  void compare_all(const CodewordList& codewords, int32_t first, int32_t last,
                   const float* const* rows, const Undecided& undecided, float* panel, float* best,
                   int32_t* index) const;
};

}  // namespace spindlekv::cpu
