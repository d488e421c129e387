// build_codebook on CUDA: kernels by dtype, the memory of a problem, and the order of the stages.
//
// Problems go in waves that share one piece of workspace, so that it grows with the largest
// problem and not with their number. Whether a round of the refinement still does something is
// decided on the device: the host enqueues all rounds and waits for none.
#include "cuda/build_codebook/build_codebook.cuh"

#include "cuda/common/entries.h"
#include "cuda/common/workspace.h"

#include <algorithm>
#include <vector>

namespace spindlekv::cuda {
namespace {

constexpr size_t kWaveBytes = size_t{512} << 20;  // a wave of more than one problem stays below

using CodebookLaunch = Status (*)(const CodebookArgs&, int64_t, cudaStream_t);

struct CodebookEntry {
  int32_t dtype;
  CodebookLaunch rows, graph, leaders, bounds, step, store, refer;
};

template <typename Elem>
constexpr CodebookEntry entry() {
  return {kDTypeOf<Elem>,
          launch_codebook_rows<Elem>,
          launch_codebook_graph<Elem>,
          launch_codebook_leaders<Elem>,
          launch_codebook_bounds<Elem>,
          launch_codebook_step<Elem>,
          launch_codebook_store<Elem>,
          launch_codebook_refer<Elem>};
}

constexpr CodebookEntry kCodebookTable[] = {entry<float>(), entry<f16>(), entry<bf16>()};

const CodebookEntry* find_entry(int32_t dtype) {
  for (const CodebookEntry& candidate : kCodebookTable) {
    if (candidate.dtype == dtype) return &candidate;
  }
  return nullptr;
}

bool runs(const SkvBuildCodebookParams& p, SkvCodebookStage stage) {
  return (p.stages & stage) != 0;
}

// Decides what a problem needs and takes it from the layout.
CodebookWork lay_out(WorkspaceLayout& layout, const SkvBuildCodebookParams& p,
                     const SkvCodebookProblem& problem) {
  const bool is_graph = runs(p, SKV_STAGE_GRAPH);
  const bool is_cover = runs(p, SKV_STAGE_COVER) && problem.n_rows > 0;
  const bool is_emit = runs(p, SKV_STAGE_EMIT) && problem.n_rows > 0;
  const int64_t head_dim = p.head_dim;
  const int64_t n_rows = problem.n_rows;
  CodebookWork work{};
  work.problem = problem;
  work.loads_all = is_graph || problem.rows == nullptr ? 1 : 0;
  work.builds_graph = is_graph || (is_cover && problem.graph == nullptr) ? 1 : 0;
  work.graph_is_full = problem.graph != nullptr || work.loads_all != 0 ? 1 : 0;
  work.graph_rows = work.graph_is_full != 0 ? problem.n : problem.n_rows;
  work.most = std::min(problem.capacity, problem.n_rows);
  work.state = layout.take<CodebookState>(1);
  if (work.builds_graph != 0 || is_emit || (is_cover && p.max_codewords > 0)) {
    work.loaded = work.loads_all != 0 ? problem.n : problem.n_rows;
    work.units = layout.take<float>(work.loaded * head_dim);
    work.norms = layout.take<float>(work.loaded);
  }
  const int64_t words = codebook_words(work.graph_rows);
  work.graph = problem.graph;
  if (work.builds_graph != 0) {
    work.hashes = layout.take<uint64_t>(work.loaded);
    if (work.graph == nullptr) work.graph = layout.take<uint64_t>(work.graph_rows * words);
  }
  if (is_cover) {
    work.degree = layout.take<int32_t>(work.graph_rows);
    work.active = layout.take<uint64_t>(words);
    work.label_of = layout.take<int32_t>(work.graph_rows);
    work.removed = layout.take<int32_t>(work.graph_rows);
  }
  if (is_emit) {
    work.codewords = layout.take<float>(work.most * head_dim);
    work.square = layout.take<float>(work.most);
    work.bounds = layout.take<float>(n_rows);
    work.offsets = layout.take<int32_t>(static_cast<int64_t>(work.most) + 1);
    work.next = layout.take<int32_t>(work.most);
    work.members = layout.take<int32_t>(n_rows);
    work.final_label = layout.take<int32_t>(work.most);
  }
  return work;
}

size_t bytes_of(const SkvBuildCodebookParams& p, int64_t problem) {
  WorkspaceLayout layout;
  lay_out(layout, p, p.problems[problem]);
  return layout.bytes();
}

size_t table_bytes(int64_t problems) {
  WorkspaceLayout layout;
  layout.take<CodebookWork>(problems);
  return layout.bytes();
}

// Problems [first, end) of the wave that begins at `first`: one at least.
int64_t wave_end(const SkvBuildCodebookParams& p, int64_t first, size_t* bytes) {
  size_t taken = bytes_of(p, first);
  int64_t end = first + 1;
  for (; end < p.n_problems && end - first < kMaxGridYz; ++end) {
    const size_t more = bytes_of(p, end);
    if (taken + more > kWaveBytes) break;
    taken += more;
  }
  *bytes = taken + table_bytes(end - first);
  return end;
}

// The largest sizes of a wave's problems.
struct WaveSizes {
  int64_t loaded = 0;
  int64_t graphed = 0;  // rows of a graph to build
  int64_t positions = 0;
  int64_t codewords = 0;

