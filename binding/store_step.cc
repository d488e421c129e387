// Appending and attending, for one layer, all layers of a cache, or layers of many caches. Caches
// and tensors come as the numbers of their handles (binding/handle.h), so that a call of one layer
// costs little more than entering native code.
#include <algorithm>
#include <cmath>
#include <utility>

#include "binding/callback.h"
#include "binding/store.h"
#include "core/check/checker.h"
#include "core/step.h"

namespace spindlekv {
namespace {

// What rows are called in messages, and which part of what is given they are.
struct Place {
  const char* name;
  int32_t item = -1;   // of a list; -1: there is none
  int32_t plane = -1;  // of [planes, heads, tokens, D]; -1: [heads, tokens, D]
  int32_t planes = 0;

  std::string text() const {
    return item < 0 ? name : "items[" + std::to_string(item) + "]." + name;
  }
};

struct RowsShape {
  int32_t heads;
  int32_t tokens;
  int32_t head_dim;

  std::string text(const Place& place) const {
    const std::string planes = place.plane < 0 ? "" : std::to_string(place.planes) + ", ";
    return "[" + planes + std::to_string(heads) + ", " + std::to_string(tokens) + ", " +
           std::to_string(head_dim) + "]";
  }
};

// One call's arguments. keeps_alive: what it reads is kept for a job.
class StepReader {
 public:
  StepReader(napi_env env, const Environment* environment, const char* op, bool keeps_alive)
      : args(env, op), handles_(environment->handles), keeps_alive_(keeps_alive) {}

  StoreState* store(double number, int32_t item);
  StoreState* store(napi_value value) { return store(number_of(value, -1), -1); }
  double number_of(napi_value value, double fallback) const {
    double number = fallback;
    static_cast<void>(napi_get_value_double(args.env(), value, &number));
    return number;
  }
  int32_t count(double number, const Place& place);
  int32_t count(napi_value value, const char* name) {
    return count(number_of(value, -1), Place{name});
  }
  int32_t layer(double number, const StoreState& state, int32_t item);
  float scale(double number);
  // Rows by the number of a tensor, or by what else was given.
  RowView rows(double number, napi_value given, const StoreState& state, const Place& place,
               const RowsShape& shape);
  RowView rows(napi_value given, const StoreState& state, const Place& place,
               const RowsShape& shape) {
    return rows(number_of(given, kNoHandle), given, state, place, shape);
  }
  void scores(double number, int32_t mode, const StoreState& state, const Place& place,
              AttendRequest* request);
  void require_same_dtype(const AttendRequest& request, const Place& place) {
    if (args.ok() && request.out.dtype != request.q.dtype) {
      args.fail(place.text(), "the dtype of q", dtype_name(request.out.dtype));
    }
  }
  // Of all caches; there is none before the first.
  DeviceState* device() const { return device_; }
  // The caches, each once; kept only for a job.
  const std::vector<std::shared_ptr<StoreState>>& stores() const { return stores_; }
  // Pages of the caches may have come or gone.
  void report_pools() const {
    if (pool_ != nullptr) pool_->report();
    for (PoolState* pool : other_pools_) pool->report();
  }

  Arguments args;

 private:
  RowView tensor_rows(TensorState* tensor, const StoreState& state, const Place& place,
                      const RowsShape& shape);
  RowView array_rows(napi_value array, const StoreState& state, const Place& place,
                     const RowsShape& shape);
  bool is_usable(TensorState* tensor, const StoreState& state, const Place& place);

