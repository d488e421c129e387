// The similarity graph of a problem's rows as bits: which pairs have a cosine above theta.
//
//   units [n, D] f32 -> graph [n, ceil(n/64)] u64
//
// Compute-bound: n^2 D / 2 fused multiply-adds. Only the upper triangle of 64 x 64 tiles is
// computed; a dot product is the same bits both ways round, so the lower one is its mirror. Exact
// duplicates are compared once: the graph is made over classes of equal rows and then spread over
// the rows, again by 64 x 64 bit transposes. The floats of a tile never leave the registers.
#include <cstdint>
#include <cstring>

#include "cpu/build_codebook.h"

namespace spindlekv::cpu {
namespace {

// words[c] bit r <-> words[r] bit c: swaps quadrants of 32, then of 16, ..., 1.
void transpose_bits(uint64_t* words) {
  uint64_t mask = 0x00000000ffffffffu;
  for (int half = 32; half != 0; half /= 2, mask ^= mask << half) {
    for (int base = 0; base < 64; base += 2 * half) {
      for (int r = base; r < base + half; ++r) {
        const uint64_t differing = ((words[r] >> half) ^ words[r + half]) & mask;
        words[r] ^= differing << half;
        words[r + half] ^= differing;
      }
    }
  }
}

int64_t block_rows(int64_t rows, int64_t block) {
  return std::min<int64_t>(kPanelRows, rows - block * kPanelRows);
}

// Gives every row its class: rows are alike if they are exact duplicates. Classes are numbered by
// their first row. Open addressing; the table is at most half full.
void fold_duplicates(const CodebookCall& call, CodebookWork& work) {
  std::fill(work.table, work.table + work.table_size, -1);
  work.n_distinct = 0;
  const uint64_t mask = static_cast<uint64_t>(work.table_size) - 1;
  for (int64_t i = 0; i < work.loaded; ++i) {
    uint64_t at = work.hashes[i] & mask;
    for (;; at = (at + 1) & mask) {
      const int32_t known = work.table[at];
      if (known < 0) {
        work.table[at] = work.n_distinct;
        work.classes[i] = work.n_distinct;
        work.distinct[work.n_distinct++] = static_cast<int32_t>(i);
        break;
      }
      const int32_t first = work.distinct[known];
      if (work.hashes[first] == work.hashes[i] && are_duplicates(call, work, first, i)) {
        work.classes[i] = known;
        break;
      }
    }
  }
}

bool has_duplicates(const CodebookWork& work) { return work.n_distinct < work.loaded; }

// One column of tiles: classes [64 block, 64 block + 64) against all classes up to them.
void compare_column(const CodebookCall& call, const CodebookWork& work, int64_t block,
                    float* panel) {
  const int32_t head_dim = call.params.head_dim;
  const int64_t classes = work.n_distinct;
  const int64_t words = words_of(classes);
  uint64_t* const graph = has_duplicates(work) ? work.folded : work.graph;
  const float* rows[kPanelRows] = {};
  const auto gather = [&](int64_t of) {
    const int64_t count = block_rows(classes, of);
    for (int64_t i = 0; i < count; ++i) {
      rows[i] = work.units + static_cast<int64_t>(work.distinct[of * kPanelRows + i]) * head_dim;
    }
    return count;
  };
  const int64_t columns = gather(block);
  call.kernels.pack_panel(rows, static_cast<int32_t>(columns), head_dim, panel);
  // A theta below 0 would let the padding of the last panel in.
  const uint64_t inside = columns == 64 ? ~uint64_t{0} : (uint64_t{1} << columns) - 1;
  for (int64_t other = 0; other <= block; ++other) {
    const int64_t count = gather(other);
    uint64_t tile[kPanelRows] = {};
    call.kernels.threshold_bits(rows, static_cast<int32_t>(count), head_dim, panel,
                                work.problem->theta, tile);
    for (int64_t r = 0; r < count; ++r) {
      tile[r] &= inside;
      if (other == block) tile[r] |= uint64_t{1} << r;
      graph[(other * kPanelRows + r) * words + block] = tile[r];
    }
    if (other == block) continue;
    transpose_bits(tile);
    for (int64_t c = 0; c < columns; ++c) {
      graph[(block * kPanelRows + c) * words + other] = tile[c];
    }
  }
}

// One word of every class's first row: which of the rows [64 block, 64 block + 64) it is similar
// to.
void spread_column(const CodebookWork& work, int64_t block) {
  const int64_t class_words = words_of(work.n_distinct);
  const int64_t words = words_of(work.loaded);
  const int64_t rows = block_rows(work.loaded, block);
  for (int64_t of = 0; of < class_words; ++of) {
    uint64_t tile[kPanelRows] = {};
    for (int64_t r = 0; r < rows; ++r) {
      tile[r] = work.folded[work.classes[block * kPanelRows + r] * class_words + of];
    }
    transpose_bits(tile);
    const int64_t count = block_rows(work.n_distinct, of);
    for (int64_t c = 0; c < count; ++c) {
      work.graph[work.distinct[of * kPanelRows + c] * words + block] = tile[c];
    }
  }
}

// Rows that repeat an earlier one have its neighbours.
void repeat_rows(const CodebookWork& work, int64_t block) {
  const int64_t words = words_of(work.loaded);
  const int64_t first = block * kPanelRows;
  for (int64_t i = first; i < first + block_rows(work.loaded, block); ++i) {
    const int64_t like = work.distinct[work.classes[i]];
    if (like == i) continue;
    std::memcpy(work.graph + i * words, work.graph + like * words,
                sizeof(uint64_t) * static_cast<size_t>(words));
  }
}

}  // namespace

void build_similarity_graphs(const CodebookCall& call, const CodebookWave& wave) {
  wave.each_problem(call.device, [&](CodebookWork& work, int) {
    if (work.builds_graph) fold_duplicates(call, work);
  });
  wave.each_block(
      call.device, [](const CodebookWork& work) { return words_of(work.n_distinct); },
      [&](CodebookWork& work, int64_t block, int lane) {
        if (call.is_stopped()) return;
        // The longest columns first, so that the threads finish together.
        compare_column(call, work, words_of(work.n_distinct) - 1 - block, call.scratch(lane));
      });
  const auto row_blocks = [](const CodebookWork& work) {
    return work.builds_graph && has_duplicates(work) ? words_of(work.loaded) : 0;
  };
  wave.each_block(call.device, row_blocks,
                  [](CodebookWork& work, int64_t block, int) { spread_column(work, block); });
  wave.each_block(call.device, row_blocks,
                  [](CodebookWork& work, int64_t block, int) { repeat_rows(work, block); });
}

}  // namespace spindlekv::cpu
