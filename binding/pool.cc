#include "binding/callback.h"
#include "binding/store.h"

namespace spindlekv {

void PoolState::report() {
  if (!device->uses_host_memory()) return;
  const int64_t now = pool == nullptr ? 0 : pool->stats().bytes_reserved;
  device->environment()->adjust_external_memory(now - reported_bytes);
  reported_bytes = now;
}

PoolState::~PoolState() {
  pool.reset();
  report();
}

std::shared_ptr<PoolState> pool_argument(Arguments* args, napi_value value) {
  std::shared_ptr<PoolState> state = unwrap_handle<PoolState>(args->env(), value);
  if (state == nullptr) {
    args->fail("pool", "a PagePool", args->describe(value));
    return nullptr;
  }
  if (state->pool == nullptr) {
    args->fail(error_status(SKV_DISPOSED, args->op(),
                            "expected a live PagePool for pool, got a disposed one"));
    return nullptr;
  }
  args->fail(state->device->check_usable(args->op()));
  return args->ok() ? state : nullptr;
}

namespace {

Napi::Value create(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "PagePool");
  const std::shared_ptr<DeviceState> device = args.device_handle(info[1], "device");
  const ObjectReader options = args.object(info[2], "options");
  const int32_t page_bytes = options.integer("pageBytes", 64, 1 << 30);
  const int32_t slab_bytes = options.integer("slabBytes", 64, INT32_MAX);
  if (args.ok() && page_bytes % 64 != 0) {
    options.fail("pageBytes", "a multiple of 64", std::to_string(page_bytes));
  }
  if (args.ok() && slab_bytes % page_bytes != 0) {
    options.fail("slabBytes", "a multiple of pageBytes", std::to_string(slab_bytes));
  }
  if (!args.ok()) return Napi::Value(info.Env(), args.raise());
  auto state = std::make_shared<PoolState>();
  state->device = device;
  state->pool = std::make_shared<PagePool>(device->memory(), static_cast<size_t>(page_bytes),
                                           static_cast<size_t>(slab_bytes));
  wrap_handle(info.Env(), info[0], std::move(state));
  return info.Env().Undefined();
}

Napi::Value stats(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "PagePool.stats");
  const std::shared_ptr<PoolState> state = pool_argument(&args, info[0]);
  if (!args.ok()) return Napi::Value(info.Env(), args.raise());
  const PoolStats numbers = state->pool->stats();
  Napi::Object object = Napi::Object::New(info.Env());
  const auto set = [&object](const char* name, int64_t value) {
    object.Set(name, static_cast<double>(value));
  };
  set("pageBytes", numbers.page_bytes);
  set("pagesUsed", numbers.pages_used);
  set("bytesUsed", numbers.bytes_used);
  set("bytesReserved", numbers.bytes_reserved);
  set("slabs", numbers.slabs);
  set("peakBytesUsed", numbers.peak_bytes_used);
  return object;
}

// Caches that still use the pool keep its memory alive; the handle itself is of no further use.
Napi::Value dispose(const Napi::CallbackInfo& info) {
  const std::shared_ptr<PoolState> state = unwrap_handle<PoolState>(info.Env(), info[0]);
  if (state != nullptr) {
    state->pool.reset();
    state->report();
  }
  return info.Env().Undefined();
}

}  // namespace

void register_pool(Napi::Env env, Napi::Object exports) {
  export_function<create>(env, exports, "poolCreate");
  export_function<stats>(env, exports, "poolStats");
  export_function<dispose>(env, exports, "poolDispose");
}

}  // namespace spindlekv
