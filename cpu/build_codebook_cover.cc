// Greedy maximum-degree cover of a similarity graph.
//
//   graph [n, ceil(n/64)] u64, rows -> labels [n_rows], leaders [codewords], count
//
// A problem is one task: each pick depends on the one before. Degrees are counted once and then
// lowered only by the rows that a pick covers, each covered row being walked once, so the whole
// cover costs O(n^2 / 64) words plus one scan of n degrees per pick.
#include <bit>
#include <cstdint>
#include <limits>

#include "cpu/build_codebook.h"

namespace spindlekv::cpu {
namespace {

constexpr int64_t kPicksPerPoll = 64;

class Cover {
 public:
  Cover(const CodebookCall& call, CodebookWork& work)
      : call_(call), work_(work), words_(words_of(work.graph_rows)) {}

  void run() {
    count_degrees();
    const int64_t limit = call_.params.max_codewords;
    while (uncovered_ > 0 && (limit == 0 || picks_ < limit)) {
      if (picks_ % kPicksPerPoll == 0 && call_.is_stopped()) return;
      const int64_t leader = call_.kernels.first_largest(work_.degree, words_ * 64);
      if (work_.degree[leader] == 1) {
        take_single_rows(limit);
        break;
      }
      cover_neighbours(leader);
    }
    work_.left_over = uncovered_;
    write_result();
  }

 private:
  const uint64_t* row_of(int64_t index) const { return work_.graph + index * words_; }

  void count_degrees() {
    std::fill(work_.active, work_.active + words_, 0);
    std::fill(work_.degree, work_.degree + words_ * 64, 0);
    std::fill(work_.label_of, work_.label_of + work_.graph_rows, -1);
    uncovered_ = work_.problem->n_rows;
    for (int64_t p = 0; p < uncovered_; ++p) {
      const int64_t index = work_.graph_of(p);
      work_.active[index / 64] |= uint64_t{1} << (index % 64);
    }
    for (int64_t p = 0; p < uncovered_; ++p) {
      const int64_t index = work_.graph_of(p);
      work_.degree[index] = call_.kernels.common_bits(row_of(index), work_.active, words_);
    }
  }

  void add_leader(int64_t index) {
    const bool is_x_index = work_.graph_is_full;
    work_.problem->leaders[picks_++] = is_x_index ? static_cast<int32_t>(index) : work_.x_of(index);
  }

  void cover_neighbours(int64_t leader) {
    const int32_t label = static_cast<int32_t>(picks_);
    const uint64_t* const neighbours = row_of(leader);
    for (int64_t w = 0; w < words_; ++w) {
      work_.removed[w] = neighbours[w] & work_.active[w];
      work_.active[w] &= ~neighbours[w];
    }
    each_bit(work_.removed, [&](int64_t index) {
      work_.label_of[index] = label;
      work_.degree[index] = 0;
      --uncovered_;
    });
    if (uncovered_ > 0) {
      each_bit(work_.removed, [&](int64_t index) {
        call_.kernels.subtract_common(row_of(index), work_.active, words_, work_.degree);
      });
    }
    add_leader(leader);
  }

  // No uncovered row has an uncovered neighbour but itself: they follow in order.
  void take_single_rows(int64_t limit) {
    each_bit(work_.active, [&](int64_t index) {
      if (limit != 0 && picks_ >= limit) return;
      work_.label_of[index] = static_cast<int32_t>(picks_);
      --uncovered_;
      add_leader(index);
    });
  }

  template <class Use>
  void each_bit(const uint64_t* bits, const Use& use) const {
    for (int64_t w = 0; w < words_; ++w) {
      for (uint64_t word = bits[w]; word != 0; word &= word - 1) {
        use(w * 64 + std::countr_zero(word));
      }
    }
  }

  void write_result() const {
    const SkvCodebookProblem& problem = *work_.problem;
    for (int64_t p = 0; p < problem.n_rows; ++p) {
      problem.labels[p] = work_.label_of[work_.graph_of(p)];
    }
    *problem.count = static_cast<int32_t>(picks_);
  }

  const CodebookCall& call_;
  CodebookWork& work_;
  const int64_t words_;
  int64_t uncovered_ = 0;
  int64_t picks_ = 0;
};

void gather_leaders(const CodebookCall& call, const CodebookWork& work) {
  const int64_t head_dim = call.params.head_dim;
  for (int32_t c = 0; c < *work.problem->count; ++c) {
    const float* const unit = work.units + work.loaded_of_x(work.problem->leaders[c]) * head_dim;
    std::copy(unit, unit + head_dim, work.codewords + c * head_dim);
    quantise_codeword(call, work, c);
  }
}

// Rows that max_codewords left uncovered go to the most similar leader.
void label_leftovers(const CodebookCall& call, const CodebookWork& work, int64_t block,
                     const SearchScratch& scratch) {
  const SkvCodebookProblem& problem = *work.problem;
  const int32_t head_dim = call.params.head_dim;
  const int64_t end = std::min<int64_t>(problem.n_rows, (block + 1) * kPanelRows);
  int64_t positions[kPanelRows];
  const float* rows[kPanelRows] = {};
  int32_t count = 0;
  for (int64_t p = block * kPanelRows; p < end; ++p) {
    if (problem.labels[p] >= 0) continue;
    positions[count] = p;
    rows[count++] = work.units + work.loaded_of(p) * head_dim;
  }
  if (count == 0) return;
  float best[kPanelRows];
  int32_t label[kPanelRows];
  std::fill(best, best + kPanelRows, -std::numeric_limits<float>::infinity());
  std::fill(label, label + kPanelRows, -1);
  const SimilaritySearch search{call.kernels, call.filter, true};
  search.largest_dots(list_codewords(call, work), rows, count, scratch, best, label);
  // A row of NaN is like none of them; its label means nothing but is a label.
  for (int32_t i = 0; i < count; ++i) problem.labels[positions[i]] = std::max(label[i], 0);
}

}  // namespace

void cover_graphs(const CodebookCall& call, const CodebookWave& wave) {
  wave.each_problem(call.device, [&](CodebookWork& work, int) {
    if (work.problem->n_rows == 0) {
      *work.problem->count = 0;
      return;
    }
    Cover(call, work).run();
    if (work.left_over > 0 && !call.is_stopped()) gather_leaders(call, work);
  });
  if (call.is_stopped()) return;
  wave.each_block(
      call.device,
      [](const CodebookWork& work) {
        return work.left_over > 0 ? words_of(work.problem->n_rows) : 0;
      },
      [&](CodebookWork& work, int64_t block, int lane) {
        label_leftovers(call, work, block, call.scratch(lane));
      });
}

}  // namespace spindlekv::cpu
