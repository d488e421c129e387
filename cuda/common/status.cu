// From CUDA runtime errors to Status. See status.h.
#include "cuda/common/status.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "cuda/common/graph.h"
#include "cuda/common/launch.h"

namespace spindlekv::cuda {
namespace {

constexpr int kMaxDevices = 64;

// The op that first met a sticky error, by device; null while the device is well. Ops are string
// literals, so the pointer stays valid.
std::atomic<const char*> first_failing_op[kMaxDevices];

int current_device() {
  int device = 0;
  // A lost context may refuse even this; device 0 then stands for all.
  if (cudaGetDevice(&device) != cudaSuccess || device < 0 || device >= kMaxDevices) return 0;
  return device;
}

Status device_lost(const char* op, const char* first_op, cudaError_t error) {
  Status status = error_status(
      SKV_DEVICE_LOST, op, "expected a working device, got one lost in an earlier %s", first_op);
  status.native_code = error;
  return status;
}

bool debug_sync() {
  static const bool is_on = [] {
    const char* text = std::getenv("SPINDLEKV_DEBUG_SYNC");
    return text != nullptr && std::strcmp(text, "1") == 0;
  }();
  return is_on;
}

}  // namespace

bool is_sticky(cudaError_t error) {
  switch (error) {
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorContextIsDestroyed:
      return true;
    case cudaErrorLaunchFailure:
#if defined(SKV_SIMT)
      return false;  // the emulator's word for a kernel that broke a rule; the next launch is fine
#else
      return true;
#endif
    default:
      return false;
  }
}

Status status_from_cuda(const char* op, cudaError_t error, const char* what) {
  if (error == cudaSuccess) return ok_status();
  if (is_sticky(error)) {
    const char* first = nullptr;
    if (!first_failing_op[current_device()].compare_exchange_strong(first, op)) {
      return device_lost(op, first, error);
    }
  } else {
    cudaGetLastError();  // reported here, so the next launch must not meet it again
  }
  SkvCode code = SKV_CUDA;
  if (error == cudaErrorMemoryAllocation) code = SKV_OUT_OF_MEMORY;
  if (error >= cudaErrorStreamCaptureUnsupported && error <= cudaErrorStreamCaptureWrongThread) {
    code = SKV_UNSUPPORTED;
  }
  if (error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver) code = SKV_NO_DEVICE;
  Status status =
      error_status(code, op, "%s (%s%s%s)", cudaGetErrorString(error), cudaGetErrorName(error),
                   what == nullptr ? "" : "; ", what == nullptr ? "" : what);
  status.native_code = error;
  return status;
}

Status check_device_alive(const char* op) {
  const char* first = first_failing_op[current_device()].load();
  return first == nullptr ? ok_status() : device_lost(op, first, cudaSuccess);
}

Status check_launch_shape(const char* op, int64_t grid_x, int64_t grid_y, int64_t grid_z,
                          dim3 block) {
  if (grid_x < 0 || grid_x > kMaxGridX || grid_y < 0 || grid_y > kMaxGridYz || grid_z < 0 ||
      grid_z > kMaxGridYz) {
    return error_status(SKV_UNSUPPORTED, op,
                        "expected at most %lld x %lld x %lld blocks, got %lld x %lld x %lld",
                        static_cast<long long>(kMaxGridX), static_cast<long long>(kMaxGridYz),
                        static_cast<long long>(kMaxGridYz), static_cast<long long>(grid_x),
                        static_cast<long long>(grid_y), static_cast<long long>(grid_z));
  }
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > kMaxThreadsPerBlock) {
    return error_status(SKV_INTERNAL, op, "expected 1 to %u threads a block, got %llu",
                        kMaxThreadsPerBlock, static_cast<unsigned long long>(threads));
  }
  return ok_status();
}

Status after_launch(const char* op, cudaStream_t stream) {
  if (!debug_sync() || is_capturing(stream)) return ok_status();
  return status_from_cuda(op, cudaStreamSynchronize(stream), "waiting for the kernel");
}

}  // namespace spindlekv::cuda
