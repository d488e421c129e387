// From a cover to a codebook: first codewords, refinement, and what is stored.
//
//   labels [n_rows], leaders [C] -> codewords [C', D] dtype, refs, magnitudes, cosines [n_rows], C'
//
// Codewords are rounded to dtype as soon as they are made, so every similarity is that of what is
// stored.
#include <cstdint>
#include <cstring>

#include "cpu/build_codebook.h"
#include "cpu/convert.h"

namespace spindlekv::cpu {
namespace {

bool has_rows(const CodebookWork& work) { return work.problem->n_rows > 0; }

int64_t row_blocks(const CodebookWork& work) { return words_of(work.problem->n_rows); }

// Labels and leaders of an earlier call are device memory, so they are checked here.
Status check_cover(const CodebookWork& work) {
  const SkvCodebookProblem& problem = *work.problem;
  const int32_t count = *problem.count;
  if (count < 1 || count > problem.capacity || count > problem.n_rows) {
    return error_status(SKV_ARGUMENT, "build_codebook",
                        "expected 1..%d codewords (capacity, n_rows) for count, got %d",
                        std::min(problem.capacity, problem.n_rows), count);
  }
  for (int32_t c = 0; c < count; ++c) {
    if (work.loaded_of_x(problem.leaders[c]) < 0) {
      return error_status(SKV_ARGUMENT, "build_codebook",
                          "expected an index among the rows for leaders[%d], got %d", c,
                          problem.leaders[c]);
    }
  }
  for (int32_t p = 0; p < problem.n_rows; ++p) {
    if (problem.labels[p] < 0 || problem.labels[p] >= count) {
      return error_status(SKV_ARGUMENT, "build_codebook", "expected 0..%d for labels[%d], got %d",
                          count - 1, p, problem.labels[p]);
    }
  }
  return ok_status();
}

// The first codewords: leaders as they are stored. Refinement also needs their squares.
void round_leaders(const CodebookCall& call, const CodebookWork& work) {
  const int32_t head_dim = call.params.head_dim;
  const int32_t codewords = *work.problem->count;
  for (int32_t c = 0; c < codewords; ++c) {
    const float* const unit = work.units + work.loaded_of_x(work.problem->leaders[c]) * head_dim;
    float* const codeword = work.codewords + static_cast<int64_t>(c) * head_dim;
    std::copy(unit, unit + head_dim, codeword);
    call.kernels.round_values(call.params.dtype, codeword, head_dim);
  }
  if (call.params.refine == 0) return;
  for (int32_t first = 0; first < codewords; first += kPanelRows) {
    const int32_t count = std::min(kPanelRows, codewords - first);
    const float* rows[kPanelRows];
    for (int32_t i = 0; i < count; ++i) {
      rows[i] = work.codewords + static_cast<int64_t>(first + i) * head_dim;
    }
    call.kernels.paired_dots(rows, rows, count, head_dim, work.square + first);
  }
}

// Removes codewords without members; cursor[c] becomes the final label of codeword c.
void drop_empty_codewords(const CodebookCall& call, const CodebookWork& work) {
  const SkvCodebookProblem& problem = *work.problem;
  const int32_t head_dim = call.params.head_dim;
  const int32_t count = *problem.count;
  std::fill(work.cursor, work.cursor + count, 0);
  for (int32_t p = 0; p < problem.n_rows; ++p) work.cursor[problem.labels[p]] = 1;
  const size_t row_bytes = dtype_bytes(call.params.dtype) * static_cast<size_t>(head_dim);
  int32_t kept = 0;
  for (int32_t c = 0; c < count; ++c) {
    if (work.cursor[c] == 0) continue;
    call.kernels.store_values(call.params.dtype,
                              work.codewords + static_cast<int64_t>(c) * head_dim, head_dim,
                              static_cast<char*>(problem.codewords) + kept * row_bytes);
    work.cursor[c] = kept++;
  }
  *problem.count = kept;
}

void write_refs(const SkvBuildCodebookParams& params, const SkvCodebookProblem& problem,
                int64_t first, int64_t count) {
  for (int64_t p = first; p < first + count; ++p) {
    if (params.ref_bytes == 2) {
      static_cast<uint16_t*>(problem.refs)[p] = static_cast<uint16_t>(problem.labels[p]);
    } else {
      static_cast<uint32_t*>(problem.refs)[p] = static_cast<uint32_t>(problem.labels[p]);
    }
  }
}

// Stores what a block of rows is made of: reference, magnitude, cosine.
void write_rows(const CodebookCall& call, const CodebookWork& work, int64_t block) {
  const SkvCodebookProblem& problem = *work.problem;
  const int32_t head_dim = call.params.head_dim;
  const int64_t first = block * kPanelRows;
  const int64_t count = std::min<int64_t>(kPanelRows, problem.n_rows - first);
  const float* units[kPanelRows] = {};
  const float* codewords[kPanelRows] = {};
  float norms[kPanelRows] = {};
  for (int64_t i = 0; i < count; ++i) {
    const int64_t loaded = work.loaded_of(first + i);
    int32_t* const label = problem.labels + first + i;
    units[i] = work.units + loaded * head_dim;
    codewords[i] = work.codewords + static_cast<int64_t>(*label) * head_dim;
    norms[i] = work.norms[loaded];
    *label = work.cursor[*label];
  }
  if (problem.refs != nullptr) write_refs(call.params, problem, first, count);
  if (problem.cosines != nullptr) {
    call.kernels.paired_dots(units, codewords, count, head_dim, problem.cosines + first);
  }
  if (problem.magnitudes != nullptr) {
    const size_t element_bytes = dtype_bytes(call.params.dtype);
    float stored[kPanelRows];  // room for any dtype
    call.kernels.store_values(call.params.dtype, norms, kPanelRows, stored);
    std::memcpy(static_cast<char*>(problem.magnitudes) + first * element_bytes, stored,
                element_bytes * static_cast<size_t>(count));
  }
}

}  // namespace

Status emit_codebooks(const CodebookCall& call, const CodebookWave& wave) {
  for (int64_t i = 0; i < wave.count; ++i) {
    const CodebookWork& work = wave.works[i];
    if (has_rows(work)) {
      SKV_RETURN_IF_ERROR(check_cover(work));
    } else {
      *work.problem->count = 0;
    }
  }
  wave.each_problem(call.device, [&](CodebookWork& work, int) {
    if (has_rows(work)) round_leaders(call, work);
  });
  if (call.params.refine > 0) refine_codebooks(call, wave);
  if (call.is_stopped()) return aborted_status("build_codebook");
  wave.each_problem(call.device, [&](CodebookWork& work, int) {
    if (has_rows(work)) drop_empty_codewords(call, work);
  });
  wave.each_block(call.device, row_blocks,
                  [&](CodebookWork& work, int64_t block, int) { write_rows(call, work, block); });
  return ok_status();
}

}  // namespace spindlekv::cpu
