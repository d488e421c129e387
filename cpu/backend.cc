// The CPU backend's function table.
#include "core/backend.h"

#include "core/op_entry.h"
#include "cpu/device.h"
#include "cpu/entries.h"

namespace spindlekv {

template <>
inline constexpr bool kChecksOwnWorkspace<SkvAttendParams> = true;
template <>
inline constexpr bool kChecksOwnWorkspace<SkvAttendBatchParams> = true;

}  // namespace spindlekv

namespace spindlekv::cpu {
namespace {

Status enter_device(const char* op, SkvDevice* device) {
  return device == nullptr ? missing_pointer(op, "device") : ok_status();
}

SKV_OPS(SKV_DEFINE_OP)

Status workspace_bytes(SkvDevice* device, int32_t op, const void* params, size_t* bytes) {
#define SKV_CPU_SIZE(name, Stem) size_##name,
  static constexpr SizeFunction kSizes[] = {SKV_OPS(SKV_CPU_SIZE)};
#undef SKV_CPU_SIZE
  return workspace_bytes_by(kSizes, device, op, params, bytes);
}

constexpr SkvBackend make_backend() {
  SkvBackend backend{};
  backend.abi_version = SKV_ABI_VERSION;
  backend.struct_bytes = sizeof(SkvBackend);
  backend.name = "cpu";
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
#define SKV_CPU_MEMBER(name, Stem) backend.name = run_##name;
  SKV_OPS(SKV_CPU_MEMBER)
#undef SKV_CPU_MEMBER
  return backend;
}

constexpr SkvBackend kBackend = make_backend();

}  // namespace
}  // namespace spindlekv::cpu

extern "C" __attribute__((visibility("default"))) const SkvBackend* spindlekv_backend(void) {
  return &spindlekv::cpu::kBackend;
}
