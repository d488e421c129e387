#include "binding/callback.h"
#include "binding/store.h"

namespace spindlekv {
namespace {

Napi::Value create(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "compress");
  const std::shared_ptr<StoreState> store = store_argument(&args, info[1]);
  if (store != nullptr) require_idle(&args, *store);
  if (!args.ok()) return raise(info, &args);
  auto state = std::make_shared<DraftState>();
  state->store = store;
  state->draft = std::make_shared<Draft>(store->store);
  wrap_handle(info.Env(), info[0], std::move(state));
  return info.Env().Undefined();
}

// Rows moved in about the time that a hop to the job thread and back takes.
constexpr int64_t kShortKeepBytes = int64_t{1} << 20;

Napi::Value queue_draft_job(const Napi::CallbackInfo& info, Arguments* args,
                            const std::shared_ptr<DraftState>& state, napi_value token,
                            bool is_short, std::function<Status(OpRunner&)> work) {
  auto job = std::make_unique<Job>();
  job->op = args->op();
  job->is_short = is_short;
  args->fail(read_cancel_token(info.Env(), token, args->op(), &job->cancel));
  if (!args->ok()) return raise(info, args);
  job->work = std::move(work);
  job->keepalive = std::move(args->keepalive());
  job->keepalive.push_back(state);
  ++state->jobs_in_flight;
  ++state->store->jobs_in_flight;
  job->settled = [state](const Status&) {
    --state->jobs_in_flight;
    --state->store->jobs_in_flight;
    state->store->pool->report();
  };
  return Napi::Value(info.Env(), queue_job(info.Env(), state->store->pool->device, std::move(job)));
}

Napi::Value keep(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "keep");
  const std::shared_ptr<DraftState> state = draft_argument(&args, info[0]);
  const ObjectReader options = args.object(info[1], "options");
  if (!args.ok()) return raise(info, &args);
  const StoreConfig& config = state->store->store->config();
  const int32_t layer = options.integer("layer", 0, config.layers - 1);
  KeepOptions keep_options;
  keep_options.piece_slots = options.integer_or("pieceSlots", 0, INT32_MAX, 0);
  keep_options.rotate = options.flag_or("rotate", false);
  keep_options.leave_gaps = options.flag_or("leaveGaps", false);
  const TensorState* indices = options.tensor("indices", {.dtypes = dtype_bit(SKV_I32), .rank = 2});
  const TensorState* masks =
      options.tensor_or_null("masks", {.dtypes = dtype_bit(SKV_U16), .rank = 2});
  const std::vector<int32_t> counts = options.integers("counts", config.kv_heads);
  options.require_axis("indices", indices, 0, config.kv_heads);
  options.require_axis("masks", masks, 0, config.kv_heads);
  std::vector<KeptSlots> heads;
  for (size_t h = 0; args.ok() && h < counts.size(); ++h) {
    options.require_axis_at_least("indices", indices, 1, counts[h]);
    options.require_axis_at_least("masks", masks, 1, counts[h]);
    if (!args.ok()) break;
    const int64_t row = static_cast<int64_t>(h);
    KeptSlots kept;
    kept.indices = static_cast<const int32_t*>(indices->data()) + row * indices->strides[0];
    if (masks != nullptr) {
      kept.masks = static_cast<const uint16_t*>(masks->data()) + row * masks->strides[0];
    }
    kept.count = counts[h];
    heads.push_back(kept);
  }
  if (!args.ok()) return raise(info, &args);
  const std::shared_ptr<Draft> draft = state->draft;
  const bool is_short = runs_short_jobs_at_once(*state->store->pool->device) &&
                        draft->keep_moves_at_most(kShortKeepBytes, layer, heads, keep_options);
  return queue_draft_job(info, &args, state, info[2], is_short,
                         [draft, layer, heads, keep_options](OpRunner& run) {
                           return draft->keep(run, layer, heads, keep_options);
                         });
}

