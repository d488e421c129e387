// nearest_codeword on CUDA: kernels by dtype; problems of few rows and of many go apart.
#include "cuda/nearest_codeword/nearest_codeword.cuh"

#include "cuda/common/entries.h"
#include "cuda/common/workspace.h"

#include <vector>

namespace spindlekv::cuda {
namespace {

using NearestLaunch = Status (*)(const NearestArgs&, int64_t, cudaStream_t);

struct NearestEntry {
  int32_t dtype;
  NearestLaunch tiles;
  NearestLaunch rows;
};

template <typename Elem>
constexpr NearestEntry entry() {
  return {kDTypeOf<Elem>, launch_nearest_tiles<Elem>, launch_nearest_rows<Elem>};
}

constexpr NearestEntry kNearestTable[] = {entry<float>(), entry<f16>(), entry<bf16>()};

const NearestEntry* find_entry(int32_t dtype) {
  for (const NearestEntry& candidate : kNearestTable) {
    if (candidate.dtype == dtype) return &candidate;
  }
  return nullptr;
}

bool has_few_rows(const SkvNearestProblem& problem) { return problem.n <= NearestTraits::kFewRows; }

// The problems that have few rows, or those that have not, and their blocks.
struct NearestBatch {
  std::vector<NearestWork> works;
  int64_t blocks = 0;

  NearestBatch(const SkvNearestCodewordParams& p, bool takes_few) {
    works.reserve(static_cast<size_t>(p.n_problems));
    for (int32_t i = 0; i < p.n_problems; ++i) {
      const SkvNearestProblem& problem = p.problems[i];
      if (problem.n == 0 || has_few_rows(problem) != takes_few) continue;
      works.push_back({problem, blocks});
      blocks += takes_few ? problem.n : ceil_div(problem.n, DotTraits::kTile);
    }
  }
};

NearestWork* lay_out(WorkspaceLayout& layout, const SkvNearestCodewordParams& p) {
  return layout.take<NearestWork>(p.n_problems);
}

Status run_batch(const SkvNearestCodewordParams& p, const NearestBatch& batch,
                 NearestLaunch launch_batch, NearestWork* table, cudaStream_t stream) {
  SKV_RETURN_IF_ERROR(copy_to_device("nearest_codeword", stream, table, batch.works.data(),
                                     sizeof(NearestWork) * batch.works.size()));
  const NearestArgs args{table, static_cast<int32_t>(batch.works.size()), p.head_dim, p.normalize};
  return launch_batch(args, batch.blocks, stream);
}

}  // namespace

size_t nearest_codeword_workspace(SkvDevice&, const SkvNearestCodewordParams& p) {
  WorkspaceLayout layout;
  lay_out(layout, p);
  return layout.bytes();
}

Status nearest_codeword(SkvDevice&, const SkvExec& exec, const SkvNearestCodewordParams& p) {
  const NearestEntry* entry = find_entry(p.dtype);
  if (entry == nullptr) {
    return error_status(SKV_UNSUPPORTED, "nearest_codeword",
                        "expected f32, f16 or bf16 for dtype, got %d", p.dtype);
  }
  WorkspaceLayout layout(exec.workspace);
  NearestWork* const table = lay_out(layout, p);
  const NearestBatch few(p, true);
  const NearestBatch many(p, false);
  const cudaStream_t stream = stream_of(exec);
  SKV_RETURN_IF_ERROR(run_batch(p, few, entry->rows, table, stream));
  return run_batch(p, many, entry->tiles, table + few.works.size(), stream);
}

}  // namespace spindlekv::cuda
