// Stream capture and graphs of the SIMT test backend. See graph.h. As on CUDA, the default stream
// cannot be captured, and a capture in which something failed has no graph.
#include "test/simt/graph.h"

#include <memory>
#include <utility>
#include <vector>

namespace spindlekv::simt {
namespace {

using Nodes = std::vector<GraphNode>;

struct Stream {
  std::unique_ptr<Nodes> captured;  // set while it is captured
  bool is_broken = false;
};

Stream* stream_of(cudaStream_t stream) { return reinterpret_cast<Stream*>(stream); }
Nodes* nodes_of(void* graph) { return static_cast<Nodes*>(graph); }

}  // namespace

cudaStream_t make_stream() { return reinterpret_cast<cudaStream_t>(new Stream); }

void delete_stream(cudaStream_t stream) { delete stream_of(stream); }

bool is_captured(cudaStream_t stream) {
  return stream != nullptr && stream_of(stream)->captured != nullptr;
}

cudaError_t record(cudaStream_t stream, GraphNode node) {
  stream_of(stream)->captured->push_back(std::move(node));
  return cudaSuccess;
}

cudaError_t refuse_in_capture(cudaStream_t stream) {
  stream_of(stream)->is_broken = true;
  return cudaErrorStreamCaptureUnsupported;
}

}  // namespace spindlekv::simt

using namespace spindlekv::simt;

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream == nullptr) return cudaErrorStreamCaptureUnsupported;
  if (is_captured(stream)) return cudaErrorIllegalState;
  stream_of(stream)->captured = std::make_unique<Nodes>();
  stream_of(stream)->is_broken = false;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (!is_captured(stream)) return cudaErrorIllegalState;
  const std::unique_ptr<Nodes> nodes = std::move(stream_of(stream)->captured);
  if (stream_of(stream)->is_broken) return cudaErrorStreamCaptureInvalidated;
  *graph = reinterpret_cast<cudaGraph_t>(new Nodes(*nodes));
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  *executable = reinterpret_cast<cudaGraphExec_t>(new Nodes(*nodes_of(graph)));
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  for (const GraphNode& node : *nodes_of(executable)) {
    const cudaError_t error = node();
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete nodes_of(graph);
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete nodes_of(executable);
  return cudaSuccess;
}

}  // extern "C"
