// What a store holds, as JavaScript sees it: bytes, heads, planned sizes, snapshots.
#include <algorithm>
#include <cstring>
#include <vector>

#include "binding/callback.h"
#include "binding/store.h"

namespace spindlekv {
namespace {

// result(store, layer) for the store and the layer that a call names.
template <class Result>
Napi::Value of_layer(const Napi::CallbackInfo& info, const char* op, const Result& result) {
  Arguments args(info.Env(), op);
  const std::shared_ptr<StoreState> state = store_argument(&args, info[0]);
  if (!args.ok()) return raise(info, &args);
  const int32_t layer = layer_argument(&args, *state, info[1]);
  if (!args.ok()) return raise(info, &args);
  return result(*state->store, layer);
}

// The numbers of one head, in the order of HeadStats (lib/cache/native-store.ts).
void add_numbers(const HeadSegments& head, std::vector<double>* numbers) {
  int64_t k_codewords = 0;
  int64_t v_codewords = 0;
  int64_t encoded = 0;
  bool rotated = false;
  bool plain = true;
  for (const Segment& segment : head.segments) {
    rotated = rotated || segment.rotated != 0;
    plain = plain && segment.shape.codec == SKV_CODEC_RAW && !segment.shape.has_mask &&
            !segment.shape.has_beta && segment.rotated == head.segments.front().rotated;
    if (segment.shape.codec != SKV_CODEC_CODEBOOK) continue;
    encoded += segment.slots;
    k_codewords += segment.shape.k_codewords;
    v_codewords += segment.shape.v_codewords;
  }
  for (const int64_t value :
       {int64_t{head.slots()}, encoded, k_codewords, v_codewords,
        static_cast<int64_t>(head.segments.size()), int64_t{rotated}, int64_t{plain}}) {
    numbers->push_back(static_cast<double>(value));
  }
}

// A layer as numbers, which describeLayer (lib/cache/native-store.ts) makes objects of: properties
// set from here cost ten times as much, and a cache that is kept at its budget asks at every step.
Napi::Value describe(const Napi::CallbackInfo& info) {
  return of_layer(info, "stats", [&](const Store& store, int32_t layer) {
    const ByteParts bytes = store.bytes(layer);
    std::vector<double> numbers;
    for (const int64_t value :
         {int64_t{store.next_position(layer)}, int64_t{store.recorded_queries(layer)}, bytes.raw,
          bytes.codewords, bytes.references, bytes.magnitudes, bytes.positions, bytes.masks,
          bytes.betas, bytes.slack, bytes.total}) {
      numbers.push_back(static_cast<double>(value));
    }
    for (int32_t h = 0; h < store.config().kv_heads; ++h) {
      add_numbers(store.head(layer, h), &numbers);
    }
    Napi::Float64Array result = Napi::Float64Array::New(info.Env(), numbers.size());
    std::copy(numbers.begin(), numbers.end(), result.Data());
    return result;
  });
}

// Slots of each head: what is asked for with every step, of all that describe() tells.
Napi::Value slots(const Napi::CallbackInfo& info) {
  return of_layer(info, "slots", [&](const Store& store, int32_t layer) {
    Napi::Array heads = Napi::Array::New(info.Env());
    for (int32_t h = 0; h < store.config().kv_heads; ++h) {
      heads.Set(static_cast<uint32_t>(h), store.head(layer, h).slots());
    }
    return heads;
  });
}

// The position of the next token.
Napi::Value position(const Napi::CallbackInfo& info) {
  return of_layer(info, "tokens", [&](const Store& store, int32_t layer) {
    return Napi::Number::New(info.Env(), store.next_position(layer));
  });
}

Napi::Value query_bytes(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "stats");
  const std::shared_ptr<StoreState> state = store_argument(&args, info[0]);
  if (!args.ok()) return raise(info, &args);
  return Napi::Number::New(info.Env(), static_cast<double>(state->store->recorded_query_bytes()));
}

// Bytes in whole pages of a head stored as `slots` encoded ones and `rawSlots` behind.
Napi::Value planned_bytes(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "plannedBytes");
  const std::shared_ptr<StoreState> state = store_argument(&args, info[0]);
  const ObjectReader shape = args.object(info[1], "shape");
  SegmentShape codebook{SKV_CODEC_CODEBOOK, shape.integer("slots", 0, INT32_MAX),
                        shape.integer("kCodewords", 0, INT32_MAX),
                        shape.integer("vCodewords", 0, INT32_MAX)};
  codebook.has_mask = shape.flag_or("hasMask", false);
  const int32_t raw_slots = shape.integer("rawSlots", 0, INT32_MAX);
  if (!args.ok()) return raise(info, &args);
  const StoreConfig& config = state->store->config();
  const size_t bytes = encoded_bytes(state->store->pool(), config.dtype, config.head_dim, codebook,
                                     raw_slots, codebook.has_mask);
  return Napi::Number::New(info.Env(), static_cast<double>(bytes));
}

Napi::Value snapshot(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "snapshot");
  const std::shared_ptr<StoreState> state = store_argument(&args, info[0]);
  if (!args.ok()) return raise(info, &args);
  const std::shared_ptr<Store> store = state->store;
  auto bytes = std::make_shared<std::vector<uint8_t>>();
  return queue_store_job(
      info, &args, state, info.Env().Undefined(),
      [store, bytes](OpRunner& run) { return store->snapshot(run, bytes.get()); },
      [bytes](napi_env env) -> napi_value {
        void* data = nullptr;
        napi_value buffer = nullptr;
        if (napi_create_arraybuffer(env, bytes->size(), &data, &buffer) != napi_ok) return nullptr;
        if (!bytes->empty()) std::memcpy(data, bytes->data(), bytes->size());
        return buffer;
      });
}

}  // namespace

void register_store_stats(Napi::Env env, Napi::Object exports) {
  export_function<describe>(env, exports, "storeDescribe");
  export_function<slots>(env, exports, "storeSlots");
  export_function<position>(env, exports, "storePosition");
  export_function<query_bytes>(env, exports, "storeQueryBytes");
  export_function<planned_bytes>(env, exports, "storePlannedBytes");
  export_function<snapshot>(env, exports, "storeSnapshot");
}

}  // namespace spindlekv
