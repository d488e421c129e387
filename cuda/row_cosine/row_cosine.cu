// row_cosine on CUDA: kernels by dtype; the sum needs the cosines, which the workspace holds where
// nobody asked for them.
#include "cuda/row_cosine/row_cosine.cuh"

#include "cuda/common/entries.h"
#include "cuda/common/workspace.h"

#include <algorithm>

namespace spindlekv::cuda {
namespace {

struct RowCosineEntry {
  int32_t dtype;
  Status (*launch)(const RowCosineArgs&, cudaStream_t);
};

constexpr RowCosineEntry kRowCosineTable[] = {
    {SKV_F32, launch_row_cosine<float>},
    {SKV_F16, launch_row_cosine<f16>},
    {SKV_BF16, launch_row_cosine<bf16>},
};

float* lay_out(WorkspaceLayout& layout, const SkvRowCosineParams& p) {
  const bool is_needed = p.sum != nullptr && p.cosines == nullptr;
  return is_needed ? layout.take<float>(p.rows) : p.cosines;
}

}  // namespace

size_t row_cosine_workspace(SkvDevice&, const SkvRowCosineParams& p) {
  WorkspaceLayout layout;
  lay_out(layout, p);
  return layout.bytes();
}

Status row_cosine(SkvDevice&, const SkvExec& exec, const SkvRowCosineParams& p) {
  const auto* entry = std::find_if(std::begin(kRowCosineTable), std::end(kRowCosineTable),
                                   [&](const RowCosineEntry& e) { return e.dtype == p.dtype; });
  if (entry == std::end(kRowCosineTable)) {
    return error_status(SKV_UNSUPPORTED, "row_cosine",
                        "expected f32, f16 or bf16 for dtype, got %d", p.dtype);
  }
  WorkspaceLayout layout(exec.workspace);
  const RowCosineArgs args{p, lay_out(layout, p)};
  return entry->launch(args, stream_of(exec));
}

}  // namespace spindlekv::cuda
