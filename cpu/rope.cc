// rope on the CPU: one task turns up to 64 tokens of one head; rows are read and written once. The
// tokens of all heads are gone through together, because a row of the table is twice as long as a
// row of f16 and the heads share it. Results larger than the caches go past them.
#include <algorithm>

#include "cpu/convert.h"
#include "cpu/device.h"
#include "cpu/entries.h"
#include "cpu/row_kernels.h"
#include "cpu/stream.h"

namespace spindlekv::cpu {
namespace {

constexpr int kTaskTokens = 64;
constexpr int kMaxHeadDim = 512;

void turn_row(const SkvRopeParams& params, const RowKernels& kernels, int64_t head, int64_t token,
              bool streams) {
  const int64_t to = params.positions_to == nullptr ? 0 : params.positions_to[token];
  const int64_t from = params.positions_from == nullptr ? 0 : params.positions_from[token];
  const int64_t distance = to < from ? from - to : to - from;
  // Beyond the table: the row is skipped, as core/ops.h says.
  if (distance >= params.rope.positions) return;

  const int64_t bytes = static_cast<int64_t>(dtype_bytes(params.dtype));
  const char* const in = static_cast<const char*>(params.in) +
                         (head * params.in_stride_head + token * params.in_stride_token) * bytes;
  char* const out = static_cast<char*>(params.out) +
                    (head * params.out_stride_head + token * params.out_stride_token) * bytes;
  const bool aside = streams && can_stream(out, bytes * params.head_dim);
  alignas(64) float row[kMaxHeadDim];
  kernels.turn(params.dtype, in, params.dtype, aside ? static_cast<void*>(row) : out,
               params.head_dim, params.rope, distance, to < from);
  if (aside) stream_copy(out, row, bytes * params.head_dim);
}

}  // namespace

size_t rope_workspace(SkvDevice&, const SkvRopeParams&) { return 0; }

Status rope(SkvDevice& device, const SkvExec&, const SkvRopeParams& params) {
  if (params.heads == 0 || params.tokens == 0) return ok_status();
  const RowKernels& kernels = row_kernels_for(device.isa);
  const int64_t pieces = (int64_t{params.tokens} + kTaskTokens - 1) / kTaskTokens;
  const bool streams =
      params.in != params.out && int64_t{params.heads} * params.tokens * params.head_dim *
                                         static_cast<int64_t>(dtype_bytes(params.dtype)) >
                                     kStreamBytes;
  device.pool.parallel_for(params.heads * pieces, [&](int64_t index, int) {
    const int64_t head = index % params.heads;
    const int64_t first = index / params.heads * kTaskTokens;
    const int64_t end = std::min<int64_t>(params.tokens, first + kTaskTokens);
    for (int64_t token = first; token < end; ++token) {
      turn_row(params, kernels, head, token, streams);
    }
    if (streams) finish_stream();
  });
  return ok_status();
}

}  // namespace spindlekv::cpu
