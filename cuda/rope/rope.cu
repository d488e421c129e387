// rope on CUDA: the kernel by dtype.
#include "cuda/rope/rope.cuh"

#include "cuda/common/entries.h"

namespace spindlekv::cuda {
namespace {

struct RopeEntry {
  int32_t dtype;
  Status (*launch)(const SkvRopeParams&, cudaStream_t);
};

constexpr RopeEntry kRopeTable[] = {
    {SKV_F32, launch_rope<float>}, {SKV_F16, launch_rope<f16>}, {SKV_BF16, launch_rope<bf16>}};

}  // namespace

size_t rope_workspace(SkvDevice&, const SkvRopeParams&) { return 0; }

Status rope(SkvDevice&, const SkvExec& exec, const SkvRopeParams& p) {
  for (const RopeEntry& entry : kRopeTable) {
    if (entry.dtype == p.dtype) return entry.launch(p, stream_of(exec));
  }
  return error_status(SKV_UNSUPPORTED, "rope", "expected f32, f16 or bf16 for dtype, got %d",
                      p.dtype);
}

}  // namespace spindlekv::cuda
