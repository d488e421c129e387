// Capture of CUDA graphs. See graph.h.
#include "cuda/common/graph.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "cuda/common/status.h"

namespace spindlekv::cuda {
namespace {

constexpr size_t kTableAlignment = 256;
constexpr size_t kLeastAreaBytes = size_t{64} << 10;

// Host tables of a graph, one after the other in page-locked areas.
class GraphTables {
 public:
  GraphTables() = default;
  GraphTables(const GraphTables&) = delete;
  GraphTables& operator=(const GraphTables&) = delete;
  ~GraphTables() {
    for (const Area& area : areas_) cudaFreeHost(area.memory);
    cudaGetLastError();
  }

  Status keep(const char* op, const void* source, size_t bytes, const void** kept) {
    const size_t room = (bytes + kTableAlignment - 1) / kTableAlignment * kTableAlignment;
    if (areas_.empty() || areas_.back().capacity - areas_.back().used < room) {
      areas_.reserve(areas_.size() + 1);
      Area area;
      area.capacity = std::max(kLeastAreaBytes, room);
      SKV_RETURN_IF_ERROR(status_from_cuda(op, cudaMallocHost(&area.memory, area.capacity),
                                           "taking page-locked memory"));
      areas_.push_back(area);
    }
    Area& area = areas_.back();
    std::byte* const place = static_cast<std::byte*>(area.memory) + area.used;
    std::memcpy(place, source, bytes);
    area.used += room;
    *kept = place;
    return ok_status();
  }

 private:
  struct Area {
    void* memory = nullptr;
    size_t capacity = 0;
    size_t used = 0;
  };
  std::vector<Area> areas_;
};

struct Graph {
  GraphTables tables;
  cudaGraphExec_t executable = nullptr;

  ~Graph() {
    if (executable != nullptr) cudaGraphExecDestroy(executable);
    cudaGetLastError();
  }
};

struct Capture {
  cudaStream_t stream = nullptr;
  std::unique_ptr<Graph> graph;
};

thread_local Capture active;

}  // namespace

Status begin_capture(cudaStream_t stream) {
  if (active.graph != nullptr) {
    return error_status(SKV_UNSUPPORTED, "capture_begin",
                        "expected one capture a thread at a time, got a second");
  }
  auto graph = std::make_unique<Graph>();
  SKV_RETURN_IF_ERROR(status_from_cuda(
      "capture_begin", cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed)));
  active.stream = stream;
  active.graph = std::move(graph);
  return ok_status();
}

Status end_capture(cudaStream_t stream, void** graph) {
  if (graph != nullptr) *graph = nullptr;
  if (!is_capturing(stream)) {
    return error_status(SKV_ARGUMENT, "capture_end",
                        "expected the captured stream for stream, got another");
  }
  std::unique_ptr<Graph> ended = std::exchange(active, Capture{}).graph;
  cudaGraph_t captured = nullptr;
  const cudaError_t error = cudaStreamEndCapture(stream, &captured);
  if (graph == nullptr) {
    // Why it is thrown away was said before; a capture that a failure broke says so here again.
    if (captured != nullptr) cudaGraphDestroy(captured);
    cudaGetLastError();
    return ok_status();
  }
  SKV_RETURN_IF_ERROR(status_from_cuda("capture_end", error, "ending the capture"));
  const cudaError_t instantiated = cudaGraphInstantiate(&ended->executable, captured, 0);
  cudaGraphDestroy(captured);
  SKV_RETURN_IF_ERROR(status_from_cuda("capture_end", instantiated, "instantiating the graph"));
  *graph = ended.release();
  return ok_status();
}

Status launch_graph(void* graph, cudaStream_t stream) {
  return status_from_cuda("graph_launch",
                          cudaGraphLaunch(static_cast<Graph*>(graph)->executable, stream),
                          "launching the graph");
}

void destroy_graph(void* graph) { delete static_cast<Graph*>(graph); }

bool is_capturing(cudaStream_t stream) {
  return active.graph != nullptr && active.stream == stream;
}

Status capture_upload(const char* op, cudaStream_t stream, void* target, const void* source,
                      size_t bytes) {
  const void* kept = nullptr;
  SKV_RETURN_IF_ERROR(active.graph->tables.keep(op, source, bytes, &kept));
  return status_from_cuda(op, cudaMemcpyAsync(target, kept, bytes, cudaMemcpyHostToDevice, stream),
                          "capturing a copy to the device");
}

}  // namespace spindlekv::cuda
