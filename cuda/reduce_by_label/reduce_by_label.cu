// reduce_by_label on CUDA: the passes of the sort, then offsets and sums; sums by dtype.
#include "cuda/reduce_by_label/reduce_by_label.cuh"

#include "cuda/common/entries.h"
#include "cuda/common/workspace.h"

#include <utility>

namespace spindlekv::cuda {
namespace {

struct LabelSumEntry {
  int32_t dtype;
  Status (*launch)(const LabelSumArgs&, cudaStream_t);
};

constexpr LabelSumEntry kLabelSumTable[] = {{SKV_F32, launch_label_sums<float>},
                                            {SKV_F16, launch_label_sums<f16>},
                                            {SKV_BF16, launch_label_sums<bf16>}};

struct LabelPieces {
  LabelledRow* rows[2];  // each [n]; a pass reads one and writes the other
  int32_t* places;
  int32_t* offsets;
};

int64_t tiles_of(const SkvReduceByLabelParams& p) { return ceil_div(p.n, LabelSortTraits::kTile); }

LabelPieces lay_out(WorkspaceLayout& layout, const SkvReduceByLabelParams& p) {
  LabelPieces pieces{};
  for (LabelledRow*& rows : pieces.rows) rows = layout.take<LabelledRow>(p.n);
  pieces.places = layout.take<int32_t>(LabelSortTraits::kDigits * tiles_of(p));
  pieces.offsets =
      p.offsets != nullptr ? p.offsets : layout.take<int32_t>(static_cast<int64_t>(p.n_labels) + 1);
  return pieces;
}

// Sorts the rows by label; *sorted is where they end up.
Status sort_rows(const SkvReduceByLabelParams& p, LabelPieces pieces, cudaStream_t stream,
                 const LabelledRow** sorted) {
  LabelSortArgs args{};
  args.labels = p.labels;
  args.places = pieces.places;
  args.n = p.n;
  args.n_labels = p.n_labels;
  args.tiles = static_cast<int32_t>(tiles_of(p));
  bool is_last = false;
  for (int shift = 0; !is_last; shift += LabelSortTraits::kDigitBits) {
    // The largest key is n_labels.
    is_last = (static_cast<int64_t>(p.n_labels) >> (shift + LabelSortTraits::kDigitBits)) == 0;
    args.shift = shift;
    args.out = pieces.rows[0];
    args.order = is_last ? p.order : nullptr;
    SKV_RETURN_IF_ERROR(launch_label_pass(args, stream));
    args.labels = nullptr;
    args.in = args.out;
    std::swap(pieces.rows[0], pieces.rows[1]);
  }
  *sorted = args.in;
  return ok_status();
}

}  // namespace

size_t reduce_by_label_workspace(SkvDevice&, const SkvReduceByLabelParams& p) {
  WorkspaceLayout layout;
  lay_out(layout, p);
  return layout.bytes();
}

Status reduce_by_label(SkvDevice&, const SkvExec& exec, const SkvReduceByLabelParams& p) {
  WorkspaceLayout layout(exec.workspace);
  const LabelPieces pieces = lay_out(layout, p);
  const cudaStream_t stream = stream_of(exec);
  LabelSumArgs args{p, nullptr, pieces.offsets};
  if (p.n > 0) SKV_RETURN_IF_ERROR(sort_rows(p, pieces, stream, &args.sorted));
  SKV_RETURN_IF_ERROR(launch_label_offsets(args, stream));
  if (p.sums == nullptr) return ok_status();
  for (const LabelSumEntry& entry : kLabelSumTable) {
    if (entry.dtype == p.dtype) return entry.launch(args, stream);
  }
  return error_status(SKV_UNSUPPORTED, "reduce_by_label",
                      "expected f32, f16 or bf16 for dtype, got %d", p.dtype);
}

}  // namespace spindlekv::cuda
