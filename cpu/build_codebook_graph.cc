// The similarity graph of a problem's rows as bits: which pairs have a cosine above theta.
//
//   units [n, D] f32 -> graph [n, ceil(n/64)] u64
//
// Compute-bound: n^2 D / 2 multiply-adds, of int16 pairs where that pays: the filter decides
// nearly every pair, the others are compared in f32 (cpu/isa/similarity_filter.h). Only the lower
// triangle of 64 x 64 tiles is computed; a dot product is the same bits both ways round, so the
// upper one is its mirror, made afterwards in squares of whole cache lines. Exact duplicates are
// compared once: the graph is made over classes of equal rows and then spread over the rows. The
// products of a tile never leave the registers.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "cpu/build_codebook.h"

namespace spindlekv::cpu {
namespace {

constexpr int64_t kLineWords = 8;  // of a cache line
// A tile with more pairs to compare one by one is compared in f32 as a whole (measured: what a
// tile of D = 128 costs, AVX-512).
constexpr int32_t kMostUndecided = 192;

// words[c] bit r <-> words[r] bit c, one by one; false if they are too many for that.
bool transpose_few_bits(uint64_t* words) {
  int budget = 48;
  uint64_t turned[64] = {};
  for (int r = 0; r < 64; ++r) {
    for (uint64_t word = words[r]; word != 0; word &= word - 1) {
      if (--budget < 0) return false;
      turned[std::countr_zero(word)] |= uint64_t{1} << r;
    }
  }
  std::copy(turned, turned + 64, words);
  return true;
}

// words[c] bit r <-> words[r] bit c: swaps quadrants of 32, then of 16, ..., 1.
void transpose_bits(uint64_t* words) {
  if (transpose_few_bits(words)) return;
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

uint64_t* class_graph(const CodebookWork& work) {
  return has_duplicates(work) ? work.folded : work.graph;
}

// Pointers to the units of a block of classes; returns how many.
int32_t gather_units(const CodebookCall& call, const CodebookWork& work, int64_t block,
                     const float** rows) {
  const int64_t count = block_rows(work.n_distinct, block);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t first = work.distinct[block * kPanelRows + i];
    rows[i] = work.units + first * call.params.head_dim;
  }
  return static_cast<int32_t>(count);
}

// The integer form of a block of classes, by rows and as a panel.
void quantise_classes(const CodebookCall& call, const CodebookWork& work, int64_t block) {
  const int32_t head_dim = call.params.head_dim;
  const float* units[kPanelRows] = {};
  const int32_t count = gather_units(call, work, block, units);
  int16_t* const rows = work.quantised + block * kPanelRows * head_dim;
  for (int32_t i = 0; i < count; ++i) {
    work.slacks[block * kPanelRows + i] =
        call.filter.quantise_row(units[i], head_dim, kUnitExponent, rows + i * head_dim);
  }
  call.filter.lay_block(rows, count, head_dim, work.pairs + block * kPanelRows * head_dim / 2);
}

// One row of tiles: classes [64 block, 64 block + 64) against all classes up to them.
class TileRow {
 public:
  TileRow(const CodebookCall& call, const CodebookWork& work, int64_t block, float* panel)
      : call_(call), work_(work), block_(block), panel_(panel) {
    rows_ = gather_units(call, work, block, units_);
    is_filtered_ = call.filter.pays && prepare_filter();
  }

  void run() {
    const int64_t words = words_of(work_.n_distinct);
    uint64_t* const graph = class_graph(work_) + block_ * kPanelRows * words;
    for (int64_t other = 0; other <= block_; ++other) {
      uint64_t tile[kPanelRows] = {};
      if (!is_filtered_ || !filter_tile(other, tile)) compare_tile(other, tile);
      for (int32_t r = 0; r < rows_; ++r) {
        if (other == block_) tile[r] |= uint64_t{1} << r;
        graph[r * words + other] = tile[r];
      }
    }
  }

 private:
  // False if a row has no integer form.
  bool prepare_filter() {
    limit_ = static_cast<int32_t>(std::floor(std::ldexp(double{work_.problem->theta}, 30)));
    for (int32_t r = 0; r < rows_; ++r) {
      start_[r] = work_.slacks[block_ * kPanelRows + r];
      if (start_[r] == kNoSlack) return false;
      margin_[r] = 2 * start_[r];
    }
    return true;
  }

