#include "core/check.h"
#include "core/check/checker.h"
#include "core/check/runs.h"

namespace spindlekv {

Status check_append_kv(const SkvAppendKvParams& p) {
  Checker check("append_kv");
  check.float_dtype("dtype", p.dtype);
  check.float_dtype("src_dtype", p.src_dtype);
  check.head_dim(p.head_dim);
  check.flag("rotate", p.rotate);
  if (p.rotate != 0) check.present("rope", p.rope.cos_sin);
  check.rope(p.rope, p.head_dim);
  check.at_least("n_items", p.n_items, 0);
  if (p.n_items > 0) check.present("items", p.items);

  const SkvRope no_rope{};
  for (int32_t i = 0; check.ok() && i < p.n_items; ++i) {
    const SkvAppendItem& item = p.items[i];
    check.enter("items", i);
    check.at_least("tokens", item.tokens, 0);
    check.positions("first_position", item.first_position, item.tokens,
                    p.rotate != 0 ? p.rope : no_rope);
    check.require(item.dst.codec == SKV_CODEC_RAW, "dst.codec", "0 (raw)", item.dst.codec);
    check.at_least("dst_slot", item.dst_slot, 0);
    check.positions("dst_slot", item.dst_slot, item.tokens, no_rope);
    if (item.tokens <= 0) continue;
    check.present("k", item.k);
    check.present("v", item.v);
    check.row_stride("k_stride_token", item.k_stride_token, item.tokens, p.head_dim);
    check.row_stride("v_stride_token", item.v_stride_token, item.tokens, p.head_dim);
    check_run_pointers(&check, item.dst, item.tokens, dtype_bytes(p.dtype), false);
  }
  return check.status();
}

}  // namespace spindlekv