  const HandleTable& handles_;
  bool keeps_alive_;
  DeviceState* device_ = nullptr;
  std::vector<std::shared_ptr<StoreState>> stores_;
  PoolState* pool_ = nullptr;  // of the first cache: mostly the only one
  std::vector<PoolState*> other_pools_;
};

StoreState* StepReader::store(double number, int32_t item) {
  if (!args.ok()) return nullptr;
  auto* state = static_cast<StoreState*>(handles_.find(number, HandleTraits<StoreState>::kKind));
  const Place place{item < 0 ? "cache" : "layer", item};
  if (state == nullptr) {
    args.fail(place.text(), "a KVCache", "something else");
    return nullptr;
  }
  if (state->store == nullptr) {
    args.fail(error_status(SKV_DISPOSED, args.op(),
                           "expected a live cache for %s, got a disposed one",
                           place.text().c_str()));
    return nullptr;
  }
  DeviceState* const device = state->pool->device.get();
  if (device_ == nullptr) {
    device_ = device;
    if (!device->is_usable()) args.fail(device->check_usable(args.op()));
  } else if (device_ != device) {
    args.fail(error_status(SKV_WRONG_DEVICE, args.op(),
                           "expected a cache on the device of the first one for %s, got one on %s",
                           place.text().c_str(), device->kind().c_str()));
  }
  require_idle(&args, *state);
  if (!args.ok()) return nullptr;
  if (pool_ == nullptr) pool_ = state->pool.get();
  if (pool_ != state->pool.get()) other_pools_.push_back(state->pool.get());
  if (keeps_alive_ && std::none_of(stores_.begin(), stores_.end(),
                                   [&](const auto& other) { return other.get() == state; })) {
    stores_.push_back(state->shared_from_this());
  }
  return state;
}

int32_t StepReader::count(double number, const Place& place) {
  if (number >= 0 && number <= INT32_MAX && std::floor(number) == number) {
    return static_cast<int32_t>(number);
  }
  args.fail(place.text(), "an integer of 0 or more", number_text(number));
  return 0;
}

int32_t StepReader::layer(double number, const StoreState& state, int32_t item) {
  const int32_t layers = state.store->config().layers;
  if (number >= 0 && number < layers && std::floor(number) == number) {
    return static_cast<int32_t>(number);
  }
  args.fail(Place{"layer", item}.text(), "an integer in [0, " + std::to_string(layers) + ")",
            number_text(number));
  return 0;
}

float StepReader::scale(double number) {
  if (!std::isfinite(number)) args.fail("scale", "a finite number", number_text(number));
  return static_cast<float>(number);
}

RowView StepReader::rows(double number, napi_value given, const StoreState& state,
                         const Place& place, const RowsShape& shape) {
  if (!args.ok()) return {};
  if (void* tensor = handles_.find(number, HandleTraits<TensorState>::kKind)) {
    return tensor_rows(static_cast<TensorState*>(tensor), state, place, shape);
  }
  bool is_array = false;
  if (napi_is_typedarray(args.env(), given, &is_array) == napi_ok && is_array) {
    return array_rows(given, state, place, shape);
  }
  args.fail(place.text(), "a Tensor or Float32Array of " + shape.text(place), args.describe(given));
  return {};
}

RowView StepReader::array_rows(napi_value array, const StoreState& state, const Place& place,
                               const RowsShape& shape) {
  napi_typedarray_type type = napi_int8_array;
  size_t length = 0;
  void* data = nullptr;
  napi_get_typedarray_info(args.env(), array, &type, &length, &data, nullptr, nullptr);
  const int64_t plane = static_cast<int64_t>(shape.heads) * shape.tokens * shape.head_dim;
  const int64_t wanted = place.plane < 0 ? plane : plane * place.planes;
  if (type != napi_float32_array || static_cast<int64_t>(length) != wanted) {
    args.fail(place.text(), "a Float32Array of " + shape.text(place),
              type == napi_float32_array ? "one of length " + std::to_string(length)
                                         : "another typed array");
    return {};
  }
  const DeviceState& device = *state.pool->device;
  if (!device.uses_host_memory() || keeps_alive_) {
    args.fail(place.text(), "a Tensor on " + device.kind(), "a Float32Array");
    return {};
  }
  RowView rows;
  rows.data = static_cast<float*>(data) + std::max(place.plane, 0) * plane;
  rows.dtype = SKV_F32;
  rows.stride_token = shape.head_dim;
  rows.stride_head = static_cast<int64_t>(shape.tokens) * shape.head_dim;
  return rows;
}

bool StepReader::is_usable(TensorState* tensor, const StoreState& state, const Place& place) {
  if (tensor->storage == nullptr) {
    args.fail(error_status(SKV_DISPOSED, args.op(),
                           "expected a live Tensor for %s, got a disposed one",
                           place.text().c_str()));
    return false;
  }
  if (tensor->device != state.pool->device) {
    args.fail(error_status(SKV_WRONG_DEVICE, args.op(),
                           "expected a Tensor on the cache's device for %s, got one on %s",
                           place.text().c_str(), tensor->device->kind().c_str()));
    return false;
  }
  if (keeps_alive_) args.keepalive().push_back(tensor->storage);
  return true;
}

RowView StepReader::tensor_rows(TensorState* tensor, const StoreState& state, const Place& place,
                                const RowsShape& shape) {
  if (!is_usable(tensor, state, place)) return {};
  if ((dtype_bit(tensor->dtype) & kFloatDtypes) == 0) {
    args.fail(place.text(), "dtype f32, f16 or bf16", dtype_name(tensor->dtype));
    return {};
  }
  const size_t first = place.plane < 0 ? 0 : 1;
  const std::vector<int64_t>& sizes = tensor->shape;
  const bool fits = sizes.size() == first + 3 && (first == 0 || sizes[0] == place.planes) &&
                    sizes[first] == shape.heads && sizes[first + 1] == shape.tokens &&
                    sizes[first + 2] == shape.head_dim &&
                    (tensor->strides[first + 2] == 1 || tensor->elements() == 0);
  if (!fits) {
    args.fail(place.text(), "shape " + shape.text(place) + " with dense rows", sizes_text(sizes));
    return {};
  }
  RowView rows;
  rows.dtype = tensor->dtype;
  rows.stride_head = tensor->strides[first];
  rows.stride_token = tensor->strides[first + 1];
  rows.data = tensor->data();
  if (place.plane > 0 && rows.data != nullptr) {
    rows.data = static_cast<std::byte*>(rows.data) +
                static_cast<size_t>(place.plane * tensor->strides[0]) * dtype_bytes(rows.dtype);
  }
  return rows;
}

// Sums [rows, slots], or [planes, rows, slots]; whether the slots suffice is seen after the append.
void StepReader::scores(double number, int32_t mode, const StoreState& state, const Place& place,
                        AttendRequest* request) {
  if (!args.ok() || mode == SKV_SCORE_NONE) return;
  auto* tensor = static_cast<TensorState*>(handles_.find(number, HandleTraits<TensorState>::kKind));
  if (tensor == nullptr) {
    args.fail(place.text(), "a Tensor of this package", "something else");
    return;
  }
  if (!is_usable(tensor, state, place)) return;
  const StoreConfig& config = state.store->config();
  const int64_t rows =
      static_cast<int64_t>(config.kv_heads) * (mode == SKV_SCORE_QUERY_HEAD ? config.group : 1);
  const size_t first = place.plane < 0 ? 0 : 1;
  const std::vector<int64_t>& sizes = tensor->shape;
  const bool fits = tensor->dtype == SKV_F32 && sizes.size() == first + 2 &&
                    (first == 0 || sizes[0] == place.planes) && sizes[first] == rows &&
                    (tensor->strides[first + 1] == 1 || sizes[first + 1] <= 1);
  if (!fits) {
    const std::string planes = first == 0 ? "" : std::to_string(place.planes) + ", ";
    args.fail(place.text(),
              "f32 [" + planes + std::to_string(rows) + ", at least the slots] with dense rows",
              std::string(dtype_name(tensor->dtype)) + " " + sizes_text(sizes));
    return;
  }
  request->score_mode = mode;
  request->score_slots = sizes[first + 1];
  request->score_stride = tensor->strides[first];
  request->score_sum = static_cast<float*>(tensor->data());
  if (place.plane > 0 && request->score_sum != nullptr) {
    request->score_sum += place.plane * tensor->strides[0];
  }
}

// Throws a failed Status of the device, else gives undefined.
napi_value finish(napi_env env, DeviceState* device, const Status& status) {
  const Status noted = device->note(status);
  if (!is_ok(noted)) throw_device_status(env, device, noted);
  return nullptr;
}

// What steps on the JavaScript thread keep from call to call.
struct StepScratch {
  Step step;
  std::vector<StepItem> items;
};

StepScratch& scratch_of(Environment* environment) {
  return environment->scratch<StepScratch>(Environment::kStepScratch);
}

Status run_one(const QuickCall& call, DeviceState* device, const char* op, const StepItem& item) {
  SKV_RETURN_IF_ERROR(device->check_runs_now(op));
  StepScratch& scratch = scratch_of(call.environment);
  scratch.items.assign(1, item);
  return scratch.step.run(device->runner(), op, false, scratch.items);
}

// (store, layer, k, v, tokens)
napi_value append(const QuickCall& call) {
  StepReader reader(call.env, call.environment, "append", false);
  StoreState* const state = reader.store(call.arguments[0]);
  if (state == nullptr) return reader.args.raise();
  const StoreConfig& config = state->store->config();
  StepItem item;
  item.store = state->store.get();
  item.layer = reader.layer(reader.number_of(call.arguments[1], -1), *state, -1);
  item.appends = true;
  item.tokens = reader.count(call.arguments[4], "tokens");
  const RowsShape shape{config.kv_heads, item.tokens, config.head_dim};
  item.k = reader.rows(call.arguments[2], *state, Place{"k"}, shape);
  item.v = reader.rows(call.arguments[3], *state, Place{"v"}, shape);
  if (!reader.args.ok()) return reader.args.raise();
  const Status status = run_one(call, reader.device(), "append", item);
  state->pool->report();
  return finish(call.env, reader.device(), status);
}

// (store, layer, q, out, queries, scale, sum, mode)
napi_value attend(const QuickCall& call) {
  StepReader reader(call.env, call.environment, "attend", false);
  StoreState* const state = reader.store(call.arguments[0]);
  if (state == nullptr) return reader.args.raise();
  const StoreConfig& config = state->store->config();
  StepItem item;
  item.store = state->store.get();
  item.layer = reader.layer(reader.number_of(call.arguments[1], -1), *state, -1);
  item.attends = true;
  AttendRequest& request = item.request;
  request.queries = reader.count(call.arguments[4], "queries");
  const RowsShape shape{config.kv_heads * config.group, request.queries, config.head_dim};
  request.q = reader.rows(call.arguments[2], *state, Place{"q"}, shape);
  request.out = reader.rows(call.arguments[3], *state, Place{"out"}, shape);
  reader.require_same_dtype(request, Place{"out"});
  request.scale = reader.scale(reader.number_of(call.arguments[5], NAN));
  reader.scores(reader.number_of(call.arguments[6], kNoHandle),
                static_cast<int32_t>(reader.number_of(call.arguments[7], SKV_SCORE_NONE)), *state,
                Place{"sum"}, &request);
  if (!reader.args.ok()) return reader.args.raise();
  return finish(call.env, reader.device(), run_one(call, reader.device(), "attend", item));
}

// The numbers of an item of storeStep. Rows are the number of a Tensor, -2 - i for element i of the
// list of arrays, or -1 for none.
enum ItemField {
  kStore,
  kLayer,
  kTokens,
  kKeys,
  kValues,
  kQueries,
  kOut,
  kScale,
  kSum,
  kMode,
  kItemFields
};

struct ItemPlace {
  int32_t index = -1;  // in a list
  int32_t planes = 0;  // > 0: rows are [planes, ...], and the item takes those of its layer
};

void read_item(StepReader* reader, const double* fields, napi_value arrays, const ItemPlace& where,
               StepItem* item) {
  const int32_t index = where.index;
  StoreState* const state = reader->store(fields[kStore], index);
  if (state == nullptr) return;
  const StoreConfig& config = state->store->config();
  item->store = state->store.get();
  item->layer = reader->layer(fields[kLayer], *state, index);
  item->tokens = reader->count(fields[kTokens], Place{"tokens", index});
  const int32_t plane = where.planes > 0 ? item->layer : -1;
  const auto rows = [&](ItemField field, const char* name, int32_t heads) {
    napi_value given = nullptr;
    if (fields[field] < kNoHandle && reader->args.ok()) {
      const auto at = static_cast<uint32_t>(-2 - fields[field]);
      napi_get_element(reader->args.env(), arrays, at, &given);
    }
    return reader->rows(fields[field], given, *state, Place{name, index, plane, where.planes},
                        RowsShape{heads, item->tokens, config.head_dim});
  };
  item->appends = fields[kKeys] != kNoHandle || fields[kValues] != kNoHandle;
  if (item->appends) {
    item->k = rows(kKeys, "k", config.kv_heads);
    item->v = rows(kValues, "v", config.kv_heads);
  }
  item->attends = true;
  AttendRequest& request = item->request;
  request.queries = item->tokens;
  request.q = rows(kQueries, "q", config.kv_heads * config.group);
  request.out = rows(kOut, "out", config.kv_heads * config.group);
  reader->require_same_dtype(request, Place{"out", index});
  request.scale = reader->scale(fields[kScale]);
  reader->scores(fields[kSum], static_cast<int32_t>(fields[kMode]), *state,
                 Place{"sum", index, plane, where.planes}, &request);
}

constexpr const char* kStepOp = "step";
constexpr const char* kBatchOp = "attendBatch";

// (fields, n, arrays, ...): a list of n items; n < 0: all layers of one cache, whose rows the one
// item describes.
struct StepCall {
  explicit StepCall(const QuickCall& call) {
    double n = 0;
    static_cast<void>(napi_get_value_double(call.env, call.arguments[1], &n));
    has_list = n >= 0;
    op = has_list ? kBatchOp : kStepOp;
    count = has_list ? static_cast<size_t>(n) : 1;
  }
  void read(const QuickCall& call, StepReader* reader, std::vector<StepItem>* items) const;

