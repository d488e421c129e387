#include "binding/ops/key_stats_outputs.h"
#include "binding/ops/op.h"
#include "binding/ops/register.h"
#include "binding/ops/runs.h"

namespace spindlekv {
namespace {

struct KeyStatsCall {
  static constexpr char kName[] = "keyStats";
  SkvKeyStatsParams params{};
  HeadLists lists;

  void read(const ObjectReader& reader);
  static Status check(const SkvKeyStatsParams& params) { return check_key_stats(params); }
  static Status run(OpRunner& run, const SkvKeyStatsParams& params) {
    return run.key_stats(params);
  }
};

void KeyStatsCall::read(const ObjectReader& reader) {
  KvShape shape;
  lists = read_heads(reader, "heads", &shape);
  // Heads without a run say nothing about their rows.
  params.dtype = shape.dtype < 0 ? SKV_F32 : shape.dtype;
  params.head_dim = shape.head_dim == 0 ? kMinHeadDim : shape.head_dim;
  require_head_dim(reader, params.head_dim);
  params.kv_heads = static_cast<int32_t>(lists.heads.size());
  params.reindex = reader.flag_or("reindex", false) ? 1 : 0;
  params.rope = read_rope(reader, "rope");
  read_key_stats_outputs(reader, lists.most_slots, &params);
  params.n_runs = static_cast<int32_t>(lists.runs.size());
  params.runs = lists.runs.data();
  params.heads = lists.heads.data();
}

}  // namespace

void register_key_stats(Napi::Env env, Napi::Object exports) {
  register_op<KeyStatsCall>(env, exports);
}

}  // namespace spindlekv
