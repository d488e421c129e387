// A backend that does what a test tells it to: failures of a device that no healthy machine shows.
//
// Host memory; no op computes anything. attend takes its orders from query_position:
//   0            succeeds
//   1..15        fails with that SkvCode (SKV_CUDA with native code 700); once it was SKV_CUDA, the
//   device
//                no longer synchronises
//   99           fails with a code that does not exist
//   1000         runs until it is cancelled, for 20 seconds at most
// FAKE_ABI, if defined, is the ABI version it claims.
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "core/backend.h"
#include "core/status.h"

using spindlekv::error_status;
using spindlekv::ok_status;

#ifndef FAKE_ABI
#define FAKE_ABI SKV_ABI_VERSION
#endif

struct SkvDevice {
  bool is_broken = false;
};

namespace {

constexpr int32_t kRunUntilCancelled = 1000;
constexpr int32_t kIllegalAddress = 700;  // cudaErrorIllegalAddress
constexpr auto kLongest = std::chrono::seconds(20);

SkvStatus device_count(int32_t* count) {
  *count = 2;
  return ok_status();
}

SkvStatus open_device(int32_t ordinal, int32_t, SkvDevice** device) {
  if (ordinal > 1) {
    return error_status(SKV_NO_DEVICE, "open", "expected an index below 2 for device, got %d",
                        ordinal);
  }
  *device = new SkvDevice;
  return ok_status();
}

void close_device(SkvDevice* device) { delete device; }

SkvStatus describe(SkvDevice*, SkvDeviceInfo* info) {
  std::strcpy(info->name, "fake");
  return ok_status();
}

SkvStatus allocate(SkvDevice*, size_t bytes, void** memory) {
  *memory = bytes == 0 ? nullptr : std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  return ok_status();
}

void release(SkvDevice*, void* memory) { std::free(memory); }

SkvStatus copy(SkvDevice*, void* dst, const void* src, size_t bytes, int32_t, void*) {
  std::memcpy(dst, src, bytes);
  return ok_status();
}

SkvStatus fill(SkvDevice*, void* dst, int32_t value, size_t bytes, void*) {
  if (bytes > 0) std::memset(dst, value, bytes);
  return ok_status();
}

SkvStatus create_stream(SkvDevice*, void** stream) {
  *stream = nullptr;
  return ok_status();
}

void destroy_stream(SkvDevice*, void*) {}

SkvStatus synchronize(SkvDevice* device, void*) {
  if (!device->is_broken) return ok_status();
  return error_status(SKV_CUDA, "synchronize",
                      "expected a working context for device, got an error");
}

int32_t supports(SkvDevice*, int32_t, int32_t, int32_t) { return 1; }

SkvStatus workspace_bytes(SkvDevice*, int32_t, const void*, size_t* bytes) {
  *bytes = 64;
  return ok_status();
}

SkvStatus run_until_cancelled(const SkvExec* exec) {
  const auto end = std::chrono::steady_clock::now() + kLongest;
  while (std::chrono::steady_clock::now() < end) {
    if (exec->cancel != nullptr && *exec->cancel != 0) {
      return error_status(SKV_ABORTED, "attend", "expected to finish, got an abort");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return ok_status();
}

SkvStatus attend(SkvDevice* device, const SkvExec* exec, const SkvAttendParams* params) {
  const int32_t order = params->query_position;
  if (order == 0) return ok_status();
  if (order == kRunUntilCancelled) return run_until_cancelled(exec);
  SkvStatus status = error_status(static_cast<SkvCode>(order), "attend",
                                  "expected nothing for query_position, got %d", order);
  if (order == SKV_CUDA) {
    status.native_code = kIllegalAddress;
    device->is_broken = true;
  }
  return status;
}

template <typename Params>
SkvStatus succeed(SkvDevice*, const SkvExec*, const Params*) {
  return ok_status();
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const SkvBackend* spindlekv_backend() {
  static const SkvBackend backend = {
      .abi_version = FAKE_ABI,
      .struct_bytes = sizeof(SkvBackend),
      .name = "cuda",
      .device_count = device_count,
      .open = open_device,
      .close = close_device,
      .describe = describe,
      .allocate = allocate,
      .release = release,
      .copy = copy,
      .fill = fill,
      .create_stream = create_stream,
      .destroy_stream = destroy_stream,
      .synchronize = synchronize,
      .supports = supports,
      .workspace_bytes = workspace_bytes,
      .append_kv = succeed<SkvAppendKvParams>,
      .attend = attend,
      .window_scores = succeed<SkvWindowScoresParams>,
      .pool_scores = succeed<SkvPoolScoresParams>,
      .reduce_group = succeed<SkvReduceGroupParams>,
      .select_topk = succeed<SkvSelectTopkParams>,
      .compact = succeed<SkvCompactParams>,
      .rope = succeed<SkvRopeParams>,
      .build_codebook = succeed<SkvBuildCodebookParams>,
      .nearest_codeword = succeed<SkvNearestCodewordParams>,
      .reduce_by_label = succeed<SkvReduceByLabelParams>,
      .key_stats = succeed<SkvKeyStatsParams>,
      .row_cosine = succeed<SkvRowCosineParams>,
  };
  return &backend;
}
