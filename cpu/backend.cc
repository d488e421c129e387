// The CPU backend's function table.
//
// Between the table and the ops stands one wrapper, the same for all: it checks the parameters
// (core/check.h) and the workspace, and turns what the standard library may throw into a Status.
#include "core/backend.h"

#include <cstdint>
#include <new>

#include "core/check.h"
#include "cpu/device.h"
#include "cpu/entries.h"

namespace spindlekv::cpu {
namespace {

Status missing(const char* op, const char* what) {
  return error_status(SKV_ARGUMENT, op, "expected a pointer for %s, got null", what);
}

Status check_workspace(const char* op, const SkvExec& exec, size_t needed) {
  if (needed == 0) return ok_status();
  if (exec.workspace == nullptr || exec.workspace_bytes < needed) {
    return error_status(SKV_ARGUMENT, op, "expected at least %zu bytes for workspace, got %zu",
                        needed, exec.workspace == nullptr ? size_t{0} : exec.workspace_bytes);
  }
  if (reinterpret_cast<uintptr_t>(exec.workspace) % kAlignment != 0) {
    return error_status(SKV_ARGUMENT, op, "expected %zu-byte alignment for workspace, got %p",
                        kAlignment, exec.workspace);
  }
  return ok_status();
}

// Runs an op's body; nothing thrown leaves the library.
template <class Body>
Status contain(const char* op, const Body& body) noexcept {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return error_status(SKV_OUT_OF_MEMORY, op, "expected room for the op's bookkeeping, got none");
  } catch (...) {
    return error_status(SKV_INTERNAL, op, "expected no exception, got one");
  }
}

#define SKV_CPU_WRAPPER(name, Stem)                                                            \
  Status run_##name(SkvDevice* device, const SkvExec* exec, const Skv##Stem##Params* params) { \
    if (device == nullptr) return missing(#name, "device");                                    \
    if (exec == nullptr) return missing(#name, "exec");                                        \
    if (params == nullptr) return missing(#name, "params");                                    \
    return contain(#name, [&]() -> Status {                                                    \
      SKV_RETURN_IF_ERROR(check_##name(*params));                                              \
      SKV_RETURN_IF_ERROR(check_workspace(#name, *exec, name##_workspace(*device, *params)));  \
      return name(*device, *exec, *params);                                                    \
    });                                                                                        \
  }                                                                                            \
  Status size_##name(SkvDevice* device, const void* params, size_t* bytes) {                   \
    return contain(#name, [&]() -> Status {                                                    \
      const auto& typed = *static_cast<const Skv##Stem##Params*>(params);                      \
      SKV_RETURN_IF_ERROR(check_##name(typed));                                                \
      *bytes = name##_workspace(*device, typed);                                               \
      return ok_status();                                                                      \
    });                                                                                        \
  }
SKV_OPS(SKV_CPU_WRAPPER)
#undef SKV_CPU_WRAPPER

Status workspace_bytes(SkvDevice* device, int32_t op, const void* params, size_t* bytes) {
  if (device == nullptr) return missing("workspace_bytes", "device");
  if (params == nullptr) return missing("workspace_bytes", "params");
  if (bytes == nullptr) return missing("workspace_bytes", "bytes");
  using Size = Status (*)(SkvDevice*, const void*, size_t*);
#define SKV_CPU_SIZE(name, Stem) size_##name,
  static constexpr Size kSizes[] = {SKV_OPS(SKV_CPU_SIZE)};
#undef SKV_CPU_SIZE
  if (op < 0 || op >= SKV_OP_COUNT) {
    return error_status(SKV_ARGUMENT, "workspace_bytes", "expected 0..%d for op, got %d",
                        SKV_OP_COUNT - 1, op);
  }
  return kSizes[op](device, params, bytes);
}

// Every op runs for all of the contract's dtypes and head dims.
int32_t supports(SkvDevice*, int32_t op, int32_t dtype, int32_t head_dim) {
  if (op < 0 || op >= SKV_OP_COUNT) return 0;
  if (dtype != SKV_F32 && dtype != SKV_F16 && dtype != SKV_BF16) return 0;
  return head_dim == 0 || (head_dim >= 8 && head_dim <= 512 && head_dim % 8 == 0);
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
  backend.supports = supports;
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
