// Reading a head's stored arrays as they are: for tools and tests that look inside a cache.
#include <algorithm>
#include <cstring>

#include "binding/callback.h"
#include "binding/convert.h"
#include "binding/store.h"

namespace spindlekv {
namespace {

// (store, { layer, head })
struct HeadArgument {
  std::shared_ptr<StoreState> state;
  int32_t layer = 0;
  int32_t kv_head = 0;
};

HeadArgument head_argument(Arguments* args, const Napi::CallbackInfo& info) {
  HeadArgument head;
  head.state = store_argument(args, info[0]);
  const ObjectReader options = args->object(info[1], "options");
  if (!args->ok()) return head;
  const StoreConfig& config = head.state->store->config();
  head.layer = options.integer("layer", 0, config.layers - 1);
  head.kv_head = options.integer("head", 0, config.kv_heads - 1);
  return head;
}

// Host copies of one segment's arrays.
struct SegmentCopy {
  SkvRun run{};
  std::vector<uint8_t> k, v, k_ref, v_ref, k_magnitude, v_magnitude, positions, mask, beta;
};

Status copy_segment(OpRunner& run, const Segment& segment, const StoreConfig& config,
                    SegmentCopy* copy) {
  copy->run = run_of(segment, config.dtype, config.head_dim, 0);
  const SkvRun& stored = copy->run;
  const bool is_raw = stored.codec == SKV_CODEC_RAW;
  const size_t row = dtype_bytes(config.dtype) * static_cast<size_t>(config.head_dim);
  const size_t slots = static_cast<size_t>(stored.slots);
  const size_t ref = is_raw ? 0 : slots * static_cast<size_t>(stored.ref_bytes);
  const size_t magnitude = is_raw ? 0 : slots * dtype_bytes(config.dtype);
  struct Part {
    const void* from;
    size_t bytes;
    std::vector<uint8_t>* to;
  };
  const Part parts[] = {
      {stored.k, row * (is_raw ? slots : static_cast<size_t>(stored.k_codewords)), &copy->k},
      {stored.v, row * (is_raw ? slots : static_cast<size_t>(stored.v_codewords)), &copy->v},
      {stored.k_ref, ref, &copy->k_ref},
      {stored.v_ref, ref, &copy->v_ref},
      {stored.k_magnitude, magnitude, &copy->k_magnitude},
      {stored.v_magnitude, magnitude, &copy->v_magnitude},
      {stored.positions, slots * sizeof(int32_t), &copy->positions},
      {stored.mask, stored.mask == nullptr ? 0 : slots * sizeof(uint16_t), &copy->mask},
      {stored.beta, stored.beta == nullptr ? 0 : slots * sizeof(float), &copy->beta}};
  for (const Part& part : parts) {
    SKV_RETURN_IF_ERROR(run.download(static_cast<const uint8_t*>(part.from), part.bytes, part.to));
  }
  return ok_status();
}

Napi::Object to_object(Napi::Env env, const SegmentCopy& copy) {
  Napi::Object object = Napi::Object::New(env);
  const auto number = [&](const char* name, int32_t value) { object.Set(name, value); };
  const auto bytes = [&](const char* name, const std::vector<uint8_t>& data) {
    Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(env, data.size());
    if (!data.empty()) std::memcpy(buffer.Data(), data.data(), data.size());
    object.Set(name, buffer);
  };
  object.Set("codec", copy.run.codec == SKV_CODEC_RAW ? "raw" : "codebook");
  number("slots", copy.run.slots);
  object.Set("isRotated", copy.run.rotated != 0);
  number("kCodewords", copy.run.k_codewords);
  number("vCodewords", copy.run.v_codewords);
  number("refBytes", copy.run.ref_bytes);
  bytes("k", copy.k);
  bytes("v", copy.v);
  bytes("kRef", copy.k_ref);
  bytes("vRef", copy.v_ref);
  bytes("kMagnitude", copy.k_magnitude);
  bytes("vMagnitude", copy.v_magnitude);
  bytes("positions", copy.positions);
  bytes("mask", copy.mask);
  bytes("beta", copy.beta);
  return object;
}

// The logical positions of a head's slots, in slot order.
Status read_positions(OpRunner& run, const Store& store, int32_t layer, int32_t kv_head,
                      std::vector<int32_t>* positions) {
  const StoreConfig& config = store.config();
  for (const Segment& segment : store.head(layer, kv_head).segments) {
    const SkvRun stored = run_of(segment, config.dtype, config.head_dim, 0);
    std::vector<int32_t> part;
    SKV_RETURN_IF_ERROR(run.download(stored.positions, static_cast<size_t>(stored.slots), &part));
    positions->insert(positions->end(), part.begin(), part.end());
  }
  return ok_status();
}

Napi::Value positions(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "positions");
  const HeadArgument head = head_argument(&args, info);
  if (!args.ok()) return Napi::Value(info.Env(), args.raise());
  auto result = std::make_shared<std::vector<int32_t>>();
  const std::shared_ptr<Store> store = head.state->store;
  return queue_store_job(
      info, &args, head.state, info.Env().Undefined(),
      [store, head, result](OpRunner& run) {
        return read_positions(run, *store, head.layer, head.kv_head, result.get());
      },
      [result](napi_env env) -> napi_value {
        Napi::Int32Array array = Napi::Int32Array::New(env, result->size());
        std::copy(result->begin(), result->end(), array.Data());
        return array;
      });
}

// Elements of a float dtype as f32.
std::vector<float> to_floats(int32_t dtype, const std::vector<uint8_t>& data) {
  std::vector<float> floats(data.size() / dtype_bytes(dtype));
  if (dtype == SKV_F32) {
    if (!data.empty()) std::memcpy(floats.data(), data.data(), data.size());
    return floats;
  }
  for (size_t i = 0; i < floats.size(); ++i) {
    uint16_t bits;
    std::memcpy(&bits, data.data() + i * sizeof(bits), sizeof(bits));
    floats[i] = dtype == SKV_F16 ? f16_to_f32(bits) : bf16_to_f32(bits);
  }
  return floats;
}

// (store, { layer, head, count }) => Promise<Float32Array> of a query head's recorded rows.
Napi::Value queries(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "queries");
  const std::shared_ptr<StoreState> state = store_argument(&args, info[0]);
  const ObjectReader options = args.object(info[1], "options");
  if (!args.ok()) return Napi::Value(info.Env(), args.raise());
  const StoreConfig& config = state->store->config();
  const int32_t layer = options.integer("layer", 0, config.layers - 1);
  const int32_t head = options.integer("head", 0, config.kv_heads * config.group - 1);
  const int32_t count = options.integer("count", 1, 65536);
  if (!args.ok()) return Napi::Value(info.Env(), args.raise());
  struct Rows {
    int32_t dtype = SKV_F32;
    std::vector<uint8_t> data;
  };
  auto rows = std::make_shared<Rows>();
  const std::shared_ptr<Store> store = state->store;
  return queue_store_job(
      info, &args, state, info.Env().Undefined(),
      [store, layer, head, count, rows](OpRunner& run) {
        return store->read_queries(run, layer, head, count, &rows->dtype, &rows->data);
      },
      [rows](napi_env env) -> napi_value {
        const std::vector<float> floats = to_floats(rows->dtype, rows->data);
        Napi::Float32Array array = Napi::Float32Array::New(env, floats.size());
        std::copy(floats.begin(), floats.end(), array.Data());
        return array;
      });
}

