// nearest_codeword on CUDA: kernels by dtype; problems of few rows and of many go apart.
#include "cuda/nearest_codeword/nearest_codeword.cuh"
#include "cuda/nearest_codeword/screen.cuh"

#include "cuda/common/entries.h"
#include "cuda/common/workspace.h"

#include <iterator>
#include <utility>
#include <vector>

namespace spindlekv::cuda {
namespace {

using NearestLaunch = Status (*)(const NearestArgs&, int64_t, cudaStream_t);

struct NearestEntry {
  int32_t dtype;
  NearestLaunch tiles;
  NearestLaunch rows;
  NearestLaunch screens[2];  // by kScreenDims
};

constexpr int32_t kScreenDims[] = {64, 128};

template <typename Elem>
constexpr NearestEntry entry() {
  return {kDTypeOf<Elem>,
          launch_nearest_tiles<Elem>,
          launch_nearest_rows<Elem>,
          {launch_nearest_screen<Elem, 64>, launch_nearest_screen<Elem, 128>}};
}

constexpr NearestEntry kNearestTable[] = {
    {SKV_F32, launch_nearest_tiles<float>, launch_nearest_rows<float>, {}},
    entry<f16>(),
    entry<bf16>()};

const NearestEntry* find_entry(int32_t dtype) {
  for (const NearestEntry& candidate : kNearestTable) {
    if (candidate.dtype == dtype) return &candidate;
  }
  return nullptr;
}

// The screen of this dtype and these dims, or null.
NearestLaunch find_screen(const NearestEntry& entry, int32_t head_dim) {
  for (size_t i = 0; i < std::size(kScreenDims); ++i) {
    if (kScreenDims[i] == head_dim) return entry.screens[i];
  }
  return nullptr;
}

bool is_aligned(const void* rows, int64_t stride) {
  return reinterpret_cast<uintptr_t>(rows) % 16 == 0 && stride % 8 == 0;
}

// How a problem is worked on, and the rows of a block then.
enum class NearestWay { kRows, kScreen, kTiles };

NearestWay way_of(const SkvNearestProblem& problem, bool has_screen) {
  if (problem.n <= NearestTraits::kFewRows) return NearestWay::kRows;
  const bool is_screened = has_screen && problem.c > 0 && is_aligned(problem.x, problem.x_stride) &&
                           is_aligned(problem.codewords, problem.codeword_stride);
  return is_screened ? NearestWay::kScreen : NearestWay::kTiles;
}

int64_t rows_of_block(NearestWay way) {
  if (way == NearestWay::kRows) return 1;
  return way == NearestWay::kScreen ? NearestTraits::kScreenRows : DotTraits::kTile;
}

// The problems that go one way, and their blocks.
struct NearestBatch {
  std::vector<NearestWork> works;
  int64_t blocks = 0;

  NearestBatch(const SkvNearestCodewordParams& p, NearestWay way, bool has_screen) {
    works.reserve(static_cast<size_t>(p.n_problems));
    for (int32_t i = 0; i < p.n_problems; ++i) {
      const SkvNearestProblem& problem = p.problems[i];
      if (problem.n == 0 || way_of(problem, has_screen) != way) continue;
      works.push_back({problem, blocks});
      blocks += ceil_div(problem.n, rows_of_block(way));
    }
  }
};

struct NearestPieces {
  NearestWork* works;
  float* largest_norms;
};

NearestPieces lay_out(WorkspaceLayout& layout, const SkvNearestCodewordParams& p) {
  NearestPieces pieces;
  pieces.works = layout.take<NearestWork>(p.n_problems);
  pieces.largest_norms = layout.take<float>(p.n_problems);
  return pieces;
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
  NearestPieces pieces = lay_out(layout, p);
  const cudaStream_t stream = stream_of(exec);
  const NearestLaunch screen = find_screen(*entry, p.head_dim);
  const std::pair<NearestWay, NearestLaunch> ways[] = {{NearestWay::kRows, entry->rows},
                                                       {NearestWay::kScreen, screen},
                                                       {NearestWay::kTiles, entry->tiles}};
  for (const auto& [way, launch_batch] : ways) {
    const NearestBatch batch(p, way, screen != nullptr);
    if (batch.works.empty()) continue;
    SKV_RETURN_IF_ERROR(copy_to_device("nearest_codeword", stream, pieces.works, batch.works.data(),
                                       sizeof(NearestWork) * batch.works.size()));
    const NearestArgs args{pieces.works, static_cast<int32_t>(batch.works.size()), p.head_dim,
                           p.normalize, pieces.largest_norms};
    SKV_RETURN_IF_ERROR(launch_batch(args, batch.blocks, stream));
    pieces.works += batch.works.size();
  }
  return ok_status();
}

}  // namespace spindlekv::cuda