  // Bit c of tile[r]: row r is similar to row c of the other block. False if the filter cannot
  // tell enough of them: then the tile is not written.
  bool filter_tile(int64_t other, uint64_t* tile) const {
    const int32_t head_dim = call_.params.head_dim;
    const int32_t rounding = rounding_slack(head_dim);
    const int64_t columns = block_rows(work_.n_distinct, other);
    int32_t low[kPanelRows];
    int32_t high[kPanelRows];
    std::fill(low, low + kPanelRows, std::numeric_limits<int32_t>::max());
    std::fill(high, high + kPanelRows, std::numeric_limits<int32_t>::max());
    for (int64_t c = 0; c < columns; ++c) {
      const int32_t slack = work_.slacks[other * kPanelRows + c];
      if (slack == kNoSlack) return false;
      // n + own + slack + rounding > limit, and n - own - slack - rounding > limit, where start
      // adds `own` to n and margin takes it off twice.
      low[c] = limit_ - slack - rounding;
      high[c] = limit_ + slack + rounding;
    }
    uint64_t maybe[kPanelRows];
    call_.filter.block_bits(work_.quantised + block_ * kPanelRows * head_dim, rows_, head_dim,
                            work_.pairs + other * kPanelRows * head_dim / 2, start_, margin_, low,
                            high, maybe, tile);
    int32_t undecided = 0;
    for (int32_t r = 0; r < rows_; ++r) {
      const uint64_t open = maybe[r] & ~tile[r];
      if (open != 0) undecided += std::popcount(open);
    }
    if (undecided > kMostUndecided) return false;
    if (undecided > 0) decide_pairs(other, maybe, tile);
    return true;
  }

  // The pairs that may be similar, by their products.
  void decide_pairs(int64_t other, const uint64_t* maybe, uint64_t* tile) const {
    const float* a[kMostUndecided];
    const float* b[kMostUndecided];
    float dots[kMostUndecided];
    const float* others[kPanelRows] = {};
    gather_units(call_, work_, other, others);
    const auto each_pair = [&](const auto& use) {
      for (int32_t r = 0; r < rows_; ++r) {
        for (uint64_t word = maybe[r] & ~tile[r]; word != 0; word &= word - 1) {
          use(r, std::countr_zero(word));
        }
      }
    };
    int32_t count = 0;
    each_pair([&](int32_t r, int c) {
      a[count] = units_[r];
      b[count++] = others[c];
    });
    call_.kernels.paired_dots(a, b, count, call_.params.head_dim, dots);
    int32_t at = 0;
    each_pair([&](int32_t r, int c) {
      if (dots[at++] > work_.problem->theta) tile[r] |= uint64_t{1} << c;
    });
  }

  // All pairs by their products.
  void compare_tile(int64_t other, uint64_t* tile) {
    const int32_t head_dim = call_.params.head_dim;
    if (!is_packed_) call_.kernels.pack_panel(units_, rows_, head_dim, panel_);
    is_packed_ = true;
    const float* others[kPanelRows] = {};
    const int32_t columns = gather_units(call_, work_, other, others);
    std::fill(tile, tile + kPanelRows, 0);
    call_.kernels.threshold_bits(others, columns, head_dim, panel_, work_.problem->theta, tile);
    transpose_bits(tile);
  }

  const CodebookCall& call_;
  const CodebookWork& work_;
  const int64_t block_;
  float* const panel_;
  const float* units_[kPanelRows] = {};
  int32_t rows_ = 0;
  bool is_filtered_ = false;
  bool is_packed_ = false;
  int32_t limit_ = 0;  // theta, scaled
  int32_t start_[kPanelRows];
  int32_t margin_[kPanelRows];
};

// The words above the diagonal of kLineWords blocks of classes, from those below it.
void mirror_rows(const CodebookWork& work, int64_t task) {
  const int64_t words = words_of(work.n_distinct);
  uint64_t* const graph = class_graph(work);
  const int64_t first = task * kLineWords;
  for (int64_t from = first + 1; from < words; ++from) {
    const int64_t count = block_rows(work.n_distinct, from);
    const int64_t last = std::min({first + kLineWords, words, from});
    for (int64_t to = first; to < last; ++to) {
      uint64_t tile[kPanelRows] = {};
      for (int64_t r = 0; r < count; ++r) tile[r] = graph[(from * kPanelRows + r) * words + to];
      transpose_bits(tile);
      for (int64_t c = 0; c < kPanelRows; ++c) {
        graph[(to * kPanelRows + c) * words + from] = tile[c];
      }
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
  const auto class_blocks = [](const CodebookWork& work) { return words_of(work.n_distinct); };
  if (call.filter.pays) {
    wave.each_block(call.device, class_blocks, [&](CodebookWork& work, int64_t block, int) {
      quantise_classes(call, work, block);
    });
  }
  wave.each_block(call.device, class_blocks, [&](CodebookWork& work, int64_t block, int lane) {
    if (call.is_stopped()) return;
    // The longest rows first, so that the threads finish together.
    const int64_t from_last = words_of(work.n_distinct) - 1 - block;
    TileRow(call, work, from_last, call.scratch(lane).panel).run();
  });
  wave.each_block(
      call.device,
      [](const CodebookWork& work) {
        return (words_of(work.n_distinct) + kLineWords - 1) / kLineWords;
      },
      [](CodebookWork& work, int64_t task, int) { mirror_rows(work, task); });
  const auto row_blocks = [](const CodebookWork& work) {
    return work.builds_graph && has_duplicates(work) ? words_of(work.loaded) : 0;
  };
  wave.each_block(call.device, row_blocks,
                  [](CodebookWork& work, int64_t block, int) { spread_column(work, block); });
  wave.each_block(call.device, row_blocks,
                  [](CodebookWork& work, int64_t block, int) { repeat_rows(work, block); });
}

}  // namespace spindlekv::cpu
