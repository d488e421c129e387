// The CUDA backend's function table (and, built for the host, the SIMT test backend's). Every
// function makes its device current and checks that it is not lost. Loading the library touches no
// driver.
#include "core/backend.h"

#include <cstdint>
#include <cstdio>
#include <cstring>

#include "core/op_entry.h"
#include "cuda/common/device.h"
#include "cuda/common/entries.h"
#include "cuda/common/graph.h"
#include "cuda/common/status.h"

namespace spindlekv::cuda {
namespace {

#if defined(SKV_SIMT)
constexpr const char* kBackendName = "simt";
#else
constexpr const char* kBackendName = "cuda";
#endif

// Oldest driver branch that runs this runtime (CUDA release notes, "minor version compatibility").
constexpr int kNeededDriver = CUDART_VERSION >= 13000 ? 580 : 525;
constexpr int kLeastComputeCapability = 80;

Status enter_device(const char* op, SkvDevice* device) {
  if (device == nullptr) return missing_pointer(op, "device");
  const cudaError_t error = cudaSetDevice(device->ordinal);
  if (error != cudaSuccess) return status_from_cuda(op, error, "making the device current");
  return check_device_alive(op);
}

// --- devices -----------------------------------------------------------------------------------

Status no_device(cudaError_t error) {
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess) driver = 0;
  Status status;
  if (error == cudaErrorInsufficientDriver && driver == 0) {
    status = error_status(SKV_NO_DEVICE, "open_device",
                          "expected an NVIDIA driver (%d or newer, for CUDA %d.%d), got none",
                          kNeededDriver, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
  } else if (error == cudaErrorInsufficientDriver) {
    status = error_status(SKV_NO_DEVICE, "open_device",
                          "expected NVIDIA driver %d or newer (CUDA %d.%d), got one for CUDA %d.%d",
                          kNeededDriver, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10,
                          driver / 1000, driver % 1000 / 10);
  } else {
    status = error_status(SKV_NO_DEVICE, "open_device", "expected a CUDA device, got none: %s",
                          cudaGetErrorString(error));
  }
  status.native_code = error;
  cudaGetLastError();
  return status;
}

Status device_count(int32_t* count) {
  if (count == nullptr) return missing_pointer("device_count", "count");
  int found = 0;
  const cudaError_t error = cudaGetDeviceCount(&found);
  *count = error == cudaSuccess ? found : 0;
  if (error != cudaSuccess) return no_device(error);
  if (found == 0) return no_device(cudaErrorNoDevice);
  return ok_status();
}

Status read_attribute(int ordinal, cudaDeviceAttr attribute, int* value) {
  return status_from_cuda("open_device", cudaDeviceGetAttribute(value, attribute, ordinal),
                          "reading a device attribute");
}

Status read_properties(SkvDevice& device) {
  int major = 0;
  int minor = 0;
  int sm_count = 0;
  int shared_bytes = 0;
  const int ordinal = device.ordinal;
  SKV_RETURN_IF_ERROR(read_attribute(ordinal, cudaDevAttrComputeCapabilityMajor, &major));
  SKV_RETURN_IF_ERROR(read_attribute(ordinal, cudaDevAttrComputeCapabilityMinor, &minor));
  SKV_RETURN_IF_ERROR(read_attribute(ordinal, cudaDevAttrMultiProcessorCount, &sm_count));
  SKV_RETURN_IF_ERROR(
      read_attribute(ordinal, cudaDevAttrMaxSharedMemoryPerBlockOptin, &shared_bytes));
  device.compute_capability = 10 * major + minor;
  device.sm_count = sm_count;
  device.shared_bytes_optin = static_cast<size_t>(shared_bytes);
  if (device.compute_capability < kLeastComputeCapability) {
    return error_status(SKV_NO_DEVICE, "open_device",
                        "expected compute capability 8.0 or newer for cuda:%d, got %d.%d", ordinal,
                        major, minor);
  }
  return ok_status();
}

Status open_device(int32_t ordinal, int32_t, SkvDevice** device) {
  if (device == nullptr) return missing_pointer("open_device", "device");
  *device = nullptr;
  int32_t count = 0;
  SKV_RETURN_IF_ERROR(device_count(&count));
  if (ordinal < 0 || ordinal >= count) {
    return error_status(SKV_NO_DEVICE, "open_device", "expected 0..%d for ordinal, got %d",
                        count - 1, ordinal);
  }
  return contain("open_device", [&]() -> Status {
    SkvDevice opened;
    opened.ordinal = ordinal;
    SKV_RETURN_IF_ERROR(enter_device("open_device", &opened));
    SKV_RETURN_IF_ERROR(read_properties(opened));
    *device = new SkvDevice(opened);
    return ok_status();
  });
}

void close_device(SkvDevice* device) { delete device; }

Status describe_device(SkvDevice* device, SkvDeviceInfo* info) {
  SKV_RETURN_IF_ERROR(enter_device("describe", device));
  if (info == nullptr) return missing_pointer("describe", "info");
  std::memset(info, 0, sizeof(*info));
  cudaDeviceProp properties;
  const cudaError_t read = cudaGetDeviceProperties(&properties, device->ordinal);
  if (read != cudaSuccess) return status_from_cuda("describe", read);
  int driver = 0;
  SKV_RETURN_IF_ERROR(status_from_cuda("describe", cudaDriverGetVersion(&driver)));
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  SKV_RETURN_IF_ERROR(status_from_cuda("describe", cudaMemGetInfo(&free_bytes, &total_bytes)));
  std::snprintf(info->name, sizeof(info->name), "%.127s", properties.name);
  std::snprintf(info->detail, sizeof(info->detail), "compute capability %d.%d, driver CUDA %d.%d",
                device->compute_capability / 10, device->compute_capability % 10, driver / 1000,
                driver % 1000 / 10);
  info->memory_total = static_cast<int64_t>(total_bytes);
  info->memory_free = static_cast<int64_t>(free_bytes);
  info->threads = device->sm_count;
  return ok_status();
}

// --- memory and streams ------------------------------------------------------------------------

Status allocate(SkvDevice* device, size_t bytes, void** memory) {
  SKV_RETURN_IF_ERROR(enter_device("allocate", device));
  if (memory == nullptr) return missing_pointer("allocate", "memory");
  *memory = nullptr;
  if (bytes == 0) return ok_status();
  const cudaError_t error = cudaMalloc(memory, bytes);
  if (error != cudaErrorMemoryAllocation) return status_from_cuda("allocate", error);
  cudaGetLastError();
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  SKV_RETURN_IF_ERROR(status_from_cuda("allocate", cudaMemGetInfo(&free_bytes, &total_bytes)));
  Status status =
      error_status(SKV_OUT_OF_MEMORY, "allocate",
                   "expected %zu bytes of device memory, got %zu free", bytes, free_bytes);
  status.native_code = error;
  return status;
}

// Nothing can be told from here: memory of a lost device goes with its context.
void release(SkvDevice* device, void* memory) {
  if (device == nullptr || memory == nullptr) return;
  if (cudaSetDevice(device->ordinal) == cudaSuccess) cudaFree(memory);
  cudaGetLastError();
}

Status copy(SkvDevice* device, void* dst, const void* src, size_t bytes, int32_t kind,
            void* stream) {
  SKV_RETURN_IF_ERROR(enter_device("copy", device));
  if (bytes == 0) return ok_status();
  if (dst == nullptr) return missing_pointer("copy", "dst");
  if (src == nullptr) return missing_pointer("copy", "src");
  const auto cuda_stream = static_cast<cudaStream_t>(stream);
  switch (kind) {
    case SKV_COPY_TO_DEVICE:
      return copy_to_device("copy", cuda_stream, dst, src, bytes);
    case SKV_COPY_TO_HOST:
      return copy_to_host("copy", cuda_stream, dst, src, bytes);
    case SKV_COPY_ON_DEVICE:
      return status_from_cuda(
          "copy", cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, cuda_stream));
    default:
      return error_status(SKV_ARGUMENT, "copy", "expected 0..2 for kind, got %d", kind);
  }
}

Status fill(SkvDevice* device, void* dst, int32_t byte_value, size_t bytes, void* stream) {
  SKV_RETURN_IF_ERROR(enter_device("fill", device));
  if (bytes == 0) return ok_status();
  if (dst == nullptr) return missing_pointer("fill", "dst");
  return fill_device("fill", static_cast<cudaStream_t>(stream), dst, byte_value, bytes);
}

Status create_stream(SkvDevice* device, void** stream) {
  SKV_RETURN_IF_ERROR(enter_device("create_stream", device));
  if (stream == nullptr) return missing_pointer("create_stream", "stream");
  *stream = nullptr;
  cudaStream_t created = nullptr;
  SKV_RETURN_IF_ERROR(status_from_cuda("create_stream",
                                       cudaStreamCreateWithFlags(&created, cudaStreamNonBlocking)));
  *stream = created;
  return ok_status();
}

void destroy_stream(SkvDevice* device, void* stream) {
  if (device == nullptr || stream == nullptr) return;
  if (cudaSetDevice(device->ordinal) == cudaSuccess) {
    cudaStreamDestroy(static_cast<cudaStream_t>(stream));
  }
  cudaGetLastError();
}

Status synchronize(SkvDevice* device, void* stream) {
  SKV_RETURN_IF_ERROR(enter_device("synchronize", device));
  return status_from_cuda("synchronize", cudaStreamSynchronize(static_cast<cudaStream_t>(stream)));
}

// --- graphs ------------------------------------------------------------------------------------

Status capture_begin(SkvDevice* device, void* stream) {
  SKV_RETURN_IF_ERROR(enter_device("capture_begin", device));
  if (stream == nullptr) return missing_pointer("capture_begin", "stream");
  return contain("capture_begin", [&] { return begin_capture(static_cast<cudaStream_t>(stream)); });
}

Status capture_end(SkvDevice* device, void* stream, void** graph) {
  const Status current = enter_device("capture_end", device);
  // The capture ends in any case.
  const Status ended = end_capture(static_cast<cudaStream_t>(stream), graph);
  return current.code == SKV_OK ? ended : current;
}

Status graph_launch(SkvDevice* device, void* graph, void* stream) {
  SKV_RETURN_IF_ERROR(enter_device("graph_launch", device));
  if (graph == nullptr) return missing_pointer("graph_launch", "graph");
  return launch_graph(graph, static_cast<cudaStream_t>(stream));
}

void graph_release(SkvDevice* device, void* graph) {
  if (device == nullptr || graph == nullptr) return;
  cudaSetDevice(device->ordinal);
  destroy_graph(graph);
}

// --- ops ---------------------------------------------------------------------------------------

SKV_OPS(SKV_DEFINE_OP)

Status workspace_bytes(SkvDevice* device, int32_t op, const void* params, size_t* bytes) {
#define SKV_CUDA_SIZE(name, Stem) size_##name,
  static constexpr SizeFunction kSizes[] = {SKV_OPS(SKV_CUDA_SIZE)};
#undef SKV_CUDA_SIZE
  return workspace_bytes_by(kSizes, device, op, params, bytes);
}

constexpr SkvBackend make_backend() {
  SkvBackend backend{};
  backend.abi_version = SKV_ABI_VERSION;
  backend.struct_bytes = sizeof(SkvBackend);
  backend.name = kBackendName;
  backend.device_count = device_count;
  backend.open = open_device;
  backend.close = close_device;
  backend.describe = describe_device;
  backend.allocate = allocate;
  backend.release = release;
  backend.copy = copy;
  backend.fill = fill;
  backend.create_stream = create_stream;
  backend.destroy_stream = destroy_stream;
  backend.synchronize = synchronize;
  backend.supports = supports_all;
  backend.workspace_bytes = workspace_bytes;
  backend.capture_begin = capture_begin;
  backend.capture_end = capture_end;
  backend.graph_launch = graph_launch;
  backend.graph_release = graph_release;
#define SKV_CUDA_MEMBER(name, Stem) backend.name = run_##name;
  SKV_OPS(SKV_CUDA_MEMBER)
#undef SKV_CUDA_MEMBER
  return backend;
}

constexpr SkvBackend kBackend = make_backend();

}  // namespace
}  // namespace spindlekv::cuda

extern "C" __attribute__((visibility("default"))) const SkvBackend* spindlekv_backend(void) {
  return &spindlekv::cuda::kBackend;
}
