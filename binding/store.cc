#include "binding/store.h"

#include <cmath>
#include <utility>

#include "binding/callback.h"
#include "binding/rope_options.h"

namespace spindlekv {
namespace {

// Makes the first argument the cache of `store`; returns its number.
Napi::Value attach_store(const Napi::CallbackInfo& info, std::shared_ptr<PoolState> pool,
                         std::shared_ptr<Store> store) {
  auto state = std::make_shared<StoreState>();
  state->pool = std::move(pool);
  state->store = std::move(store);
  return Napi::Number::New(info.Env(), wrap_handle(info.Env(), info[0], std::move(state)));
}

Napi::Value create(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "KVCache");
  const std::shared_ptr<PoolState> pool = pool_argument(&args, info[1]);
  const ObjectReader options = args.object(info[2], "options");
  StoreConfig config;
  config.layers = options.integer("layers", 1, 4096);
  config.kv_heads = options.integer("kvHeads", 1, 65536);
  config.group = options.integer("group", 1, 16);
  config.head_dim = options.integer("headDim", 8, 512);
  config.dtype = options.choice("dtype", {"f32", "f16", "bf16"});
  config.page_slots = options.integer("pageSlots", 1, 65536);
  config.rotate_keys = options.flag_or("rotateKeys", false);
  config.reindex = options.flag_or("reindex", false);
  config.record_queries = options.integer("recordQueries", 0, 65536);
  if (args.ok() && config.head_dim % 8 != 0) {
    options.fail("headDim", "a multiple of 8", std::to_string(config.head_dim));
  }
  std::shared_ptr<SharedRopeTable> rope;
  if (args.ok() && options.has("rope")) {
    const RopeSpec spec = read_rope_spec(options.object("rope"));
    if (args.ok() && spec.n_rot > config.head_dim) {
      options.fail("rope.nRot", "at most headDim", std::to_string(spec.n_rot));
    }
    rope = std::make_shared<SharedRopeTable>(spec);
    config.has_rope = true;
  }
  if (args.ok() && !config.has_rope && (config.rotate_keys || config.reindex)) {
    options.fail("rope", "RoPE parameters to rotate keys by", "none");
  }
  if (!args.ok()) return raise(info, &args);
  return attach_store(info, pool, std::make_shared<Store>(config, pool->pool, std::move(rope)));
}

Napi::Value fork(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "fork");
  const std::shared_ptr<StoreState> source = store_argument(&args, info[1]);
  if (source != nullptr) require_idle(&args, *source);
  if (!args.ok()) return raise(info, &args);
  return attach_store(info, source->pool, source->store->fork());
}

Napi::Value configure(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "KVCache");
  const std::shared_ptr<StoreState> state = store_argument(&args, info[0]);
  if (state != nullptr) require_idle(&args, *state);
  const ObjectReader options = args.object(info[1], "options");
  if (!args.ok()) return raise(info, &args);
  const StoreConfig& config = state->store->config();
  const bool rotate_keys = options.flag_or("rotateKeys", config.rotate_keys);
  const bool reindex = options.flag_or("reindex", config.reindex);
  const int32_t record = options.integer_or("recordQueries", 0, 65536, config.record_queries);
  if (args.ok() && !config.has_rope && (rotate_keys || reindex)) {
    options.fail("rope", "RoPE parameters to rotate keys by", "none");
  }
  InsertPolicy insert;
  TrimPolicy trim;
  if (options.has("insert")) {
    const ObjectReader policy = options.object("insert");
    insert.recent = policy.integer("recent", 0, INT32_MAX);
    insert.interval = policy.integer("interval", 0, INT32_MAX);
    insert.theta_k = static_cast<float>(policy.number("thetaK"));
    insert.theta_v = static_cast<float>(policy.number("thetaV"));
    insert.max_codewords = policy.integer("codewords", 0, INT32_MAX);
  }
  if (options.has("trim")) {
    const ObjectReader policy = options.object("trim");
    trim.sinks = policy.integer("sinks", 0, INT32_MAX);
    trim.recent = policy.integer("recent", 0, INT32_MAX);
  }
  if (!args.ok()) return raise(info, &args);
  state->store->set_key_storage(rotate_keys, reindex);
  state->store->set_record_queries(record);
  state->store->set_policies(insert, trim);
  return info.Env().Undefined();
}

// (store, layer, tokens)
Napi::Value skip(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "skip");
  const std::shared_ptr<StoreState> state = store_argument(&args, info[0]);
  if (state != nullptr) require_idle(&args, *state);
  if (!args.ok()) return raise(info, &args);
  const int32_t layer = layer_argument(&args, *state, info[1]);
  double tokens = -1;
  if (napi_get_value_double(info.Env(), info[2], &tokens) != napi_ok || tokens < 0 ||
      tokens > INT32_MAX || std::floor(tokens) != tokens) {
    args.fail("tokens", "an integer in [0, 2^31)", args.describe(info[2]));
  }
  if (args.ok()) args.fail(state->store->skip(layer, static_cast<int32_t>(tokens)));
  if (!args.ok()) return raise(info, &args);
  return info.Env().Undefined();
}

