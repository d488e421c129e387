// Codebooks of keys or values under a similarity bound: the order of the stages and their memory.
//
// A problem is one KV head's keys or values; see core/ops.h for the definition, which is bit for
// bit. Problems go in waves, so that the workspace grows with the threads, up to a bound, and not
// with the problems; inside a wave each stage runs over blocks of all its problems, and nothing
// depends on the number of threads.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/build_codebook.h"
#include "cpu/entries.h"

namespace spindlekv::cpu {
namespace {

constexpr size_t kWaveBytes = size_t{64} << 20;  // a wave takes this much even with few threads
// More than one problem never takes this much: graphs of long contexts times many threads would
// not fit the memory, and threads share the work on one graph too.
constexpr size_t kMostWaveBytes = size_t{1} << 30;

// Decides what a problem needs and lays it out. filters: the integer filter pays.
void lay_out(const SkvBuildCodebookParams& params, const SkvCodebookProblem& problem, bool filters,
             Carver& carver, CodebookWork* work) {
  const bool is_graph = (params.stages & SKV_STAGE_GRAPH) != 0;
  const bool is_cover = (params.stages & SKV_STAGE_COVER) != 0 && problem.n_rows > 0;
  const bool is_emit = (params.stages & SKV_STAGE_EMIT) != 0 && problem.n_rows > 0;
  const int64_t head_dim = params.head_dim;
  const int64_t n_rows = problem.n_rows;
  work->problem = &problem;
  work->loads_all = is_graph || problem.rows == nullptr;
  work->builds_graph = is_graph || (is_cover && problem.graph == nullptr);
  work->needs_units = work->builds_graph || is_emit || (is_cover && params.max_codewords > 0);
  if (work->needs_units) {
    work->loaded = work->loads_all ? problem.n : n_rows;
    work->units = carver.take<float>(work->loaded * head_dim);
    work->norms = carver.take<float>(work->loaded);
  }
  work->graph = problem.graph;
  work->graph_is_full = problem.graph != nullptr || work->loads_all;
  work->graph_rows = work->graph_is_full ? problem.n : n_rows;
  const int64_t words = words_of(work->graph_rows);
  if (work->builds_graph) {
    work->table_size = 1;
    while (work->table_size < 2 * work->loaded) work->table_size *= 2;
    work->hashes = carver.take<uint64_t>(work->loaded);
    work->table = carver.take<int32_t>(work->table_size);
    work->classes = carver.take<int32_t>(work->loaded);
    work->distinct = carver.take<int32_t>(work->loaded);
    work->folded = carver.take<uint64_t>(work->loaded * words);
    if (filters) {
      work->quantised = carver.take<int16_t>(words_of(work->loaded) * kPanelRows * head_dim);
      work->slacks = carver.take<int32_t>(work->loaded);
      work->pairs = carver.take<int32_t>(words_of(work->loaded) * kPanelRows * head_dim / 2);
    }
    if (work->graph == nullptr) work->graph = carver.take<uint64_t>(work->loaded * words);
  }
  if (is_cover) {
    work->degree = carver.take<int32_t>(words * 64);
    work->active = carver.take<uint64_t>(words);
    work->removed = carver.take<uint64_t>(words);
    work->label_of = carver.take<int32_t>(work->graph_rows);
  }
  const int64_t most = std::min<int64_t>(problem.capacity, n_rows);
  if (is_emit || (is_cover && params.max_codewords > 0)) {
    work->codewords = carver.take<float>(most * head_dim);
    if (filters) {
      work->codewords_quantised = carver.take<int16_t>(most * head_dim);
      work->codeword_slacks = carver.take<int32_t>(most);
    }
  }
  if (is_emit) {
    work->square = carver.take<float>(most);
    work->bounds = carver.take<float>(n_rows);
    work->offsets = carver.take<int32_t>(most + 1);
    work->members = carver.take<int32_t>(n_rows);
    work->cursor = carver.take<int32_t>(most);
  }
}

size_t bytes_of(const SkvBuildCodebookParams& params, int64_t problem, bool filters) {
  Carver carver(nullptr);
  CodebookWork work;
  lay_out(params, params.problems[problem], filters, carver, &work);
  return carver.used();
}

// Problems [first, last) of the wave that begins at `first`: at least one, at most `limit` bytes.
int64_t wave_end(const SkvBuildCodebookParams& params, bool filters, int64_t first, size_t limit,
                 size_t* bytes) {
  *bytes = bytes_of(params, first, filters);
  int64_t last = first + 1;
  for (; last < params.n_problems; ++last) {
    const size_t more = bytes_of(params, last, filters);
    if (*bytes + more > limit) break;
    *bytes += more;
  }
  return last;
}

// Every thread has a problem to itself in the stages that go problem by problem, where they fit.
size_t wave_limit(const SkvDevice& device, const SkvBuildCodebookParams& params) {
  const bool filters = filter_for(device.isa).pays;
  size_t largest = 0;
  for (int32_t i = 0; i < params.n_problems; ++i) {
    largest = std::max(largest, bytes_of(params, i, filters));
  }
  return std::clamp(largest * static_cast<size_t>(device.pool.lanes()), kWaveBytes, kMostWaveBytes);
}

void* lay_out_lanes(const SkvDevice& device, const SkvBuildCodebookParams& params, Carver& carver) {
  return carver.take<char>(static_cast<int64_t>(device.pool.lanes()) *
                           static_cast<int64_t>(CodebookCall::scratch_bytes(params)));
}

Status run_wave(const CodebookCall& call, const CodebookWave& wave) {
  load_codebook_rows(call, wave);
  build_similarity_graphs(call, wave);
  if (call.runs(SKV_STAGE_COVER) && !call.is_stopped()) cover_graphs(call, wave);
  if (call.runs(SKV_STAGE_EMIT) && !call.is_stopped()) {
    SKV_RETURN_IF_ERROR(emit_codebooks(call, wave));
  }
  return call.is_stopped() ? aborted_status("build_codebook") : ok_status();
}

}  // namespace

Status build_codebook(SkvDevice& device, const SkvExec& exec,
                      const SkvBuildCodebookParams& params) {
  Carver shared(exec.workspace);
  void* const lane_scratch = lay_out_lanes(device, params, shared);
  char* const wave_memory = static_cast<char*>(exec.workspace) + shared.used();
  const FilterKernels& filter = filter_for(device.isa);
  const CodebookCall call{device, exec,        params, similarity_kernels_for(device.isa),
                          filter, lane_scratch};
  const size_t limit = wave_limit(device, params);
  for (int64_t first = 0; first < params.n_problems;) {
    size_t bytes = 0;
    const int64_t last = wave_end(params, filter.pays, first, limit, &bytes);
    std::vector<CodebookWork> works(static_cast<size_t>(last - first));
    Carver carver(wave_memory);
    for (int64_t i = first; i < last; ++i) {
      lay_out(params, params.problems[i], filter.pays, carver,
              &works[static_cast<size_t>(i - first)]);
    }
    SKV_RETURN_IF_ERROR(run_wave(call, {works.data(), last - first}));
    first = last;
  }
  return ok_status();
}

size_t build_codebook_workspace(SkvDevice& device, const SkvBuildCodebookParams& params) {
  Carver carver(nullptr);
  lay_out_lanes(device, params, carver);
  const size_t limit = wave_limit(device, params);
  size_t most = 0;
  for (int64_t first = 0; first < params.n_problems;) {
    size_t bytes = 0;
    first = wave_end(params, filter_for(device.isa).pays, first, limit, &bytes);
    most = std::max(most, bytes);
  }
  return params.n_problems == 0 ? 0 : carver.used() + most;
}

}  // namespace spindlekv::cpu
