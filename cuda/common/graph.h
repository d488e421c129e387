// CUDA graphs of ops: capture of a stream by one thread, and the page-locked copies of the host
// tables that the graph uploads each time it is launched.
//
// The mode is relaxed: taking page-locked memory is allowed meanwhile, and other threads go on
// using the device (CUDA runtime API, cudaThreadExchangeStreamCaptureMode). The captured stream
// does not wait for the default stream.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "core/status.h"

namespace spindlekv::cuda {

Status begin_capture(cudaStream_t stream);
// Ends this thread's capture, also after a failure. graph = nullptr throws away what was captured.
Status end_capture(cudaStream_t stream, void** graph);
Status launch_graph(void* graph, cudaStream_t stream);
// The graph must have run.
void destroy_graph(void* graph);

// Whether this thread is capturing `stream`.
bool is_capturing(cudaStream_t stream);
// A copy to the device as part of the graph being captured; `source` may be reused at once.
Status capture_upload(const char* op, cudaStream_t stream, void* target, const void* source,
                      size_t bytes);

}  // namespace spindlekv::cuda