Napi::Value export_head(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "exportHead");
  const HeadArgument head = head_argument(&args, info);
  if (!args.ok()) return Napi::Value(info.Env(), args.raise());
  auto copies = std::make_shared<std::vector<SegmentCopy>>();
  const std::shared_ptr<Store> store = head.state->store;
  return queue_store_job(
      info, &args, head.state, info.Env().Undefined(),
      [store, head, copies](OpRunner& run) {
        for (const Segment& segment : store->head(head.layer, head.kv_head).segments) {
          copies->emplace_back();
          SKV_RETURN_IF_ERROR(copy_segment(run, segment, store->config(), &copies->back()));
        }
        return ok_status();
      },
      [copies](napi_env env) -> napi_value {
        Napi::Array segments = Napi::Array::New(env, copies->size());
        for (size_t s = 0; s < copies->size(); ++s) {
          segments.Set(static_cast<uint32_t>(s), to_object(Napi::Env(env), (*copies)[s]));
        }
        return segments;
      });
}

}  // namespace

void register_export(Napi::Env env, Napi::Object exports) {
  export_function<export_head>(env, exports, "storeExportHead");
  export_function<positions>(env, exports, "storePositions");
  export_function<queries>(env, exports, "storeQueries");
}

}  // namespace spindlekv
