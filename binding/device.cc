#include "binding/device.h"

#include <cctype>
#include <utility>

#include "binding/args.h"
#include "binding/callback.h"
#include "binding/errors.h"
#include "core/loader.h"

namespace spindlekv {
namespace {

// Whether `text` (camelCase) names the op `name` (snake_case).
bool is_same_op(const std::string& text, const char* name) {
  size_t i = 0;
  bool raise = false;
  for (const char* c = name; *c != '\0'; ++c) {
    if (*c == '_') {
      raise = true;
      continue;
    }
    const int wanted = raise ? std::toupper(static_cast<unsigned char>(*c)) : *c;
    raise = false;
    if (i >= text.size() || text[i++] != static_cast<char>(wanted)) return false;
  }
  return i == text.size();
}

int32_t op_number(const std::string& text) {
#define SKV_MATCH_OP(name, Stem) \
  if (is_same_op(text, #name)) return SKV_OP_##name;
  SKV_OPS(SKV_MATCH_OP)
#undef SKV_MATCH_OP
  return SKV_OP_COUNT;
}

}  // namespace

DeviceState::DeviceState(std::shared_ptr<Environment> environment, std::string kind,
                         int32_t ordinal)
    : environment_(std::move(environment)),
      kind_(std::move(kind)),
      ordinal_(ordinal),
      jobs_(std::make_shared<JobThread>()) {}

DeviceState::~DeviceState() { jobs_->close(); }

Status DeviceState::open(int32_t threads, std::string* detail) {
  const SkvBackend* backend = nullptr;
  SKV_RETURN_IF_ERROR(load_backend(kind_, environment_->addon_directory, &backend, detail));
  SKV_RETURN_IF_ERROR(DeviceMemory::open(backend, ordinal_, threads, &memory_));
  runner_ = std::make_unique<OpRunner>(memory_);
  return ok_status();
}

void DeviceState::dispose() {
  if (is_disposed_) return;
  is_disposed_ = true;
  recording_.reset();
  runner_.reset();
  jobs_->close();
}

Status DeviceState::check_usable(const char* op) const {
  if (is_disposed_) {
    return error_status(SKV_DISPOSED, op, "expected a live Device for device, got a disposed one");
  }
  if (memory_ == nullptr) {
    return error_status(SKV_INTERNAL, op, "expected an open device for device, got none");
  }
  if (!is_lost_) return ok_status();
  const std::lock_guard<std::mutex> lock(mutex_);
  return error_status(SKV_DEVICE_LOST, op,
                      "expected a usable device for device, got one lost by an error in %s",
                      first_failure_.op);
}

Status DeviceState::check_runs_now(const char* op) {
  if (recording_ == nullptr) return ok_status();
  const Status refused = error_status(
      SKV_UNSUPPORTED, op,
      "expected synchronous ops on tensors that exist in a capture, got a call that cannot be "
      "replayed");
  if (is_ok(recording_->refused)) recording_->refused = refused;
  return refused;
}

Status DeviceState::note(const Status& status) {
  if (status.code != SKV_CUDA && status.code != SKV_DEVICE_LOST) return status;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (is_lost_ || memory_ == nullptr) return status;
  // CUDA keeps returning an error that broke the context; one that did not is gone by now.
  const bool is_broken = status.code == SKV_DEVICE_LOST ||
                         !is_ok(memory_->backend()->synchronize(memory_->device(), nullptr));
  if (is_broken) {
    first_failure_ = status;
    is_lost_ = true;
  }
  return status;
}

napi_value DeviceState::loss_cause(napi_env env) const {
  Status first = ok_status();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!is_lost_) return nullptr;
    first = first_failure_;
  }
  return make_error(env, first);
}

void throw_device_status(napi_env env, const DeviceState* device, const Status& status) {
  const bool is_lost = device != nullptr && status.code == SKV_DEVICE_LOST;
  throw_status(env, status, is_lost ? device->loss_cause(env) : nullptr);
}

namespace {

// The device of a call's first argument, or nullptr with an exception pending.
std::shared_ptr<DeviceState> this_device(const Napi::CallbackInfo& info, const char* op) {
  Arguments args(info.Env(), op);
  std::shared_ptr<DeviceState> device = args.device_handle(info[0], "device");
  if (!args.ok()) args.raise();
  return device;
}

// (object, { kind, ordinal, threads }): makes the object a device; the promise resolves once it is
// open.
Napi::Value open_device(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "openDevice");
  const ObjectReader options = args.object(info[1], "options");
  const std::string kind = options.text("kind");
  const int32_t ordinal = options.integer("ordinal", 0, INT32_MAX);
  const int32_t threads = options.integer("threads", 0, INT32_MAX);
  if (!args.ok()) return Napi::Value(info.Env(), args.raise());

