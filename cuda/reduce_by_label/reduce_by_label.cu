// reduce_by_label on CUDA: the passes of the sort, then offsets and sums; sums by dtype.
#include "cuda/reduce_by_label/reduce_by_label.cuh"

#include "cuda/common/device.h"
#include "cuda/common/entries.h"
#include "cuda/common/workspace.h"

#include <algorithm>
#include <vector>

namespace spindlekv::cuda {
namespace {

struct LabelSumEntry {
  int32_t dtype;
  Status (*launch)(const LabelSumArgs&, cudaStream_t);
};

constexpr LabelSumEntry kLabelSumTable[] = {{SKV_F32, launch_label_sums<float>},
                                            {SKV_F16, launch_label_sums<f16>},
                                            {SKV_BF16, launch_label_sums<bf16>}};

// The table of problems on the device, and each problem's part of the workspace.
struct LabelPieces {
  LabelWork* table;
  std::vector<LabelWork> works;
};

LabelPieces lay_out(WorkspaceLayout& layout, const SkvReduceByLabelParams& p) {
  LabelPieces pieces{layout.take<LabelWork>(p.n_problems), {}};
  pieces.works.reserve(static_cast<size_t>(p.n_problems));
  for (int32_t i = 0; i < p.n_problems; ++i) {
    const SkvLabelProblem& problem = p.problems[i];
    LabelWork work{};
    work.problem = problem;
    work.tiles = static_cast<int32_t>(ceil_div(problem.n, LabelSortTraits::kTile));
    for (LabelledRow*& rows : work.rows) rows = layout.take<LabelledRow>(problem.n);
    work.places = layout.take<int32_t>(int64_t{LabelSortTraits::kDigits} * work.tiles);
    work.offsets = problem.offsets != nullptr
                       ? problem.offsets
                       : layout.take<int32_t>(static_cast<int64_t>(problem.n_labels) + 1);
    pieces.works.push_back(work);
  }
  return pieces;
}

// Passes over the bits of the largest key, which is the number of labels.
int32_t passes_for(int32_t n_labels) {
  int32_t passes = 1;
  while ((static_cast<int64_t>(n_labels) >> (passes * LabelSortTraits::kDigitBits)) > 0) ++passes;
  return passes;
}

// As many problems as one launch takes.
struct LabelBatch {
  const LabelWork* table;
  int32_t count;
  int32_t most_tiles = 0, most_labels = 0;
  bool has_sums = false;

  LabelBatch(const LabelPieces& pieces, size_t first)
      : table(pieces.table + first),
        count(static_cast<int32_t>(
            std::min(pieces.works.size() - first, static_cast<size_t>(kMaxGridYz)))) {
    for (size_t i = first; i < first + static_cast<size_t>(count); ++i) {
      const LabelWork& work = pieces.works[i];
      most_tiles = std::max(most_tiles, work.tiles);
      most_labels = std::max(most_labels, work.problem.n_labels);
      has_sums = has_sums || work.problem.sums != nullptr;
    }
  }
};

Status launch_sums(int32_t dtype, const LabelSumArgs& args, cudaStream_t stream) {
  for (const LabelSumEntry& entry : kLabelSumTable) {
    if (entry.dtype == dtype) return entry.launch(args, stream);
  }
  return error_status(SKV_UNSUPPORTED, "reduce_by_label",
                      "expected f32, f16 or bf16 for dtype, got %d", dtype);
}

Status reduce_batch(const SkvReduceByLabelParams& p, const LabelBatch& batch, cudaStream_t stream) {
  const int32_t passes = passes_for(batch.most_labels);
  for (int32_t pass = 0; pass < passes && batch.most_tiles > 0; ++pass) {
    const LabelSortArgs args{batch.table, batch.count, batch.most_tiles, pass, pass == passes - 1};
    SKV_RETURN_IF_ERROR(launch_label_pass(args, stream));
  }
  const LabelSumArgs args{batch.table, batch.count, batch.most_labels, p.head_dim, passes};
  SKV_RETURN_IF_ERROR(launch_label_offsets(args, stream));
  return batch.has_sums ? launch_sums(p.dtype, args, stream) : ok_status();
}

}  // namespace

size_t reduce_by_label_workspace(SkvDevice&, const SkvReduceByLabelParams& p) {
  WorkspaceLayout layout;
  lay_out(layout, p);
  return layout.bytes();
}

Status reduce_by_label(SkvDevice&, const SkvExec& exec, const SkvReduceByLabelParams& p) {
  if (p.n_problems == 0) return ok_status();
  WorkspaceLayout layout(exec.workspace);
  const LabelPieces pieces = lay_out(layout, p);
  const cudaStream_t stream = stream_of(exec);
  SKV_RETURN_IF_ERROR(copy_to_device("reduce_by_label", stream, pieces.table, pieces.works.data(),
                                     sizeof(LabelWork) * pieces.works.size()));
  for (size_t first = 0; first < pieces.works.size(); first += static_cast<size_t>(kMaxGridYz)) {
    SKV_RETURN_IF_ERROR(reduce_batch(p, LabelBatch(pieces, first), stream));
  }
  return ok_status();
}

}  // namespace spindlekv::cuda
