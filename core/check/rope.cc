#include "core/check.h"
#include "core/check/checker.h"

namespace spindlekv {

Status check_rope(const SkvRopeParams& p) {
  Checker check("rope");
  check.float_dtype("dtype", p.dtype);
  check.head_dim(p.head_dim);
  check.at_least("heads", p.heads, 0);
  check.at_least("tokens", p.tokens, 0);
  check.present("rope", p.rope.cos_sin);
  check.rope(p.rope, p.head_dim);
  if (!check.ok() || p.heads == 0 || p.tokens == 0) return check.status();

  check.present("in", p.in);
  check.present("out", p.out);
  check.require(p.positions_from != nullptr || p.positions_to != nullptr, "positions_to",
                "positions_from, positions_to or both", "neither");
  check.row_stride("in_stride_token", p.in_stride_token, p.tokens, p.head_dim);
  check.row_stride("in_stride_head", p.in_stride_head, p.heads, p.head_dim);
  const size_t bytes = dtype_bytes(p.dtype);
  const Block in{p.in, p.heads, p.tokens, p.head_dim, p.in_stride_head, p.in_stride_token, bytes};
  const Block out{p.out, p.heads, p.tokens, p.head_dim, p.out_stride_head, p.out_stride_token,
                  bytes};
  check.distinct_rows("out", out);
  // In place is allowed, half in place is not: rows would be read after they were turned.
  const bool in_place = p.in == p.out && (p.heads == 1 || p.in_stride_head == p.out_stride_head) &&
                        (p.tokens == 1 || p.in_stride_token == p.out_stride_token);
  if (!in_place) check.apart("out", "part of in", out, in);
  return check.status();
}

}  // namespace spindlekv
