// Appending and attending, for one layer, all layers of a cache, or layers of many caches. Caches
// and tensors come as the numbers of their handles, so that a call of one layer costs little more
// than entering native code.
#include <cmath>
#include <utility>

#include "binding/callback.h"
#include "binding/step_reader.h"
#include "binding/store.h"
#include "core/step.h"

namespace spindlekv {
namespace {

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

// Where an item's parts come from, in words.
struct ItemPlace {
  int32_t index = -1;  // in a list
  int32_t plane = -1;  // of rows that are [planes, ...]: the item's layer
  int32_t planes = 0;

  Place of(const char* name) const { return Place{name, index, plane, planes}; }
};

struct GivenAttend {
  GivenRows q;
  GivenRows out;
  double scale;
  double sum;
  int32_t mode;
};

// The cache and layer that every item begins with; nullptr when the cache is not one.
StoreState* open_item(StepReader* reader, double store, double layer, int32_t index,
                      StepItem* item) {
  StoreState* const state = reader->store(store, index);
  if (state == nullptr) return nullptr;
  item->store = state->store.get();
  item->layer = reader->layer(layer, *state, index);
  return state;
}

void read_append(StepReader* reader, const StoreState& state, const ItemPlace& where,
                 const GivenRows& k, const GivenRows& v, StepItem* item) {
  const StoreConfig& config = state.store->config();
  const RowsShape shape{config.kv_heads, item->tokens, config.head_dim};
  item->appends = true;
  item->k = reader->rows(k, state, where.of("k"), shape);
  item->v = reader->rows(v, state, where.of("v"), shape);
}

void read_attend(StepReader* reader, const StoreState& state, const ItemPlace& where,
                 const GivenAttend& given, StepItem* item) {
  const StoreConfig& config = state.store->config();
  const RowsShape shape{config.kv_heads * config.group, item->tokens, config.head_dim};
  item->attends = true;
  AttendRequest& request = item->request;
  request.queries = item->tokens;
  request.q = reader->rows(given.q, state, where.of("q"), shape);
  request.out = reader->rows(given.out, state, where.of("out"), shape);
  reader->require_same_dtype(request, where.of("out"));
  request.scale = reader->scale(given.scale);
  reader->scores(given.sum, given.mode, state, where.of("sum"), &request);
}

// A call of one layer, begun by reading the cache, the layer and the number of tokens, which it
// calls `tokens_name`.
struct LayerCall {
  LayerCall(const QuickCall& given, const char* op, const char* tokens_name)
      : call(given), reader(given.env, given.environment, op, false) {
    state = open_item(&reader, number(0, kNoHandle), number(1, -1), -1, &item);
    if (state != nullptr) item.tokens = reader.count(number(4, -1), Place{tokens_name});
  }
  double number(size_t argument, double fallback) const {
    return reader.number_of(call.arguments[argument], fallback);
  }
  GivenRows rows(size_t argument) const {
    return GivenRows{number(argument, kNoHandle), call.arguments[argument]};
  }
  Status run_item() {
    const char* const op = reader.args.op();
    SKV_RETURN_IF_ERROR(reader.device()->check_runs_now(op));
    StepScratch& scratch = scratch_of(call.environment);
    scratch.items.assign(1, item);
    return scratch.step.run(reader.device()->runner(), op, false, scratch.items);
  }
  // Throws what is wrong, else gives undefined.
  napi_value run() {
    if (!reader.args.ok()) return reader.args.raise();
    const Status status = run_item();
    if (item.appends) state->pool->report();
    return finish(call.env, reader.device(), status);
  }

  const QuickCall& call;
  StepReader reader;
  StepItem item;
  StoreState* state;  // nullptr when the cache is not one
};

// (store, layer, k, v, tokens)
napi_value append(const QuickCall& call) {
  LayerCall layer(call, "append", "tokens");
  if (layer.state != nullptr) {
    read_append(&layer.reader, *layer.state, ItemPlace{}, layer.rows(2), layer.rows(3),
                &layer.item);
  }
  return layer.run();
}

// (store, layer, q, out, queries, scale, sum, mode)
napi_value attend(const QuickCall& call) {
  LayerCall layer(call, "attend", "queries");
  if (layer.state != nullptr) {
    const GivenAttend given{layer.rows(2), layer.rows(3), layer.number(5, NAN),
                            layer.number(6, kNoHandle),
                            static_cast<int32_t>(layer.number(7, SKV_SCORE_NONE))};
    read_attend(&layer.reader, *layer.state, ItemPlace{}, given, &layer.item);
  }
  return layer.run();
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

// planes > 0: rows are [planes, ...], and the item takes those of its layer.
void read_item(StepReader* reader, const double* fields, napi_value arrays, int32_t index,
               int32_t planes, StepItem* item) {
  StoreState* const state = open_item(reader, fields[kStore], fields[kLayer], index, item);
  if (state == nullptr) return;
  const ItemPlace where{index, planes > 0 ? item->layer : -1, planes};
  item->tokens = reader->count(fields[kTokens], where.of("tokens"));
  const auto rows = [&](ItemField field) {
    GivenRows given{fields[field], nullptr};
    if (given.number < kNoHandle && reader->args.ok()) {
      const auto at = static_cast<uint32_t>(-2 - given.number);
      napi_get_element(reader->args.env(), arrays, at, &given.value);
    }
    return given;
  };
  if (fields[kKeys] != kNoHandle || fields[kValues] != kNoHandle) {
    read_append(reader, *state, where, rows(kKeys), rows(kValues), item);
  }
  const GivenAttend given{rows(kQueries), rows(kOut), fields[kScale], fields[kSum],
                          static_cast<int32_t>(fields[kMode])};
  read_attend(reader, *state, where, given, item);
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
      read_item(reader, fields + i * kItemFields, call.arguments[2], static_cast<int32_t>(i), 0,
                &items->emplace_back());
    }
    return;
  }
  const StoreState* const state = reader->store(fields[kStore], -1);
  const int32_t layers = state == nullptr ? 0 : state->store->config().layers;
  for (int32_t layer = 0; layer < layers && reader->args.ok(); ++layer) {
    fields[kLayer] = layer;
    read_item(reader, fields, call.arguments[2], -1, layers, &items->emplace_back());
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
