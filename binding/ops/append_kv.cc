#include "binding/ops/op.h"
#include "binding/ops/register.h"
#include "binding/ops/runs.h"
#include "core/check/checker.h"

namespace spindlekv {
namespace {

struct AppendKvCall {
  static constexpr char kName[] = "appendKv";
  SkvAppendKvParams params{};
  std::vector<SkvAppendItem> items;

  void read(const ObjectReader& reader);
  static Status check(const SkvAppendKvParams& params) { return check_append_kv(params); }
  static Status run(OpRunner& run, const SkvAppendKvParams& params) {
    return run.append_kv(params);
  }
};

void AppendKvCall::read(const ObjectReader& reader) {
  KvShape shape;
  int32_t src_dtype = -1;
  for (const ObjectReader& item : reader.objects("items")) {
    SkvAppendItem out{};
    const ObjectReader dst = item.object("dst");
    out.dst = read_run(dst, RunUse::kFilled, &shape);
    const uint32_t dtypes = src_dtype < 0 ? kFloatDtypes : dtype_bit(src_dtype);
    const TensorState* k = item.tensor("k", {.dtypes = dtypes, .rank = 2});
    if (k != nullptr) src_dtype = k->dtype;
    const TensorState* v = item.tensor(
        "v", {.dtypes = src_dtype < 0 ? kFloatDtypes : dtype_bit(src_dtype), .rank = 2});
    out.tokens = size_of(item, "k", k, 0);
    item.require_axis("k", k, 1, shape.head_dim);
    item.require_axis("v", v, 1, shape.head_dim);
    item.require_axis("v", v, 0, out.tokens);
    out.k = pointer_of<void>(k);
    out.v = pointer_of<void>(v);
    out.k_stride_token = stride_of(k, 0);
    out.v_stride_token = stride_of(v, 0);
    out.first_position = item.integer("firstPosition", 0, INT32_MAX);
    out.dst_slot = item.integer_or("dstSlot", 0, INT32_MAX, 0);
    require_room(dst, out.dst_slot, out.tokens);
    const TensorState* norms = item.tensor_or_null(
        "keyNorms", {.dtypes = dtype_bit(SKV_F32), .rank = 1, .is_contiguous = true});
    item.require_axis_at_least("keyNorms", norms, 0, out.tokens);
    out.key_norms = pointer_of<float>(norms);
    items.push_back(out);
  }
  params.rope = read_rope(reader, "rope");
  params.rotate = reader.flag_or("rotate", false) ? 1 : 0;
  // Without items there is no dtype and nothing to do; the check wants one all the same.
  params.dtype = items.empty() ? SKV_F32 : shape.dtype;
  params.src_dtype = items.empty() ? SKV_F32 : src_dtype;
  params.head_dim = items.empty() ? kMinHeadDim : shape.head_dim;
  params.n_items = static_cast<int32_t>(items.size());
  params.items = items.data();
}

}  // namespace

void register_append_kv(Napi::Env env, Napi::Object exports) {
  register_op<AppendKvCall>(env, exports);
}

}  // namespace spindlekv
