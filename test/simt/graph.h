// Streams and captured graphs of the SIMT test backend: a graph is a list of closures, run in
// order.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>

namespace spindlekv::simt {

using GraphNode = std::function<cudaError_t()>;

cudaStream_t make_stream();
void delete_stream(cudaStream_t stream);

// Whether `stream` is being captured: then its work goes to record() and does not run.
bool is_captured(cudaStream_t stream);
cudaError_t record(cudaStream_t stream, GraphNode node);
// What a capture does not allow was asked for: it is broken, and its end fails.
cudaError_t refuse_in_capture(cudaStream_t stream);

}  // namespace spindlekv::simt
