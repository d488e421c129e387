// build_codebook: the working set of one problem in device memory, as every kernel of the op sees
// it.
//
// Three index spaces: x index (a row of x, [0, n)), position (in `rows`, [0, n_rows)), and loaded
// index (a row whose unit vector is in the workspace: all of x where the graph covers them all,
// else the positions). The graph's index is the x index or the position.
#pragma once

#include "core/ops.h"

#include <cuda_runtime.h>

#include <cstdint>

namespace spindlekv::cuda {

// What the stages leave for each other.
struct CodebookState {
  int32_t left_over;  // rows that max_codewords left uncovered
  int32_t moves;      // this round of the refinement takes place
  int32_t changed;    // something moved in it
  int32_t count;      // codewords before those without members are removed
};

struct CodebookWork {
  SkvCodebookProblem problem;
  int32_t loads_all;      // loaded index == x index
  int32_t graph_is_full;  // graph index == x index
  int32_t builds_graph;
  int32_t loaded;      // rows whose units are in the workspace
  int32_t graph_rows;  // rows of the graph
  int32_t most;        // codewords at most

  CodebookState* state;
  float* units;      // [loaded, D]
  float* norms;      // [loaded]
  uint64_t* hashes;  // [loaded] of the rows' bits, 0 for rows of norm 0
  uint64_t* graph;   // [graph_rows, words]

  // COVER
  int32_t* degree;    // [graph_rows] uncovered neighbours of uncovered rows, 0 for others
  uint64_t* active;   // [words] uncovered rows
  int32_t* label_of;  // [graph_rows]
  int32_t* removed;   // [graph_rows] rows that the last pick covers

  // EMIT
  float* codewords;      // [most, D]
  float* square;         // [most] dot(codeword, codeword)
  float* bounds;         // [n_rows] the cosine that a row's codeword must exceed
  int32_t* offsets;      // [most + 1]
  int32_t* next;         // [most] scratch of the sort
  int32_t* members;      // [n_rows] positions by label
  int32_t* final_label;  // [most] -1: no members
};

struct CodebookArgs {
  const CodebookWork* works;
  int32_t n_works;
  int32_t head_dim;
  int32_t max_codewords;
  int32_t ref_bytes;
  int32_t* nonfinite;
};

__host__ __device__ inline int64_t codebook_words(int64_t bits) { return (bits + 63) / 64; }

__device__ __forceinline__ int x_of(const CodebookWork& work, int64_t position) {
  return work.problem.rows != nullptr ? work.problem.rows[position] : static_cast<int>(position);
}

__device__ __forceinline__ int64_t loaded_of(const CodebookWork& work, int64_t position) {
  return work.loads_all != 0 ? x_of(work, position) : position;
}

__device__ __forceinline__ int64_t graph_of(const CodebookWork& work, int64_t position) {
  return work.graph_is_full != 0 ? x_of(work, position) : position;
}

// The x index of a loaded row.
__device__ __forceinline__ int64_t x_of_loaded(const CodebookWork& work, int64_t loaded) {
  return work.loads_all != 0 ? loaded : x_of(work, loaded);
}

// The loaded index of a codeword's leader, which is one of the rows.
__device__ __forceinline__ int64_t loaded_leader(const CodebookWork& work, int codeword) {
  const int leader = work.problem.leaders[codeword];
  if (work.loads_all != 0 || work.problem.rows == nullptr) return leader;
  int low = 0;
  int high = work.problem.n_rows - 1;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (work.problem.rows[middle] < leader) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

}  // namespace spindlekv::cuda
