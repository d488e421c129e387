// An open CPU device: its threads and its instruction set.
#pragma once

#include "core/backend.h"
#include "core/status.h"
#include "cpu/isa.h"
#include "cpu/thread_pool.h"

struct SkvDevice {
  spindlekv::cpu::ThreadPool pool;
  spindlekv::cpu::Isa isa = spindlekv::cpu::Isa::kBaseline;
};

namespace spindlekv::cpu {

inline constexpr size_t kAlignment = 256;

Status device_count(int32_t* count);
Status open_device(int32_t ordinal, int32_t threads, SkvDevice** device);
void close_device(SkvDevice* device);
Status describe_device(SkvDevice* device, SkvDeviceInfo* info);
Status allocate(SkvDevice* device, size_t bytes, void** memory);
void release(SkvDevice* device, void* memory);
Status copy(SkvDevice* device, void* dst, const void* src, size_t bytes, int32_t kind,
            void* stream);
Status fill(SkvDevice* device, void* dst, int32_t byte_value, size_t bytes, void* stream);
// Work is finished when a call returns, so there is one stream, NULL, and nothing to wait for.
Status create_stream(SkvDevice* device, void** stream);
void destroy_stream(SkvDevice* device, void* stream);
Status synchronize(SkvDevice* device, void* stream);

// True when the host asked a long op to stop.
inline bool is_cancelled(const SkvExec& exec) {
  return exec.cancel != nullptr && *exec.cancel != 0;
}

inline Status aborted_status(const char* op) {
  return error_status(SKV_ABORTED, op, "stopped by its caller");
}

}  // namespace spindlekv::cpu
