// Work that is recorded once and replayed: what device.capture() of JavaScript makes.
//
// While a device captures, its synchronous ops are kept with their parameters instead of run. At
// the end a backend with graphs (core/backend.h) turns them into one; without, replaying runs them
// one after the other. Either way they have a workspace of their own and hold on to their tensors.
#pragma once

#include <napi.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "binding/handle.h"
#include "core/op_runner.h"
#include "core/status.h"

namespace spindlekv {

class DeviceState;

struct RecordedOp {
  std::function<Status(OpRunner&)> run;  // owns the host arrays of the op
  std::vector<std::shared_ptr<void>> keepalive;
};

// A capture in progress.
struct Recording {
  std::vector<RecordedOp> ops;
  Status refused = ok_status();  // the first call that cannot be part of it
};

// Let go on the JavaScript thread, because of the tensors.
class CapturedOps {
 public:
  CapturedOps(std::shared_ptr<DeviceMemory> memory, std::vector<RecordedOp> ops);
  ~CapturedOps();
  CapturedOps(const CapturedOps&) = delete;
  CapturedOps& operator=(const CapturedOps&) = delete;

  // Takes the workspace and makes the graph, if the backend has graphs.
  Status prepare();
  // Enqueues everything. One thread at a time.
  Status replay(const volatile int32_t* cancel);

 private:
  const SkvBackend* backend() const { return runner_.memory()->backend(); }
  SkvDevice* device() const { return runner_.memory()->device(); }
  Status run_all();
  Status capture_graph(void* stream);

  OpRunner runner_;
  std::vector<RecordedOp> ops_;
  void* graph_ = nullptr;
};

// The handle's state.
struct CapturedStepState {
  std::shared_ptr<DeviceState> device;
  std::shared_ptr<CapturedOps> ops;  // nullptr once disposed
  int64_t jobs_in_flight = 0;
};

template <>
struct HandleTraits<CapturedStepState> {
  static constexpr char kName[] = "CapturedStep";
  static constexpr uint64_t kKind = 7;
};

void register_capture(Napi::Env env, Napi::Object exports);

}  // namespace spindlekv
