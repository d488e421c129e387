// Copies between host and device. See device.h.
#include "cuda/common/device.h"

#include "cuda/common/graph.h"
#include "cuda/common/status.h"

namespace spindlekv::cuda {
namespace {

// Page-locked memory is read by the device after the call has returned; pageable memory is staged
// before (CUDA runtime API, "API synchronization behavior").
bool is_page_locked(const void* memory) {
  cudaPointerAttributes attributes;
  if (cudaPointerGetAttributes(&attributes, memory) != cudaSuccess) {
    cudaGetLastError();
    return false;
  }
  return attributes.type == cudaMemoryTypeHost || attributes.type == cudaMemoryTypeManaged;
}

}  // namespace

Status copy_to_device(const char* op, cudaStream_t stream, void* target, const void* source,
                      size_t bytes) {
  if (bytes == 0) return ok_status();
  if (is_capturing(stream)) return capture_upload(op, stream, target, source, bytes);
  const cudaError_t copied = cudaMemcpyAsync(target, source, bytes, cudaMemcpyHostToDevice, stream);
  if (copied != cudaSuccess) return status_from_cuda(op, copied, "copying to the device");
  if (!is_page_locked(source)) return ok_status();
  return status_from_cuda(op, cudaStreamSynchronize(stream), "copying to the device");
}

Status copy_to_host(const char* op, cudaStream_t stream, void* target, const void* source,
                    size_t bytes) {
  if (bytes == 0) return ok_status();
  if (is_capturing(stream)) {
    return error_status(SKV_UNSUPPORTED, op,
                        "expected work without a copy to the host in a capture, got one");
  }
  return status_from_cuda(op,
                          cudaMemcpyAsync(target, source, bytes, cudaMemcpyDeviceToHost, stream),
                          "copying to the host");
}

Status fill_device(const char* op, cudaStream_t stream, void* target, int byte_value,
                   size_t bytes) {
  if (bytes == 0) return ok_status();
  return status_from_cuda(op, cudaMemsetAsync(target, byte_value, bytes, stream),
                          "filling device memory");
}

}  // namespace spindlekv::cuda
