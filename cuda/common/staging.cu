// Uploads through page-locked memory. See staging.h.
#include "cuda/common/staging.h"

#include <algorithm>
#include <cstring>

#include "cuda/common/graph.h"
#include "cuda/common/status.h"

namespace spindlekv::cuda {

// A lost device cannot be asked anything: what fails here went with its context.
Staging::~Staging() {
  for (const Area& area : areas_) {
    if (area.passed != nullptr) {
      cudaEventSynchronize(area.passed);
      cudaEventDestroy(area.passed);
    }
    if (area.memory != nullptr) cudaFreeHost(area.memory);
  }
  cudaGetLastError();
}

Status Staging::make_room(const char* op, Area& area, size_t bytes) {
  if (area.passed == nullptr) {
    SKV_RETURN_IF_ERROR(status_from_cuda(
        op, cudaEventCreateWithFlags(&area.passed, cudaEventDisableTiming), "making an event"));
  } else {
    SKV_RETURN_IF_ERROR(
        status_from_cuda(op, cudaEventSynchronize(area.passed), "waiting for an earlier copy"));
  }
  if (area.capacity >= bytes) return ok_status();
  if (area.memory != nullptr) cudaFreeHost(area.memory);
  area.memory = nullptr;
  area.capacity = 0;
  const size_t wanted = std::max(kLeastBytes, bytes + bytes / 2);
  SKV_RETURN_IF_ERROR(
      status_from_cuda(op, cudaMallocHost(&area.memory, wanted), "taking page-locked memory"));
  area.capacity = wanted;
  return ok_status();
}

Status Staging::upload(const char* op, cudaStream_t stream, void* target, const void* source,
                       size_t bytes) {
  if (bytes == 0) return ok_status();
  if (is_capturing(stream)) return capture_upload(op, stream, target, source, bytes);
  const std::lock_guard<std::mutex> lock(mutex_);
  Area& area = areas_[next_];
  next_ = (next_ + 1) % kAreas;
  SKV_RETURN_IF_ERROR(make_room(op, area, bytes));
  std::memcpy(area.memory, source, bytes);
  SKV_RETURN_IF_ERROR(status_from_cuda(
      op, cudaMemcpyAsync(target, area.memory, bytes, cudaMemcpyHostToDevice, stream),
      "copying to the device"));
  return status_from_cuda(op, cudaEventRecord(area.passed, stream), "marking a copy");
}

}  // namespace spindlekv::cuda
