#include "binding/ops/op.h"
#include "binding/ops/register.h"
#include "binding/ops/runs.h"
#include "core/check/checker.h"

namespace spindlekv {
namespace {

struct CompactCall {
  static constexpr char kName[] = "compact";
  SkvCompactParams params{};
  std::vector<SkvCompactItem> items;

  void read(const ObjectReader& reader);
  static Status check(const SkvCompactParams& params) { return check_compact(params); }
  static Status run(OpRunner& run, const SkvCompactParams& params) { return run.compact(params); }
};

void CompactCall::read(const ObjectReader& reader) {
  KvShape shape;
  for (const ObjectReader& item : reader.objects("items")) {
    SkvCompactItem out{};
    const ObjectReader dst = item.object("dst");
    out.src = read_run(item.object("src"), RunUse::kMoved, &shape);
    out.dst = read_run(dst, RunUse::kFilled, &shape);
    const TensorState* indices =
        item.tensor("indices", {.dtypes = dtype_bit(SKV_I32), .rank = 1, .is_contiguous = true});
    out.count = size_of(item, "indices", indices, 0);
    if (out.count > out.src.slots) {
      item.fail("count", "at most the slots of src (" + std::to_string(out.src.slots) + ")",
                std::to_string(out.count));
    }
    const TensorState* mask = item.tensor_or_null(
        "maskOverride", {.dtypes = dtype_bit(SKV_U16), .rank = 1, .is_contiguous = true});
    item.require_axis("maskOverride", mask, 0, out.count);
    out.index_base = item.integer_or("indexBase", 0, INT32_MAX, 0);
    out.dst_slot = item.integer_or("dstSlot", 0, INT32_MAX, 0);
    require_room(dst, out.dst_slot, out.count);
    out.indices = pointer_of<const int32_t>(indices);
    out.mask_override = pointer_of<const uint16_t>(mask);
    items.push_back(out);
  }
  // Codebook runs without their codewords have a dtype, by their magnitudes, but no width; it is
  // not read.
  params.dtype = items.empty() ? SKV_F32 : shape.dtype;
  params.head_dim = shape.head_dim == 0 ? kMinHeadDim : shape.head_dim;
  params.n_items = static_cast<int32_t>(items.size());
  params.items = items.data();
}

}  // namespace

void register_compact(Napi::Env env, Napi::Object exports) {
  register_op<CompactCall>(env, exports);
}

}  // namespace spindlekv
