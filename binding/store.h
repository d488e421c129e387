// Pools, stores and drafts as JavaScript sees them: state behind the handles of lib/cache.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>

#include "binding/args.h"
#include "binding/device.h"
#include "binding/handle.h"
#include "core/draft.h"
#include "core/store.h"

namespace spindlekv {

struct PoolState {
  std::shared_ptr<DeviceState> device;
  std::shared_ptr<PagePool> pool;  // nullptr once disposed
  int64_t reported_bytes = 0;      // told to the garbage collector

  // Tells the garbage collector what the pool's slabs grew or shrank by. JavaScript thread.
  void report();
  ~PoolState();
};

struct StoreState : std::enable_shared_from_this<StoreState> {
  std::shared_ptr<PoolState> pool;
  std::shared_ptr<Store> store;  // nullptr once disposed
  int32_t jobs_in_flight = 0;    // JavaScript thread only; a store with jobs refuses changes
  int32_t steps_in_flight = 0;   // of those the ones that change the store; it cannot be read then
};

struct DraftState {
  std::shared_ptr<StoreState> store;
  std::shared_ptr<Draft> draft;  // nullptr once committed or disposed
  int32_t jobs_in_flight = 0;
};

template <>
struct HandleTraits<PoolState> {
  static constexpr char kName[] = "PagePool";
  static constexpr uint64_t kKind = 4;
};
template <>
struct HandleTraits<StoreState> {
  static constexpr char kName[] = "Store";
  static constexpr uint64_t kKind = 5;
};
template <>
struct HandleTraits<DraftState> {
  static constexpr char kName[] = "Draft";
  static constexpr uint64_t kKind = 6;
};

// The live state behind a handle; fails the arguments and returns nullptr otherwise.
std::shared_ptr<PoolState> pool_argument(Arguments* args, napi_value value);
std::shared_ptr<StoreState> store_argument(Arguments* args, napi_value value);
std::shared_ptr<DraftState> draft_argument(Arguments* args, napi_value value);

// An integer in [0, layers); fails the arguments and returns 0 otherwise.
int32_t layer_argument(Arguments* args, const StoreState& state, napi_value value);

// Fails with SKV_BUSY while jobs work on the store.
void require_idle(Arguments* args, const StoreState& state);

// Queues work on the store; it counts as busy until the job has settled.
Napi::Value queue_store_job(const Napi::CallbackInfo& info, Arguments* args,
                            const std::shared_ptr<StoreState>& state, napi_value token,
                            std::function<Status(OpRunner&)> work,
                            std::function<napi_value(napi_env)> result = nullptr);

void register_store(Napi::Env env, Napi::Object exports);
void register_store_step(Napi::Env env, Napi::Object exports);
void register_store_scores(Napi::Env env, Napi::Object exports);
void register_store_stats(Napi::Env env, Napi::Object exports);
void register_export(Napi::Env env, Napi::Object exports);
void register_draft(Napi::Env env, Napi::Object exports);
void register_pool(Napi::Env env, Napi::Object exports);

}  // namespace spindlekv
