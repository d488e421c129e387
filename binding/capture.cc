#include "binding/capture.h"

#include <utility>

#include "binding/args.h"
#include "binding/callback.h"
#include "binding/device.h"
#include "binding/job.h"

namespace spindlekv {

CapturedOps::CapturedOps(std::shared_ptr<DeviceMemory> memory, std::vector<RecordedOp> ops)
    : runner_(std::move(memory)), ops_(std::move(ops)) {}

CapturedOps::~CapturedOps() {
  if (graph_ == nullptr) return;
  static_cast<void>(runner_.synchronize());  // on a lost device nothing runs any more
  backend()->graph_release(device(), graph_);
}

Status CapturedOps::run_all() {
  for (const RecordedOp& op : ops_) {
    if (runner_.cancelled()) {
      return error_status(SKV_ABORTED, "replay", "expected to finish, got an abort");
    }
    SKV_RETURN_IF_ERROR(op.run(runner_));
  }
  return ok_status();
}

// Nothing may be allocated or freed on the device meanwhile: the workspace is there.
Status CapturedOps::capture_graph(void* stream) {
  SKV_RETURN_IF_ERROR(backend()->capture_begin(device(), stream));
  runner_.set_stream(stream);
  const Status recorded = run_all();
  runner_.set_stream(nullptr);
  const Status ended =
      backend()->capture_end(device(), stream, is_ok(recorded) ? &graph_ : nullptr);
  return is_ok(recorded) ? ended : recorded;
}

Status CapturedOps::prepare() {
  runner_.set_measuring(true);
  const Status measured = run_all();
  runner_.set_measuring(false);
  SKV_RETURN_IF_ERROR(measured);
  if (backend()->capture_begin == nullptr || ops_.empty()) return ok_status();
  void* stream = nullptr;
  SKV_RETURN_IF_ERROR(backend()->create_stream(device(), &stream));
  const Status captured = capture_graph(stream);
  backend()->destroy_stream(device(), stream);
  return captured;
}

Status CapturedOps::replay(const volatile int32_t* cancel) {
  if (graph_ != nullptr) return backend()->graph_launch(device(), graph_, nullptr);
  runner_.set_cancel(cancel);
  const Status status = run_all();
  runner_.set_cancel(nullptr);
  return status;
}

namespace {

// (device): its ops are recorded from now on.
Napi::Value begin_capture(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "capture");
  const std::shared_ptr<DeviceState> device = args.device_handle(info[0], "device");
  if (device != nullptr) args.fail(device->check_runs_now("capture"));
  if (!args.ok()) return raise(info, &args);
  device->set_recording(std::make_unique<Recording>());
  return info.Env().Undefined();
}

// (device): what was recorded is dropped.
Napi::Value abandon_capture(const Napi::CallbackInfo& info) {
  const std::shared_ptr<DeviceState> device = unwrap_handle<DeviceState>(info.Env(), info[0]);
  if (device != nullptr) device->set_recording(nullptr);
  return info.Env().Undefined();
}

// (device, object): makes it a CapturedStep of what was recorded.
Napi::Value end_capture(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  std::unique_ptr<Recording> recording;
  if (const auto device = unwrap_handle<DeviceState>(env, info[0])) {
    recording = device->set_recording(nullptr);
  }
  Arguments args(env, "capture");
  const std::shared_ptr<DeviceState> device = args.device_handle(info[0], "device");
  if (args.ok() && recording == nullptr) args.fail("device", "a capture in progress", "none");
  if (args.ok()) args.fail(recording->refused);
  if (!args.ok()) return raise(info, &args);

  auto state = std::make_shared<CapturedStepState>();
  state->device = device;
  state->ops = std::make_shared<CapturedOps>(device->memory(), std::move(recording->ops));
  const Status status = device->note(state->ops->prepare());
  if (!is_ok(status)) {
    throw_device_status(env, device.get(), status);
    return {};
  }
  if (wrap_handle(env, info[1], std::move(state)) == kNoHandle) {
    args.fail("object", "a fresh object", "one in use");
    return raise(info, &args);
  }
  return env.Undefined();
}

// The step of a call's first argument if it can be replayed now; nullptr after args.fail().
std::shared_ptr<CapturedStepState> this_step(const Napi::CallbackInfo& info, Arguments* args) {
  const auto step = unwrap_handle<CapturedStepState>(info.Env(), info[0]);
  if (step == nullptr) {
    args->fail("step", "a CapturedStep of this package", args->describe(info[0]));
    return nullptr;
  }
  if (step->ops == nullptr) {
    args->fail(error_status(SKV_DISPOSED, args->op(),
                            "expected a live CapturedStep for step, got a disposed one"));
    return nullptr;
  }
  args->fail(step->device->check_usable(args->op()));
  if (args->ok()) args->fail(step->device->check_runs_now(args->op()));
  return args->ok() ? step : nullptr;
}

// (step): enqueues it.
Napi::Value replay(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "replay");
  const std::shared_ptr<CapturedStepState> step = this_step(info, &args);
  if (step != nullptr && step->jobs_in_flight > 0) {
    args.fail(error_status(SKV_BUSY, "replay", "expected an idle step, got one in replayAsync()"));
  }
  if (!args.ok()) return raise(info, &args);
  const Status status = step->device->note(step->ops->replay(nullptr));
  if (!is_ok(status)) throw_device_status(info.Env(), step->device.get(), status);
  return info.Env().Undefined();
}

// (step, token?) => Promise<void>, resolved when the device is done.
Napi::Value replay_async(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "replay");
  const std::shared_ptr<CapturedStepState> step = this_step(info, &args);
  auto job = std::make_unique<Job>();
  if (args.ok()) args.fail(read_cancel_token(info.Env(), info[1], "replay", &job->cancel));
  if (!args.ok()) return raise(info, &args);
  job->op = "replay";
  job->keepalive.push_back(step->ops);
  job->work = [ops = step->ops.get()](OpRunner& run) {
    SKV_RETURN_IF_ERROR(ops->replay(run.cancel()));
    return run.synchronize();
  };
  job->settled = [step](const Status&) { --step->jobs_in_flight; };
  const napi_value promise = queue_job(info.Env(), step->device, std::move(job));
  if (promise != nullptr) ++step->jobs_in_flight;
  return Napi::Value(info.Env(), promise);
}

// (step): lets go of the graph, the workspace and the tensors once queued replays have run.
Napi::Value dispose_step(const Napi::CallbackInfo& info) {
  const auto step = unwrap_handle<CapturedStepState>(info.Env(), info[0]);
  if (step != nullptr) step->ops.reset();
  return info.Env().Undefined();
}

}  // namespace

void register_capture(Napi::Env env, Napi::Object exports) {
  export_function<begin_capture>(env, exports, "beginCapture");
  export_function<abandon_capture>(env, exports, "abandonCapture");
  export_function<end_capture>(env, exports, "endCapture");
  export_function<replay>(env, exports, "replay");
  export_function<replay_async>(env, exports, "replayAsync");
  export_function<dispose_step>(env, exports, "disposeCapturedStep");
}

}  // namespace spindlekv