void read_cover(const ObjectReader& options, int32_t kv_heads, KnownCover* cover) {
  const TensorRule list{.dtypes = dtype_bit(SKV_I32), .rank = 1, .is_contiguous = true};
  const TensorState* lists = options.tensor("lists", list);
  const TensorState* slots = options.tensor("slots", {.dtypes = dtype_bit(SKV_I32), .rank = 2});
  cover->codewords = options.integers("codewords", 2 * int64_t{kv_heads});
  options.require_axis("slots", slots, 0, kv_heads);
  if (lists == nullptr || slots == nullptr) return;
  cover->lists = static_cast<const int32_t*>(lists->data());
  cover->length = lists->shape[0];
  cover->slots = static_cast<const int32_t*>(slots->data());
  cover->slot_stride = slots->strides[0];
}

Napi::Value encode(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "encode");
  const std::shared_ptr<DraftState> state = draft_argument(&args, info[0]);
  const ObjectReader options = args.object(info[1], "options");
  if (!args.ok()) return raise(info, &args);
  const StoreConfig& config = state->store->store->config();
  const int32_t layer = options.integer("layer", 0, config.layers - 1);
  EncodeOptions encode_options;
  encode_options.theta_k = static_cast<float>(options.number("thetaK"));
  encode_options.theta_v = static_cast<float>(options.number("thetaV"));
  encode_options.refine = options.integer("refine", 0, 100);
  encode_options.max_codewords = options.integer("codewords", 0, INT32_MAX);
  encode_options.raw_recent = options.integer("rawRecent", 0, INT32_MAX);
  if (args.ok() && options.has("cover")) {
    read_cover(options.object("cover"), config.kv_heads, &encode_options.cover);
  }
  if (!args.ok()) return raise(info, &args);
  const std::shared_ptr<Draft> draft = state->draft;
  return queue_draft_job(info, &args, state, info[2], false,
                         [draft, layer, encode_options](OpRunner& run) {
                           return draft->encode(run, layer, encode_options);
                         });
}

Napi::Value bytes(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "compress");
  const std::shared_ptr<DraftState> state = draft_argument(&args, info[0]);
  const ObjectReader options = args.object(info[1], "options");
  if (!args.ok()) return raise(info, &args);
  const StoreConfig& config = state->store->store->config();
  const int32_t layer = options.integer("layer", 0, config.layers - 1);
  if (!args.ok()) return raise(info, &args);
  return Napi::Number::New(info.Env(), static_cast<double>(state->draft->bytes(layer).total));
}

Napi::Value commit(const Napi::CallbackInfo& info) {
  Arguments args(info.Env(), "compress");
  const std::shared_ptr<DraftState> state = draft_argument(&args, info[0]);
  if (state != nullptr) require_idle(&args, *state->store);
  if (!args.ok()) return raise(info, &args);
  state->draft->commit();
  state->draft.reset();
  state->store->pool->report();
  return info.Env().Undefined();
}

Napi::Value dispose(const Napi::CallbackInfo& info) {
  const std::shared_ptr<DraftState> state = unwrap_handle<DraftState>(info.Env(), info[0]);
  if (state != nullptr && state->draft != nullptr) {
    state->draft.reset();  // jobs in flight hold their own share
    state->store->pool->report();
  }
  return info.Env().Undefined();
}

}  // namespace

std::shared_ptr<DraftState> draft_argument(Arguments* args, napi_value value) {
  std::shared_ptr<DraftState> state = unwrap_handle<DraftState>(args->env(), value);
  if (state == nullptr) {
    args->fail("draft", "a Draft", args->describe(value));
    return nullptr;
  }
  if (state->draft == nullptr || state->store->store == nullptr) {
    args->fail(error_status(SKV_DISPOSED, args->op(),
                            "expected a live draft of a live cache for draft, got a disposed one"));
    return nullptr;
  }
  args->fail(state->store->pool->device->check_usable(args->op()));
  return args->ok() ? state : nullptr;
}

void register_draft(Napi::Env env, Napi::Object exports) {
  export_function<create>(env, exports, "draftCreate");
  export_function<keep>(env, exports, "draftKeep");
  export_function<encode>(env, exports, "draftEncode");
  export_function<bytes>(env, exports, "draftBytes");
  export_function<commit>(env, exports, "draftCommit");
  export_function<dispose>(env, exports, "draftDispose");
}

}  // namespace spindlekv
