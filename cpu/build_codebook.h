// Shared by the stages of build_codebook on the CPU: the working set of one problem, and the walk
// over the blocks of several problems at once.
//
// Three index spaces: x index (a row of x, [0, n)), position (in `rows`, [0, n_rows)), and loaded
// index (a row whose unit vector is in the workspace: all of x for the GRAPH stage, else the
// positions).
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "core/ops.h"
#include "core/status.h"
#include "cpu/carve.h"
#include "cpu/device.h"
#include "cpu/isa/similarity.h"
#include "cpu/isa/similarity_filter.h"
#include "cpu/similarity_search.h"

namespace spindlekv::cpu {

inline int64_t words_of(int64_t bits) { return (bits + 63) / 64; }

struct CodebookWork {
  const SkvCodebookProblem* problem = nullptr;
  bool needs_units = false;   // a stage of this call reads x
  bool loads_all = false;     // loaded index == x index
  bool builds_graph = false;  // over the loaded rows
  int64_t loaded = 0;         // rows whose units are here

  float* units = nullptr;  // [loaded, D]
  float* norms = nullptr;  // [loaded]

  // Folding of exact duplicates.
  uint64_t* hashes = nullptr;   // [loaded] of the row's bytes
  int32_t* table = nullptr;     // [table_size] hash table of classes, -1: free
  int64_t table_size = 0;       // a power of two
  int32_t* classes = nullptr;   // [loaded] class of a row
  int32_t* distinct = nullptr;  // [n_distinct] first row of a class, ascending
  int32_t n_distinct = 0;
  uint64_t* folded =
      nullptr;  // [n_distinct, words] graph of the classes, where some rows are alike

  // Integer form of the classes, at kUnitExponent, where the filter pays.
  int16_t* quantised = nullptr;  // blocks of [64, D], as the filter lays them
  int32_t* slacks = nullptr;     // [n_distinct]
  int32_t* pairs = nullptr;      // [ceil(n_distinct / 64), D / 2, 64] panels of them

  // The graph that COVER reads, and the number of its rows. Its index is the x index or, when the
  // graph is made here for a subset of the rows, the position.
  uint64_t* graph = nullptr;
  int64_t graph_rows = 0;
  bool graph_is_full = false;

  // COVER.
  int32_t* degree = nullptr;    // [words * 64] uncovered neighbours of uncovered rows, 0 for others
  uint64_t* active = nullptr;   // [words] uncovered rows
  uint64_t* removed = nullptr;  // [words] rows that the last pick covers
  int32_t* label_of = nullptr;  // [graph_rows]
  int64_t left_over = 0;        // rows that max_codewords left uncovered

  // Leftovers of COVER, and EMIT.
  float* codewords = nullptr;              // [most, D]
  float* square = nullptr;                 // [most] dot(codeword, codeword)
  int16_t* codewords_quantised = nullptr;  // [most, D] at kUnitExponent, where the filter pays
  int32_t* codeword_slacks = nullptr;      // [most]
  float* bounds = nullptr;                 // [n_rows] the cosine that a row's codeword must exceed
  int32_t* offsets = nullptr;              // [most + 1]
  int32_t* members = nullptr;              // [n_rows] positions by label
  int32_t* cursor = nullptr;  // [most] scratch of the sort; at the end the final labels
  std::atomic<int32_t> changed{0};

  // The x index, loaded index and graph index of a position.
  int32_t x_of(int64_t position) const {
    return problem->rows != nullptr ? problem->rows[position] : static_cast<int32_t>(position);
  }
  int64_t loaded_of(int64_t position) const { return loads_all ? x_of(position) : position; }
  int64_t graph_of(int64_t position) const { return graph_is_full ? x_of(position) : position; }
  // The loaded index of an x index, -1 if it is not among the rows.
  int64_t loaded_of_x(int32_t x_index) const {
    if (x_index < 0 || x_index >= problem->n) return -1;
    if (loads_all || problem->rows == nullptr) return x_index;
    const int32_t* const end = problem->rows + problem->n_rows;
    const int32_t* const at = std::lower_bound(problem->rows, end, x_index);
    return at != end && *at == x_index ? at - problem->rows : -1;
  }
  // Bytes of a loaded row.
  const char* row_bytes(int64_t loaded_index, size_t element_bytes) const {
    const int64_t x_index = loads_all ? loaded_index : x_of(loaded_index);
    return static_cast<const char*>(problem->x) +
           x_index * problem->x_stride * static_cast<int64_t>(element_bytes);
  }
};

struct CodebookCall {
  SkvDevice& device;
  const SkvExec& exec;
  const SkvBuildCodebookParams& params;
  const SimilarityKernels& kernels;
  const FilterKernels& filter;
  void* lane_scratch;  // [lanes] of what SearchScratch carves

  bool runs(SkvCodebookStage stage) const { return (params.stages & stage) != 0; }
  bool is_stopped() const { return is_cancelled(exec); }
  static size_t scratch_bytes(const SkvBuildCodebookParams& params) {
    Carver carver(nullptr);
    SearchScratch::carve(params.head_dim, carver);
    return carver.used();
  }
  SearchScratch scratch(int lane) const {
    Carver carver(static_cast<char*>(lane_scratch) +
                  static_cast<size_t>(lane) * scratch_bytes(params));
    return SearchScratch::carve(params.head_dim, carver);
  }
};

// Problems that are worked on together.
struct CodebookWave {
  CodebookWork* works;
  int64_t count;

  // Runs task(work, block, lane) for every block of [0, blocks_of(work)) of every problem.
  template <class BlocksOf, class Task>
  void each_block(SkvDevice& device, const BlocksOf& blocks_of, const Task& task) const {
    std::vector<int64_t> first(static_cast<size_t>(count) + 1, 0);
    for (int64_t i = 0; i < count; ++i) first[i + 1] = first[i] + blocks_of(works[i]);
    device.pool.parallel_for(first[count], [&](int64_t index, int lane) {
      const int64_t owner = std::upper_bound(first.begin(), first.end(), index) - first.begin() - 1;
      task(works[owner], index - first[owner], lane);
    });
  }
  template <class Task>
  void each_problem(SkvDevice& device, const Task& task) const {
    device.pool.parallel_for(count, [&](int64_t i, int lane) { task(works[i], lane); });
  }
};

// cpu/build_codebook_rows.cc: units, norms and hashes of the loaded rows; counts rows without a
// finite norm into params.nonfinite.
void load_codebook_rows(const CodebookCall& call, const CodebookWave& wave);

// True if two loaded rows are exact duplicates: equal bytes, or both of norm zero.
bool are_duplicates(const CodebookCall& call, const CodebookWork& work, int64_t a, int64_t b);

// cpu/build_codebook_codewords.cc: the integer form of codeword c, and all of them as a list once
// each has it.
void quantise_codeword(const CodebookCall& call, const CodebookWork& work, int64_t c);
CodewordList list_codewords(const CodebookCall& call, const CodebookWork& work);

// cpu/build_codebook_graph.cc: the GRAPH stage, also for COVER without a graph.
void build_similarity_graphs(const CodebookCall& call, const CodebookWave& wave);

// cpu/build_codebook_cover.cc: the COVER stage.
void cover_graphs(const CodebookCall& call, const CodebookWave& wave);

// cpu/build_codebook_emit.cc: the EMIT stage; cpu/build_codebook_refine.cc: its refinement rounds.
Status emit_codebooks(const CodebookCall& call, const CodebookWave& wave);
void refine_codebooks(const CodebookCall& call, const CodebookWave& wave);

}  // namespace spindlekv::cpu