  bool has_list;
  const char* op;
  size_t count;
};

void StepCall::read(const QuickCall& call, StepReader* reader, std::vector<StepItem>* items) const {
  napi_typedarray_type type = napi_int8_array;
  size_t length = 0;
  void* data = nullptr;
  napi_get_typedarray_info(call.env, call.arguments[0], &type, &length, &data, nullptr, nullptr);
  auto* const fields = static_cast<double*>(data);
  if (type != napi_float64_array || length < count * kItemFields) {
    reader->args.fail("items", "their fields", "fewer");
    return;
  }
  items->clear();
  if (has_list) {
    for (size_t i = 0; i < count && reader->args.ok(); ++i) {
      read_item(reader, fields + i * kItemFields, call.arguments[2],
                ItemPlace{static_cast<int32_t>(i)}, &items->emplace_back());
    }
    return;
  }
  const StoreState* const state = reader->store(fields[kStore], -1);
  const int32_t layers = state == nullptr ? 0 : state->store->config().layers;
  for (int32_t layer = 0; layer < layers && reader->args.ok(); ++layer) {
    fields[kLayer] = layer;
    read_item(reader, fields, call.arguments[2], ItemPlace{-1, layers}, &items->emplace_back());
  }
}

napi_value step(const QuickCall& call) {
  const StepCall what(call);
  StepReader reader(call.env, call.environment, what.op, false);
  StepScratch& scratch = scratch_of(call.environment);
  what.read(call, &reader, &scratch.items);
  if (!reader.args.ok()) return reader.args.raise();
  if (scratch.items.empty()) return nullptr;
  OpRunner& runner = reader.device()->runner();
  Status status = reader.device()->check_runs_now(what.op);
  if (is_ok(status)) status = scratch.step.run(runner, what.op, what.has_list, scratch.items);
  reader.report_pools();
  return finish(call.env, reader.device(), status);
}

// The same off the event loop, with a token as fourth argument; Promise<void>.
napi_value step_async(const QuickCall& call) {
  const StepCall what(call);
  StepReader reader(call.env, call.environment, what.op, true);
  auto items = std::make_shared<std::vector<StepItem>>();
  what.read(call, &reader, items.get());
  auto job = std::make_unique<Job>();
  reader.args.fail(read_cancel_token(call.env, call.arguments[3], what.op, &job->cancel));
  if (!reader.args.ok()) return reader.args.raise();
  if (items->empty()) {
    Napi::Promise::Deferred done = Napi::Promise::Deferred::New(call.env);
    done.Resolve(Napi::Env(call.env).Undefined());
    return done.Promise();
  }
  job->op = what.op;
  job->keepalive = std::move(reader.args.keepalive());
  std::vector<std::shared_ptr<Store>> stores;  // also if their caches are disposed meanwhile
  for (const std::shared_ptr<StoreState>& state : reader.stores()) {
    stores.push_back(state->store);
    ++state->jobs_in_flight;
    ++state->steps_in_flight;
  }
  job->settled = [states = reader.stores()](const Status&) {
    for (const std::shared_ptr<StoreState>& state : states) {
      --state->jobs_in_flight;
      --state->steps_in_flight;
      state->pool->report();
    }
  };
  job->work = [items, stores, what](OpRunner& run) {
    Step own;
    SKV_RETURN_IF_ERROR(own.run(run, what.op, what.has_list, *items));
    return run.synchronize();
  };
  return queue_job(call.env, reader.stores().front()->pool->device, std::move(job));
}

}  // namespace

void register_store_step(Napi::Env env, Napi::Object exports) {
  export_quick<append>(env, exports, "storeAppend");
  export_quick<attend>(env, exports, "storeAttend");
  export_quick<step>(env, exports, "storeStep");
  export_quick<step_async>(env, exports, "storeStepAsync");
}

}  // namespace spindlekv
