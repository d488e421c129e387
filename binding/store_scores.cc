// Scores of a layer's slots, as JavaScript asks for them.
#include <algorithm>

#include "binding/callback.h"
#include "binding/ops/key_stats_outputs.h"
#include "binding/ops/window_statistics.h"
#include "binding/store.h"

namespace spindlekv {
namespace {

int32_t longest_head(const Store& store, int32_t layer) {
  int32_t most = 0;
  for (int32_t h = 0; h < store.config().kv_heads; ++h) {
    most = std::max(most, store.head(layer, h).slots());
  }
  return most;
}

Napi::Value window_scores(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "windowScores");
  const std::shared_ptr<StoreState> state = store_argument(&args, info[0]);
  const ObjectReader options = args.object(info[1], "options");
  if (!args.ok()) return raise(info, &args);
  const StoreConfig& config = state->store->config();
  const int32_t layer = options.integer("layer", 0, config.layers - 1);
  const int32_t window = options.integer("window", 1, 65536);
  SkvWindowScoresParams params{};
  params.norm = options.choice("norm", {"sum", "window", "causalCount"});
  params.scale = static_cast<float>(options.number("scale"));
  if (args.ok()) {
    const int32_t query_heads = config.kv_heads * config.group;
    read_window_statistics(options, {query_heads, window, longest_head(*state->store, layer)},
                           &params);
  }
  if (!args.ok()) return raise(info, &args);
  const std::shared_ptr<Store> store = state->store;
  return queue_store_job(info, &args, state, info[2],
                         [store, layer, window, params](OpRunner& run) {
                           return store->window_scores(run, layer, window, params);
                         });
}

Napi::Value key_stats(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "keyStats");
  const std::shared_ptr<StoreState> state = store_argument(&args, info[0]);
  const ObjectReader options = args.object(info[1], "options");
  if (!args.ok()) return raise(info, &args);
  const StoreConfig& config = state->store->config();
  const int32_t layer = options.integer("layer", 0, config.layers - 1);
  SkvKeyStatsParams params{};
  params.kv_heads = config.kv_heads;
  if (args.ok()) {
    read_key_stats_outputs(options, longest_head(*state->store, layer), &params);
  }
  if (!args.ok()) return raise(info, &args);
  const std::shared_ptr<Store> store = state->store;
  return queue_store_job(info, &args, state, info[2], [store, layer, params](OpRunner& run) {
    return store->key_stats(run, layer, params);
  });
}

}  // namespace

void register_store_scores(Napi::Env env, Napi::Object exports) {
  export_function<window_scores>(env, exports, "storeWindowScores");
  export_function<key_stats>(env, exports, "storeKeyStats");
}

}  // namespace spindlekv
