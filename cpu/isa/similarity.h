// Kernels of the ops that compare rows: build_codebook, nearest_codeword and reduce_by_label.
//
// Every number follows core/canonical.h: a dot product is one chain of fma over ascending dims, and
// SIMD lanes run over rows, so all instruction sets give the same bits. Rows are compared in
// panels: kPanelRows rows transposed to [D][kPanelRows], one cache line or more per dim.
#pragma once

#include <cstdint>

#include "cpu/isa.h"

namespace spindlekv::cpu {

inline constexpr int kPanelRows = 64;  // the columns of one word of a similarity graph

struct SimilarityKernels {
  // out[i * D + d] = f32 of row i of x (dtype, row stride in elements); rows picks rows, NULL: 0,
  // 1, ...
  void (*load_rows)(int32_t dtype, const void* x, int64_t stride, const int32_t* rows,
                    int64_t count, int32_t head_dim, float* out);
  // norms[i] = norm(rows[i]); with `scale`, rows[i] = unit(rows[i]) in place.
  void (*unit_rows)(float* rows, int64_t count, int32_t head_dim, bool scale, float* norms);
  // Rounds `count` values (a multiple of 8) to dtype and back.
  void (*round_values)(int32_t dtype, float* values, int64_t count);
  // Stores `count` values (a multiple of 8) as dtype.
  void (*store_values)(int32_t dtype, const float* values, int64_t count, void* out);
  // sum[d] = fma(weight, row[d], sum[d])
  void (*add_row)(float weight, const float* row, int32_t head_dim, float* sum);
  // out[i] = dot(a[i], b[i])
  void (*paired_dots)(const float* const* a, const float* const* b, int64_t count, int32_t head_dim,
                      float* out);

  // panel[d][i] = rows[i][d]; lanes beyond count are 0.
  void (*pack_panel)(const float* const* rows, int32_t count, int32_t head_dim, float* panel);
  // Bit i of words[r] = dot(rows[r], row i of the panel) > theta; count <= kPanelRows.
  void (*threshold_bits)(const float* const* rows, int32_t count, int32_t head_dim,
                         const float* panel, float theta, uint64_t* words);
  // For each lane i: the first codeword j of the largest dot. Call with ascending `first`; before
  // the first call best = -inf and index = -1. NaN loses against everything.
  void (*largest_dot)(const float* codewords, int32_t first, int32_t count, int32_t head_dim,
                      const float* panel, float* best, int32_t* index);
  // For each lane i: the first codeword j with dot > bound[i] whose 2 dot - square[j] is strictly
  // above best[i], which starts as the value of the codeword that the lane has.
  void (*nearest_in_bound)(const float* codewords, const float* square, int32_t first,
                           int32_t count, int32_t head_dim, const float* panel, const float* bound,
                           float* best, int32_t* index);

  // Number of bits set in both.
  int32_t (*common_bits)(const uint64_t* a, const uint64_t* b, int64_t words);
  // degree[j] -= 1 for every bit j set in both.
  void (*subtract_common)(const uint64_t* a, const uint64_t* b, int64_t words, int32_t* degree);
  // Index of the first largest value; count is a multiple of kPanelRows and above 0.
  int64_t (*first_largest)(const int32_t* values, int64_t count);
};

SKV_DECLARE_ISA_TABLE(SimilarityKernels, similarity_kernels)

}  // namespace spindlekv::cpu
