// Rows of x as unit vectors, with their norms and a hash of their bytes.
//
// Memory-bound: reads each row once, writes it as f32.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "cpu/build_codebook.h"
#include "cpu/convert.h"

namespace spindlekv::cpu {
namespace {

// Any function of the bytes would do: equal hashes are compared in full. Rows are whole 8-byte
// words, because head dims are multiples of 8.
uint64_t hash_bytes(const char* bytes, size_t count) {
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15u;  // 2^64 / golden ratio
  uint64_t hash = kOdd;
  for (size_t at = 0; at < count; at += sizeof(uint64_t)) {
    uint64_t word;
    std::memcpy(&word, bytes + at, sizeof(word));
    hash = std::rotl((hash ^ word) * kOdd, 29);
  }
  return hash ^ (hash >> 32);
}

void load_block(const CodebookCall& call, const CodebookWork& work, int64_t first, int64_t count) {
  const SkvBuildCodebookParams& params = call.params;
  const SkvCodebookProblem& problem = *work.problem;
  const size_t element_bytes = dtype_bytes(params.dtype);
  float* const units = work.units + first * params.head_dim;
  if (work.loads_all) {
    call.kernels.load_rows(params.dtype, work.row_bytes(first, element_bytes), problem.x_stride,
                           nullptr, count, params.head_dim, units);
  } else {
    call.kernels.load_rows(params.dtype, problem.x, problem.x_stride, problem.rows + first, count,
                           params.head_dim, units);
  }
  call.kernels.unit_rows(units, count, params.head_dim, true, work.norms + first);
  if (work.hashes == nullptr) return;
  const size_t row_bytes = element_bytes * static_cast<size_t>(params.head_dim);
  for (int64_t i = first; i < first + count; ++i) {
    work.hashes[i] =
        work.norms[i] == 0.0f ? 0 : hash_bytes(work.row_bytes(i, element_bytes), row_bytes);
  }
}

int32_t count_nonfinite(const CodebookWork& work) {
  int32_t count = 0;
  const int64_t rows = work.problem->rows != nullptr ? work.problem->n_rows : work.loaded;
  for (int64_t p = 0; p < rows; ++p) count += !std::isfinite(work.norms[work.loaded_of(p)]);
  return count;
}

}  // namespace

void load_codebook_rows(const CodebookCall& call, const CodebookWave& wave) {
  wave.each_block(
      call.device, [](const CodebookWork& work) { return words_of(work.loaded); },
      [&](CodebookWork& work, int64_t block, int) {
        const int64_t first = block * kPanelRows;
        load_block(call, work, first, std::min<int64_t>(kPanelRows, work.loaded - first));
      });
  if (call.params.nonfinite == nullptr) return;
  for (int64_t i = 0; i < wave.count; ++i) {
    if (wave.works[i].needs_units) *call.params.nonfinite += count_nonfinite(wave.works[i]);
  }
}

bool are_duplicates(const CodebookCall& call, const CodebookWork& work, int64_t a, int64_t b) {
  const bool is_zero = work.norms[a] == 0.0f;
  if (is_zero || work.norms[b] == 0.0f) return is_zero && work.norms[b] == 0.0f;
  const size_t element_bytes = dtype_bytes(call.params.dtype);
  return std::memcmp(work.row_bytes(a, element_bytes), work.row_bytes(b, element_bytes),
                     element_bytes * static_cast<size_t>(call.params.head_dim)) == 0;
}

}  // namespace spindlekv::cpu
