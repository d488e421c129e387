// select_topk on CUDA: lengths and k go to the workspace; cuts, then the selected slots.
#include "cuda/select_topk/select_topk.cuh"

#include "cuda/common/entries.h"
#include "cuda/common/workspace.h"

#include <vector>

namespace spindlekv::cuda {
namespace {

struct SelectPieces {
  int32_t* lengths;  // and k behind them
  SelectCut* cuts;
};

SelectPieces lay_out(WorkspaceLayout& layout, const SkvSelectTopkParams& p) {
  SelectPieces pieces;
  pieces.lengths = layout.take<int32_t>(static_cast<int64_t>(p.rows) + p.rows / p.pool_rows);
  pieces.cuts = layout.take<SelectCut>(p.rows);
  return pieces;
}

}  // namespace

size_t select_topk_workspace(SkvDevice&, const SkvSelectTopkParams& p) {
  WorkspaceLayout layout;
  lay_out(layout, p);
  return layout.bytes();
}

Status select_topk(SkvDevice&, const SkvExec& exec, const SkvSelectTopkParams& p) {
  WorkspaceLayout layout(exec.workspace);
  const SelectPieces pieces = lay_out(layout, p);
  const cudaStream_t stream = stream_of(exec);
  // k lies behind the lengths: one copy.
  std::vector<int32_t> table(p.lengths, p.lengths + p.rows);
  table.insert(table.end(), p.k, p.k + p.rows / p.pool_rows);
  SKV_RETURN_IF_ERROR(copy_to_device("select_topk", stream, pieces.lengths, table.data(),
                                     sizeof(int32_t) * table.size()));
  SelectArgs args{p, pieces.cuts};
  args.op.lengths = pieces.lengths;
  args.op.k = pieces.lengths + p.rows;
  SKV_RETURN_IF_ERROR(launch_select_cut(args, stream));
  if (p.pool_rows > 1) SKV_RETURN_IF_ERROR(launch_select_share(args, stream));
  return launch_select_write(args, stream);
}

}  // namespace spindlekv::cuda
