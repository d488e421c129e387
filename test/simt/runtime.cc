// The CUDA runtime API of the SIMT test backend: what cuda/ calls, on host memory.
//
// One device, "SIMT host". Streams are labels: everything has finished when a call returns, which
// is one of the orders that a real stream allows; what is enqueued on a captured stream goes to its
// graph (graph.h). Fault injection, read from the environment at
// each call so that a test can set it:
//   SPINDLEKV_SIMT_MEMORY=<bytes>    size of device memory (default 8 GiB)
//   SPINDLEKV_SIMT_FAIL_LAUNCH=<n>   the n-th launch from now meets an illegal address, and the
//                                    device stays lost, as a CUDA context does
#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "test/simt/graph.h"
#include "test/simt/launch_kernel.h"

namespace spindlekv::simt {
namespace {

constexpr size_t kDefaultMemory = size_t{8} << 30;
constexpr size_t kAllocationAlign = 256;

thread_local cudaError_t last_error = cudaSuccess;
std::atomic<cudaError_t> lost_with{cudaSuccess};

cudaError_t keep(cudaError_t error) {
  const cudaError_t lost = lost_with.load();
  if (lost != cudaSuccess) error = lost;
  if (error != cudaSuccess) last_error = error;
  return error;
}

struct Allocations {
  std::mutex mutex;
  std::map<void*, size_t> sizes;
  size_t used = 0;
};

Allocations& allocations() {
  static Allocations* all = new Allocations;  // outlives static destructors that still free
  return *all;
}

// Of host memory, by cudaMallocHost.
Allocations& page_locked() {
  static Allocations* all = new Allocations;
  return *all;
}

bool is_page_locked(const void* memory, size_t bytes) {
  Allocations& all = page_locked();
  const std::lock_guard<std::mutex> lock(all.mutex);
  const auto* const first = static_cast<const char*>(memory);
  for (const auto& [start, size] : all.sizes) {
    const auto* const area = static_cast<const char*>(start);
    if (first >= area && first + bytes <= area + size) return true;
  }
  return false;
}

size_t memory_size() {
  const char* text = std::getenv("SPINDLEKV_SIMT_MEMORY");
  return text == nullptr ? kDefaultMemory : std::strtoull(text, nullptr, 10);
}

// True for the launch that SPINDLEKV_SIMT_FAIL_LAUNCH names. Counting starts anew when the value
// changes.
bool launch_shall_fail() {
  static std::mutex mutex;
  static long long armed = 0;
  static long long left = 0;
  const char* text = std::getenv("SPINDLEKV_SIMT_FAIL_LAUNCH");
  const long long wanted = text == nullptr ? 0 : std::atoll(text);
  const std::lock_guard<std::mutex> lock(mutex);
  if (wanted != armed) {
    armed = wanted;
    left = wanted;
  }
  return left > 0 && --left == 0;
}

}  // namespace

LaunchFailure launch_checked(const LaunchShape& shape, cudaStream_t stream,
                             const std::function<void()>& kernel) {
  thread_local char message[320];
  const auto failed = [](cudaError_t code) { return LaunchFailure{code, message}; };
  message[0] = 0;
  if (!is_captured(stream) && launch_shall_fail()) lost_with = cudaErrorIllegalAddress;
  if (keep(cudaSuccess) != cudaSuccess) return failed(last_error);
  if (current_thread != nullptr) {
    std::snprintf(message, sizeof(message), "a kernel may not launch a kernel");
    return failed(keep(cudaErrorNotSupported));
  }
  if (shape.dynamic_shared_bytes > kSharedLimit) {
    std::snprintf(message, sizeof(message), "%zu bytes of dynamic shared memory, limit %zu",
                  shape.dynamic_shared_bytes, kSharedLimit);
    return failed(keep(cudaErrorInvalidValue));
  }
  if (is_captured(stream)) {
    return failed(
        record(stream, [shape, kernel] { return launch_checked(shape, nullptr, kernel).code; }));
  }
  const LaunchResult result = run_launch(shape, kernel);
  if (result.ok) return LaunchFailure{};
  std::snprintf(message, sizeof(message), "%s", result.message);
  return failed(keep(cudaErrorLaunchFailure));
}

}  // namespace spindlekv::simt

using namespace spindlekv::simt;

extern "C" {

// --- errors ------------------------------------------------------------------------------------

cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = lost_with.load();
  return error;
}

cudaError_t cudaPeekAtLastError() { return last_error; }

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorNotSupported:
      return "cudaErrorNotSupported";
    default:
      return "cudaErrorUnknown";
  }
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    case cudaErrorLaunchFailure:
      return "kernel fault";
    case cudaErrorNotSupported:
      return "operation not supported";
    default:
      return "unknown error";
  }
}

