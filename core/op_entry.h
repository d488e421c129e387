// What stands between a backend's function table and its ops, the same for every op and backend:
// it enters the device, checks the parameters (core/check.h) and the workspace, and turns what the
// standard library may throw into a Status.
//
//   SKV_OPS(SKV_DEFINE_OP)   // in the backend's namespace: run_<op>, and what knows their sizes
//
// needs there: Status enter_device(op, SkvDevice*), which refuses NULL, and for each op
// Status <op>(device, exec, params) and size_t <op>_workspace(device, params).
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

#include "core/backend.h"
#include "core/check.h"
#include "core/status.h"

namespace spindlekv {

inline constexpr size_t kWorkspaceAlignment = 256;  // of SkvExec::workspace

inline Status missing_pointer(const char* op, const char* what) {
  return error_status(SKV_ARGUMENT, op, "expected a pointer for %s, got null", what);
}

// Runs a body; nothing thrown leaves the library.
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

inline Status check_workspace(const char* op, const SkvExec& exec, size_t needed) {
  if (needed == 0) return ok_status();
  if (exec.workspace == nullptr || exec.workspace_bytes < needed) {
    if (exec.workspace_needed != nullptr) *exec.workspace_needed = needed;
    return error_status(SKV_ARGUMENT, op, "expected at least %zu bytes for workspace, got %zu",
                        needed, exec.workspace == nullptr ? size_t{0} : exec.workspace_bytes);
  }
  if (reinterpret_cast<uintptr_t>(exec.workspace) % kWorkspaceAlignment != 0) {
    return error_status(SKV_ARGUMENT, op, "expected %zu-byte alignment for workspace, got %p",
                        kWorkspaceAlignment, exec.workspace);
  }
  return ok_status();
}

// The functions of one op.
template <class Params>
struct OpEntry {
  const char* op;
  Status (*enter)(const char* op, SkvDevice* device);
  Status (*check)(const Params& params);
  size_t (*workspace)(SkvDevice& device, const Params& params);
  Status (*run)(SkvDevice& device, const SkvExec& exec, const Params& params);
};

// True of an op that plans its work in order to know its size: it calls check_workspace() itself,
// with the plan that it then carries out, before it writes anything.
template <class Params>
inline constexpr bool kChecksOwnWorkspace = false;

template <class Params>
Status run_op(const OpEntry<Params>& entry, SkvDevice* device, const SkvExec* exec,
              const Params* params) {
  SKV_RETURN_IF_ERROR(entry.enter(entry.op, device));
  if (exec == nullptr) return missing_pointer(entry.op, "exec");
  if (params == nullptr) return missing_pointer(entry.op, "params");
  return contain(entry.op, [&]() -> Status {
    SKV_RETURN_IF_ERROR(entry.check(*params));
    if constexpr (!kChecksOwnWorkspace<Params>) {
      const size_t needed = entry.workspace(*device, *params);
      SKV_RETURN_IF_ERROR(check_workspace(entry.op, *exec, needed));
    }
    return entry.run(*device, *exec, *params);
  });
}

template <class Params>
Status size_op(const OpEntry<Params>& entry, SkvDevice* device, const void* params, size_t* bytes) {
  return contain(entry.op, [&]() -> Status {
    const auto& typed = *static_cast<const Params*>(params);
    SKV_RETURN_IF_ERROR(entry.check(typed));
    *bytes = entry.workspace(*device, typed);
    return ok_status();
  });
}

#define SKV_DEFINE_OP(name, Stem)                                                              \
  constexpr ::spindlekv::OpEntry<Skv##Stem##Params> kEntry##Stem{                              \
      #name, enter_device, check_##name, name##_workspace, name};                              \
  Status run_##name(SkvDevice* device, const SkvExec* exec, const Skv##Stem##Params* params) { \
    return ::spindlekv::run_op(kEntry##Stem, device, exec, params);                            \
  }                                                                                            \
  Status size_##name(SkvDevice* device, const void* params, size_t* bytes) {                   \
    return ::spindlekv::size_op(kEntry##Stem, device, params, bytes);                          \
  }

// SkvBackend::workspace_bytes by the size functions of all ops, in the order of SKV_OPS.
using SizeFunction = Status (*)(SkvDevice* device, const void* params, size_t* bytes);

inline Status workspace_bytes_by(const SizeFunction (&sizes)[SKV_OP_COUNT], SkvDevice* device,
                                 int32_t op, const void* params, size_t* bytes) {
  if (device == nullptr) return missing_pointer("workspace_bytes", "device");
  if (params == nullptr) return missing_pointer("workspace_bytes", "params");
  if (bytes == nullptr) return missing_pointer("workspace_bytes", "bytes");
  if (op < 0 || op >= SKV_OP_COUNT) {
    return error_status(SKV_ARGUMENT, "workspace_bytes", "expected 0..%d for op, got %d",
                        SKV_OP_COUNT - 1, op);
  }
  return sizes[op](device, params, bytes);
}

// SkvBackend::supports where every op runs for all of the contract's dtypes and head dims.
inline int32_t supports_all(SkvDevice*, int32_t op, int32_t dtype, int32_t head_dim) {
  if (op < 0 || op >= SKV_OP_COUNT) return 0;
  if (dtype != SKV_F32 && dtype != SKV_F16 && dtype != SKV_BF16) return 0;
  return head_dim == 0 || (head_dim >= 8 && head_dim <= 512 && head_dim % 8 == 0);
}

}  // namespace spindlekv
