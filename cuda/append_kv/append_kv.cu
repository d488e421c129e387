// append_kv on CUDA: kernels by dtype of the runs, the table of items, and the launches.
#include "cuda/append_kv/append_kv.cuh"

#include "cuda/common/entries.h"
#include "cuda/common/workspace.h"

#include <algorithm>

namespace spindlekv::cuda {
namespace {

struct AppendEntry {
  int32_t dtype;
  Status (*store)(const AppendArgs&, int64_t items, int64_t most_tokens, cudaStream_t);
  Status (*norms)(const AppendArgs&, int64_t items, int64_t most_tokens, cudaStream_t);
};

template <typename Elem>
constexpr AppendEntry entry() {
  return {kDTypeOf<Elem>, launch_append_kv<Elem>, launch_append_norms<Elem>};
}

constexpr AppendEntry kAppendTable[] = {entry<float>(), entry<f16>(), entry<bf16>()};

const AppendEntry* find_entry(int32_t dtype) {
  for (const AppendEntry& candidate : kAppendTable) {
    if (candidate.dtype == dtype) return &candidate;
  }
  return nullptr;
}

SkvAppendItem* lay_out(WorkspaceLayout& layout, const SkvAppendKvParams& p) {
  return layout.take<SkvAppendItem>(p.n_items);
}

}  // namespace

size_t append_kv_workspace(SkvDevice&, const SkvAppendKvParams& p) {
  WorkspaceLayout layout;
  lay_out(layout, p);
  return layout.bytes();
}

Status append_kv(SkvDevice&, const SkvExec& exec, const SkvAppendKvParams& p) {
  const AppendEntry* entry = find_entry(p.dtype);
  if (entry == nullptr) {
    return error_status(SKV_UNSUPPORTED, "append_kv", "expected f32, f16 or bf16 for dtype, got %d",
                        p.dtype);
  }
  WorkspaceLayout layout(exec.workspace);
  SkvAppendItem* items = lay_out(layout, p);
  const cudaStream_t stream = stream_of(exec);
  SKV_RETURN_IF_ERROR(copy_to_device("append_kv", stream, items, p.items,
                                     sizeof(SkvAppendItem) * static_cast<size_t>(p.n_items)));

  AppendArgs args{p.rotate != 0 ? p.rope : SkvRope{}, nullptr, p.src_dtype, p.head_dim};
  for (int64_t first = 0; first < p.n_items; first += kMaxGridYz) {
    const int64_t count = std::min<int64_t>(kMaxGridYz, p.n_items - first);
    int64_t most_tokens = 0;
    bool wants_norms = false;
    for (int64_t i = first; i < first + count; ++i) {
      most_tokens = std::max<int64_t>(most_tokens, p.items[i].tokens);
      wants_norms = wants_norms || p.items[i].key_norms != nullptr;
    }
    args.items = items + first;
    SKV_RETURN_IF_ERROR(entry->store(args, count, most_tokens, stream));
    if (wants_norms) SKV_RETURN_IF_ERROR(entry->norms(args, count, most_tokens, stream));
  }
  return ok_status();
}

}  // namespace spindlekv::cuda