  explicit WaveSizes(const std::vector<CodebookWork>& works) {
    for (const CodebookWork& work : works) {
      loaded = std::max<int64_t>(loaded, work.loaded);
      if (work.builds_graph != 0) graphed = std::max<int64_t>(graphed, work.loaded);
      positions = std::max<int64_t>(positions, work.problem.n_rows);
      codewords = std::max<int64_t>(codewords, work.most);
    }
  }
};

struct CodebookCall {
  const SkvBuildCodebookParams& p;
  const SkvExec& exec;
  const CodebookEntry& entry;
  cudaStream_t stream;

  // Between launches: the caller may want the rest left undone.
  Status proceed() const {
    return is_cancelled(exec) ? aborted_status("build_codebook") : ok_status();
  }
};

Status run_emit(const CodebookCall& call, const CodebookArgs& args, const WaveSizes& sizes) {
  const cudaStream_t stream = call.stream;
  SKV_RETURN_IF_ERROR(call.entry.leaders(args, sizes.codewords, stream));
  if (sizes.positions == 0) return ok_status();
  if (call.p.refine > 0) SKV_RETURN_IF_ERROR(call.entry.bounds(args, sizes.positions, stream));
  for (int32_t round = 0; round < call.p.refine; ++round) {
    SKV_RETURN_IF_ERROR(call.proceed());
    SKV_RETURN_IF_ERROR(launch_codebook_members(args, stream));
    SKV_RETURN_IF_ERROR(call.entry.step(args, sizes.codewords, stream));
    SKV_RETURN_IF_ERROR(call.proceed());
    SKV_RETURN_IF_ERROR(launch_codebook_reassign(args, sizes.positions, stream));
  }
  SKV_RETURN_IF_ERROR(launch_codebook_labels(args, stream));
  SKV_RETURN_IF_ERROR(call.entry.store(args, sizes.codewords, stream));
  return call.entry.refer(args, sizes.positions, stream);
}

Status run_wave(const CodebookCall& call, const CodebookArgs& args, const WaveSizes& sizes) {
  const cudaStream_t stream = call.stream;
  SKV_RETURN_IF_ERROR(call.entry.rows(args, sizes.loaded, stream));
  if (args.nonfinite != nullptr) {
    SKV_RETURN_IF_ERROR(launch_codebook_nonfinite(args, sizes.loaded, stream));
  }
  SKV_RETURN_IF_ERROR(call.proceed());
  SKV_RETURN_IF_ERROR(call.entry.graph(args, sizes.graphed, stream));
  SKV_RETURN_IF_ERROR(call.proceed());
  if (runs(call.p, SKV_STAGE_COVER)) {
    SKV_RETURN_IF_ERROR(launch_codebook_cover(args, stream));
    if (args.max_codewords > 0) {
      SKV_RETURN_IF_ERROR(launch_codebook_leftover(args, sizes.positions, stream));
    }
  }
  SKV_RETURN_IF_ERROR(call.proceed());
  return runs(call.p, SKV_STAGE_EMIT) ? run_emit(call, args, sizes) : ok_status();
}

}  // namespace

size_t build_codebook_workspace(SkvDevice&, const SkvBuildCodebookParams& p) {
  size_t most = 0;
  for (int64_t first = 0; first < p.n_problems;) {
    size_t bytes = 0;
    first = wave_end(p, first, &bytes);
    most = std::max(most, bytes);
  }
  return most;
}

Status build_codebook(SkvDevice&, const SkvExec& exec, const SkvBuildCodebookParams& p) {
  const CodebookEntry* entry = find_entry(p.dtype);
  if (entry == nullptr) {
    return error_status(SKV_UNSUPPORTED, "build_codebook",
                        "expected f32, f16 or bf16 for dtype, got %d", p.dtype);
  }
  const CodebookCall call{p, exec, *entry, stream_of(exec)};
  for (int64_t first = 0; first < p.n_problems;) {
    size_t bytes = 0;
    const int64_t end = wave_end(p, first, &bytes);
    WorkspaceLayout layout(exec.workspace);
    CodebookWork* const table = layout.take<CodebookWork>(end - first);
    std::vector<CodebookWork> works;
    works.reserve(static_cast<size_t>(end - first));
    for (int64_t i = first; i < end; ++i) works.push_back(lay_out(layout, p, p.problems[i]));
    SKV_RETURN_IF_ERROR(copy_to_device("build_codebook", call.stream, table, works.data(),
                                       sizeof(CodebookWork) * works.size()));
    const CodebookArgs args{table,       static_cast<int32_t>(works.size()),
                            p.head_dim,  p.max_codewords,
                            p.ref_bytes, p.nonfinite};
    SKV_RETURN_IF_ERROR(run_wave(call, args, WaveSizes(works)));
    first = end;
  }
  return ok_status();
}

}  // namespace spindlekv::cuda