// --- device ------------------------------------------------------------------------------------

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  return device == 0 ? keep(cudaSuccess) : keep(cudaErrorInvalidDevice);
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device != 0) return keep(cudaErrorInvalidDevice);
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = 4;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 8;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = 6;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(kStaticSharedLimit);
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(kSharedLimit);
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = 100 << 10;
      break;
    case cudaDevAttrMaxThreadsPerBlock:
      *value = static_cast<int>(kMaxBlockThreads);
      break;
    case cudaDevAttrWarpSize:
      *value = kWarpLanes;
      break;
    default:
      return keep(cudaErrorNotSupported);
  }
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return keep(cudaErrorInvalidDevice);
  std::memset(properties, 0, sizeof(*properties));
  std::snprintf(properties->name, sizeof(properties->name), "SIMT host");
  properties->totalGlobalMem = memory_size();
  properties->sharedMemPerBlock = kStaticSharedLimit;
  properties->sharedMemPerBlockOptin = kSharedLimit;
  properties->sharedMemPerMultiprocessor = size_t{100} << 10;
  properties->multiProcessorCount = 4;
  properties->major = 8;
  properties->minor = 6;
  properties->warpSize = kWarpLanes;
  properties->maxThreadsPerBlock = static_cast<int>(kMaxBlockThreads);
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() { return keep(cudaSuccess); }

// --- memory ------------------------------------------------------------------------------------

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  *memory = nullptr;
  if (keep(cudaSuccess) != cudaSuccess) return last_error;
  if (bytes == 0) return cudaSuccess;
  Allocations& all = allocations();
  const std::lock_guard<std::mutex> lock(all.mutex);
  if (bytes > memory_size() || all.used > memory_size() - bytes) {
    return keep(cudaErrorMemoryAllocation);
  }
  // The exact size, so that a sanitizer sees the first byte beyond it.
  if (posix_memalign(memory, kAllocationAlign, bytes) != 0) return keep(cudaErrorMemoryAllocation);
  std::memset(*memory, 0xff, bytes);  // fresh device memory holds nothing defined
  all.sizes[*memory] = bytes;
  all.used += bytes;
  return cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return keep(cudaSuccess);
  Allocations& all = allocations();
  const std::lock_guard<std::mutex> lock(all.mutex);
  const auto found = all.sizes.find(memory);
  if (found == all.sizes.end()) return keep(cudaErrorInvalidValue);
  all.used -= found->second;
  all.sizes.erase(found);
  std::free(memory);
  return keep(cudaSuccess);
}

cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t) {
  return cudaMalloc(memory, bytes);
}

cudaError_t cudaFreeAsync(void* memory, cudaStream_t) { return cudaFree(memory); }

cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  if (posix_memalign(memory, kAllocationAlign, bytes) != 0) return keep(cudaErrorMemoryAllocation);
  Allocations& all = page_locked();
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.sizes[*memory] = bytes;
  return keep(cudaSuccess);
}

cudaError_t cudaFreeHost(void* memory) {
  Allocations& all = page_locked();
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.sizes.erase(memory);
  std::free(memory);
  return keep(cudaSuccess);
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void*) {
  std::memset(attributes, 0, sizeof(*attributes));
  attributes->type = cudaMemoryTypeUnregistered;
  return keep(cudaSuccess);
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  Allocations& all = allocations();
  const std::lock_guard<std::mutex> lock(all.mutex);
  *total_bytes = memory_size();
  *free_bytes = all.used < *total_bytes ? *total_bytes - all.used : 0;
  return keep(cudaSuccess);
}

cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (keep(cudaSuccess) != cudaSuccess) return last_error;
  if (is_captured(stream)) {
    // Pageable memory may be gone when the graph runs.
    const bool is_allowed = kind != cudaMemcpyHostToDevice || is_page_locked(source, bytes);
    if (!is_allowed) return keep(refuse_in_capture(stream));
    return record(stream, [=] { return cudaMemcpyAsync(target, source, bytes, kind, nullptr); });
  }
  if (bytes > 0) std::memmove(target, source, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* target, const void* source, size_t bytes, cudaMemcpyKind kind) {
  return cudaMemcpyAsync(target, source, bytes, kind, nullptr);
}

cudaError_t cudaMemsetAsync(void* target, int value, size_t bytes, cudaStream_t stream) {
  if (keep(cudaSuccess) != cudaSuccess) return last_error;
  if (is_captured(stream)) {
    return record(stream, [=] { return cudaMemsetAsync(target, value, bytes, nullptr); });
  }
  if (bytes > 0) std::memset(target, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemset(void* target, int value, size_t bytes) {
  return cudaMemsetAsync(target, value, bytes, nullptr);
}

// --- streams and events ------------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = make_stream();
  return keep(cudaSuccess);
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete_stream(stream);
  return keep(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return keep(is_captured(stream) ? refuse_in_capture(stream) : cudaSuccess);
}

cudaError_t cudaStreamQuery(cudaStream_t) { return keep(cudaSuccess); }

cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return keep(cudaSuccess); }

cudaError_t cudaLaunchHostFunc(cudaStream_t, cudaHostFn_t function, void* data) {
  function(data);
  return keep(cudaSuccess);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = reinterpret_cast<cudaEvent_t>(new char(0));
  return keep(cudaSuccess);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete reinterpret_cast<char*>(event);
  return keep(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return keep(cudaSuccess); }

cudaError_t cudaEventSynchronize(cudaEvent_t) { return keep(cudaSuccess); }

}  // extern "C"