  auto device = std::make_shared<DeviceState>(environment_of(info.Env()), kind, ordinal);
  if (wrap_handle(info.Env(), info[0], device) == kNoHandle) {
    args.fail("device", "a fresh object", "one in use");
    return Napi::Value(info.Env(), args.raise());
  }
  auto job = std::make_unique<Job>();
  auto detail = std::make_shared<std::string>();
  job->op = "openDevice";
  job->device = device;
  job->detail = detail;
  job->work = [device, detail, threads](OpRunner&) {
    Status status = device->open(threads, detail.get());
    status.op = "openDevice";
    return status;
  };
  return Napi::Value(info.Env(), JobThread::queue(info.Env(), device->jobs(), std::move(job)));
}

Napi::Value dispose_device(const Napi::CallbackInfo& info) {
  const std::shared_ptr<DeviceState> device = unwrap_handle<DeviceState>(info.Env(), info[0]);
  if (device != nullptr) device->dispose();
  return info.Env().Undefined();
}

Napi::Value describe_device(const Napi::CallbackInfo& info) {
  const std::shared_ptr<DeviceState> device = this_device(info, "info");
  if (device == nullptr) return {};
  SkvDeviceInfo about{};
  const DeviceMemory& memory = *device->memory();
  const Status status = device->note(memory.backend()->describe(memory.device(), &about));
  if (!is_ok(status)) {
    throw_device_status(info.Env(), device.get(), status);
    return {};
  }
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("name", Napi::String::New(info.Env(), about.name));
  result.Set("detail", Napi::String::New(info.Env(), about.detail));
  result.Set("memoryTotal", static_cast<double>(about.memory_total));
  result.Set("memoryFree", static_cast<double>(about.memory_free));
  result.Set("threads", about.threads);
  return result;
}

// (device, op, dtype number, headDim) => boolean
Napi::Value device_supports(const Napi::CallbackInfo& info) {
  const std::shared_ptr<DeviceState> device = this_device(info, "supports");
  if (device == nullptr) return {};
  Napi::Object values = Napi::Object::New(info.Env());
  values.Set("op", info[1]);
  values.Set("dtype", info[2]);
  values.Set("headDim", info[3]);
  Arguments args(info.Env(), "supports");
  const ObjectReader options = args.object(values, "options");
  const std::string name = options.text("op");
  const int32_t op = op_number(name);
  if (op == SKV_OP_COUNT) args.fail("op", "the name of an op", "\"" + name + "\"");
  const int32_t dtype = options.choice_or("dtype", {"f32", "f16", "bf16"}, SKV_F32);
  const int32_t head_dim = options.integer_or("headDim", 0, INT32_MAX, 0);
  if (!args.ok()) return Napi::Value(info.Env(), args.raise());
  const DeviceMemory& memory = *device->memory();
  const int32_t is_supported = memory.backend()->supports(memory.device(), op, dtype, head_dim);
  return Napi::Boolean::New(info.Env(), is_supported != 0);
}

// (device) => Promise<void>: everything queued before has run.
Napi::Value synchronize(const Napi::CallbackInfo& info) {
  const std::shared_ptr<DeviceState> device = this_device(info, "synchronize");
  if (device == nullptr) return {};
  auto job = std::make_unique<Job>();
  job->op = "synchronize";
  job->work = [](OpRunner& run) { return run.synchronize(); };
  return Napi::Value(info.Env(), queue_job(info.Env(), device, std::move(job)));
}

Napi::Value fail_allocation(const Napi::CallbackInfo& info) {
  const std::shared_ptr<DeviceState> device = this_device(info, "failAllocation");
  if (device == nullptr) return {};
  Napi::Object values = Napi::Object::New(info.Env());
  values.Set("n", info[1]);
  Arguments args(info.Env(), "failAllocation");
  const int32_t n = args.object(values, "options").integer("n", 0, INT32_MAX);
  if (!args.ok()) return Napi::Value(info.Env(), args.raise());
  device->memory()->fail_allocation(n);
  return info.Env().Undefined();
}

// Works on a disposed device too: that is when one wants to know what is left.
Napi::Value allocations(const Napi::CallbackInfo& info) {
  const std::shared_ptr<DeviceState> device = unwrap_handle<DeviceState>(info.Env(), info[0]);
  if (device == nullptr || device->memory() == nullptr) {
    this_device(info, "allocations");
    return {};
  }
  const DeviceMemory::Usage usage = device->memory()->usage();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("count", static_cast<double>(usage.count));
  result.Set("bytes", static_cast<double>(usage.bytes));
  return result;
}

}  // namespace

void register_device(Napi::Env env, Napi::Object exports) {
  export_function<open_device>(env, exports, "openDevice");
  export_function<dispose_device>(env, exports, "disposeDevice");
  export_function<describe_device>(env, exports, "describeDevice");
  export_function<device_supports>(env, exports, "deviceSupports");
  export_function<synchronize>(env, exports, "synchronize");
  export_function<fail_allocation>(env, exports, "failAllocation");
  export_function<allocations>(env, exports, "allocations");
}

}  // namespace spindlekv