// Copies a head's raw slots behind its encoded ones, keys before RoPE, into k and v [slots, D].
Napi::Value read_raw(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "readRaw");
  const std::shared_ptr<StoreState> state = store_argument(&args, info[0]);
  const ObjectReader options = args.object(info[1], "options");
  if (!args.ok()) return raise(info, &args);
  const StoreConfig& config = state->store->config();
  const int32_t layer = options.integer("layer", 0, config.layers - 1);
  const int32_t kv_head = options.integer("head", 0, config.kv_heads - 1);
  const TensorRule rule{.dtypes = dtype_bit(config.dtype), .rank = 2, .is_contiguous = true};
  const TensorState* k = options.tensor("k", rule);
  const TensorState* v = options.tensor("v", rule);
  int32_t first = 0;
  int32_t slots = 0;
  if (args.ok()) {
    const HeadSegments& head = state->store->head(layer, kv_head);
    for (const Segment& segment : head.segments) {
      if (segment.shape.codec == SKV_CODEC_CODEBOOK) {
        ++first;
      } else {
        slots += segment.slots;
      }
    }
    for (const auto& [name, tensor] : {std::pair{"k", k}, std::pair{"v", v}}) {
      options.require_axis(name, tensor, 0, slots);
      options.require_axis(name, tensor, 1, config.head_dim);
    }
  }
  if (!args.ok()) return raise(info, &args);
  void* const k_data = k->data();
  void* const v_data = v->data();
  const size_t bytes =
      static_cast<size_t>(slots) * static_cast<size_t>(config.head_dim) * dtype_bytes(config.dtype);
  const std::shared_ptr<Store> store = state->store;
  return queue_store_job(info, &args, state, info[2],
                         [store, layer, kv_head, first, k_data, v_data, bytes](OpRunner& run) {
                           SkvRun rows{};
                           MemoryBlock block;
                           SKV_RETURN_IF_ERROR(store->gather_raw(run, store->head(layer, kv_head),
                                                                 first, &rows, &block));
                           SKV_RETURN_IF_ERROR(run.copy(k_data, rows.k, bytes, SKV_COPY_ON_DEVICE));
                           SKV_RETURN_IF_ERROR(run.copy(v_data, rows.v, bytes, SKV_COPY_ON_DEVICE));
                           return run.synchronize();
                         });
}

Napi::Value release_queries(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "compress");
  const std::shared_ptr<StoreState> state = store_argument(&args, info[0]);
  if (state != nullptr) require_idle(&args, *state);
  if (!args.ok()) return raise(info, &args);
  state->store->release_queries();
  return info.Env().Undefined();
}

Napi::Value dispose(const Napi::CallbackInfo& info) {
  const std::shared_ptr<StoreState> state = unwrap_handle<StoreState>(info.Env(), info[0]);
  if (state != nullptr) {
    state->store.reset();  // jobs in flight hold their own share
    state->pool->report();
  }
  return info.Env().Undefined();
}

}  // namespace

int32_t layer_argument(Arguments* args, const StoreState& state, napi_value value) {
  double number = 0;
  const int32_t layers = state.store->config().layers;
  if (napi_get_value_double(args->env(), value, &number) != napi_ok ||
      std::floor(number) != number || number < 0 || number >= layers) {
    args->fail("layer", "an integer in [0, " + std::to_string(layers) + ")", args->describe(value));
    return 0;
  }
  return static_cast<int32_t>(number);
}

std::shared_ptr<StoreState> store_argument(Arguments* args, napi_value value) {
  std::shared_ptr<StoreState> state = unwrap_handle<StoreState>(args->env(), value);
  if (state == nullptr) {
    args->fail("cache", "a KVCache", args->describe(value));
    return nullptr;
  }
  if (state->store == nullptr) {
    args->fail(error_status(SKV_DISPOSED, args->op(),
                            "expected a live cache for cache, got a disposed one"));
    return nullptr;
  }
  if (state->steps_in_flight > 0) require_idle(args, *state);
  args->fail(state->pool->device->check_usable(args->op()));
  return args->ok() ? state : nullptr;
}

void require_idle(Arguments* args, const StoreState& state) {
  if (state.jobs_in_flight == 0) return;
  args->fail(error_status(SKV_BUSY, args->op(),
                          "expected an idle cache for cache, got one with %d calls in flight",
                          state.jobs_in_flight));
}

Napi::Value queue_store_job(const Napi::CallbackInfo& info, Arguments* args,
                            const std::shared_ptr<StoreState>& state, napi_value token,
                            std::function<Status(OpRunner&)> work,
                            std::function<napi_value(napi_env)> result) {
  auto job = std::make_unique<Job>();
  job->op = args->op();
  args->fail(read_cancel_token(info.Env(), token, args->op(), &job->cancel));
  if (!args->ok()) return Napi::Value(info.Env(), args->raise());
  job->work = std::move(work);
  job->result = std::move(result);
  job->keepalive = std::move(args->keepalive());
  job->keepalive.push_back(state);
  ++state->jobs_in_flight;
  job->settled = [state](const Status&) {
    --state->jobs_in_flight;
    state->pool->report();
  };
  return Napi::Value(info.Env(), queue_job(info.Env(), state->pool->device, std::move(job)));
}

void register_store(Napi::Env env, Napi::Object exports) {
  export_function<create>(env, exports, "storeCreate");
  export_function<fork>(env, exports, "storeFork");
  export_function<configure>(env, exports, "storeConfigure");
  export_function<skip>(env, exports, "storeSkip");
  export_function<read_raw>(env, exports, "storeReadRaw");
  export_function<release_queries>(env, exports, "storeReleaseQueries");
  export_function<dispose>(env, exports, "storeDispose");
  register_store_step(env, exports);
  register_store_scores(env, exports);
  register_store_stats(env, exports);
  register_export(env, exports);
}

}  // namespace spindlekv
