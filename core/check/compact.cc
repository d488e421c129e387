#include "core/check.h"
#include "core/check/checker.h"
#include "core/check/runs.h"

namespace spindlekv {
namespace {

// The kept slots move out of place: where they go may not be where they are read.
void check_apart(Checker* check, const SkvCompactItem& item, int64_t row, size_t element_bytes) {
  const auto shifted = [&](const void* base, size_t slot_bytes) {
    return static_cast<const char*>(base) + static_cast<size_t>(item.dst_slot) * slot_bytes;
  };
  const Block src_positions{item.src.positions, 1, item.src.slots, 1, 0, 1, sizeof(int32_t)};
  const Block dst_positions{
      shifted(item.dst.positions, sizeof(int32_t)), 1, item.count, 1, 0, 1, sizeof(int32_t)};
  check->apart("dst.positions", "src.positions", dst_positions, src_positions);
  if (item.src.codec != SKV_CODEC_RAW) return;
  const size_t row_bytes = static_cast<size_t>(row) * element_bytes;
  const Block src_k{item.src.k, 1, item.src.slots, row, 0, row, element_bytes};
  const Block dst_k{shifted(item.dst.k, row_bytes), 1, item.count, row, 0, row, element_bytes};
  check->apart("dst.k", "src.k", dst_k, src_k);
  const Block src_v{item.src.v, 1, item.src.slots, row, 0, row, element_bytes};
  const Block dst_v{shifted(item.dst.v, row_bytes), 1, item.count, row, 0, row, element_bytes};
  check->apart("dst.v", "src.v", dst_v, src_v);
}

}  // namespace

Status check_compact(const SkvCompactParams& p) {
  Checker check("compact");
  check.float_dtype("dtype", p.dtype);
  check.head_dim(p.head_dim);
  check.at_least("n_items", p.n_items, 0);
  if (p.n_items > 0) check.present("items", p.items);
  for (int32_t i = 0; check.ok() && i < p.n_items; ++i) {
    const SkvCompactItem& item = p.items[i];
    check.enter("items", i);
    check_codec(&check, item.src);
    check.require(item.dst.codec == item.src.codec, "dst.codec", "the codec of src",
                  item.dst.codec);
    if (!check.ok()) break;
    if (item.src.codec == SKV_CODEC_CODEBOOK) {
      check.require(item.dst.ref_bytes == item.src.ref_bytes, "dst.ref_bytes", "that of src",
                    item.dst.ref_bytes);
    }
    check.at_least("src.slots", item.src.slots, 0);
    check.range("count", item.count, 0, item.src.slots);
    check.at_least("index_base", item.index_base, 0);
    check.at_least("dst_slot", item.dst_slot, 0);
    if (item.count <= 0) continue;
    check.present("indices", item.indices);
    check_run_pointers(&check, item.src, item.count, dtype_bytes(p.dtype), false);
    check_run_pointers(&check, item.dst, item.count, dtype_bytes(p.dtype), false);
    if (check.ok()) check_apart(&check, item, p.head_dim, dtype_bytes(p.dtype));
  }
  return check.status();
}

}  // namespace spindlekv
