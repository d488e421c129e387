// What a block of attend works on: which slots, and which rows of which heads. Also the entries
// that depend on both: whether a row sees a slot, where a partial lies.
//
// A block finds its span among the first blocks of all spans: a warp compares 32 of them at a time,
// so that up to 32 spans cost one load.
#pragma once

#include "cuda/attend/params.h"
#include "cuda/attend/slots.cuh"
#include "cuda/common/global.cuh"
#include "cuda/common/reduce.cuh"
#include "cuda/rope/rotate.cuh"

#include <climits>

namespace spindlekv::cuda {

// The last of `count` entries that starts at or before `block`; entry 0 starts at 0. All lanes of a
// warp call and get the same.
template <typename FirstBlock>
__device__ __forceinline__ int find_owner(int count, int block, FirstBlock first_block) {
  int low = 0;
  int width = count;
  while (width > 1) {
    const int step = (width + kWarpSize - 1) / kWarpSize;
    const int offset = lane_id() * step;
    const bool starts_before = offset < width && first_block(low + offset) <= block;
    const int part = 31 - __clz(static_cast<int>(__ballot_sync(kAllLanes, starts_before)));
    low += part * step;
    width = min(step, width - part * step);
  }
  return low;
}

struct AttendBlock {
  AttendSpan span;
  int tile;
  int partial;  // of a row
  int first_slot;
  int slots;
};

__device__ __forceinline__ AttendBlock attend_block(const AttendArgs& args) {
  const int index = static_cast<int>(blockIdx.x);
  AttendBlock block;
  block.span = load_constant(args.spans + find_owner(args.n_spans, index, [&](int i) {
                               return load_constant(&args.spans[i].first_block);
                             }));
  const int split = (index - block.span.first_block) / block.span.tiles;
  block.tile = (index - block.span.first_block) % block.span.tiles;
  block.partial = block.span.first_split + split;
  block.first_slot = block.span.first_slot + split * block.span.split_slots;
  block.slots = min(block.span.split_slots, block.span.slots - split * block.span.split_slots);
  return block;
}

// ---- rows
// ----------------------------------------------------------------------------------------

struct AttendRow {
  int32_t head;   // in the table of heads
  int32_t row;    // of the head and round; its query head of the group is row % group
  int32_t limit;  // last position it sees
  float scale;
};

struct AttendRows {
  AttendRow row[kBlockRows];
  int count;
};

__device__ __forceinline__ int first_query(const AttendArgs& args, const AttendItem& item) {
  return args.round * item.round_queries;
}

__device__ __forceinline__ AttendRow attend_row(const AttendArgs& args, int head, int row) {
  const AttendItem& item = args.items[args.heads[head].item];
  const int query = first_query(args, item) + row / args.group;
  const int limit = item.op.causal == 0 ? INT_MAX : item.op.query_position + query;
  return {head, row, limit, item.op.scale};
}

// The rows of a head's own tile.
__device__ __forceinline__ int own_rows(const AttendArgs& args, const AttendBlock& block) {
  const AttendItem& item = args.items[args.heads[block.span.head].item];
  const int queries = min(item.round_queries, item.op.queries - first_query(args, item));
  return min(item.block_queries, queries - block.tile * item.block_queries) * args.group;
}

__device__ __forceinline__ int rows_of_member(const AttendArgs& args, int head) {
  return args.items[args.heads[head].item].op.queries * args.group;
}

// Fills the table of the block's rows; the caller waits for the block before reading it.
__device__ __forceinline__ void load_rows(const AttendArgs& args, const AttendBlock& block,
                                          AttendRows& rows) {
  const int row = static_cast<int>(threadIdx.x);
  if (row >= kBlockRows) return;
  if (block.span.members == 0) {
    const int count = own_rows(args, block);
    const int first = block.tile * args.items[args.heads[block.span.head].item].block_queries;
    if (row < count) {
      rows.row[row] = attend_row(args, block.span.head, first * args.group + row);
    }
    if (row == 0) rows.count = count;
    return;
  }
  int first = 0;
  for (int m = 0; m < block.span.members; ++m) {
    const int head = args.members[block.span.head + m];
    const int count = rows_of_member(args, head);
    if (row >= first && row < first + count) rows.row[row] = attend_row(args, head, row - first);
    first += count;
  }
  if (row == 0) rows.count = first;
}

// Where a row's query lies, and how it turns.
struct QueryRow {
  AnyRow source;
  const float2* turn;
  int n_rot;
  int style;
};

__device__ __forceinline__ QueryRow query_row(const AttendArgs& args, const AttendRow& row) {
  const AttendHead& head = args.heads[row.head];
  const AttendItem& item = args.items[head.item];
  const SkvAttendParams& op = item.op;
  const int64_t query_head = static_cast<int64_t>(head.kv_head) * args.group + row.row % args.group;
  const int query = first_query(args, item) + row.row / args.group;
  return {{op.q, args.q_dtype, query_head * op.q_stride_head + query * op.q_stride_token},
          turn_at(op.rope, static_cast<int64_t>(op.rope_query_position) + query),
          op.rope.n_rot,
          op.rope.style};
}

// One dim of the query after RoPE.
__device__ __forceinline__ float rotated_query(const QueryRow& row, int dim) {
  return rotated_one(row.source, dim, row.turn, row.n_rot, row.style);
}

// Queries after RoPE, in float, zero beyond head_dim.
template <int kWarps, int kMaxDim>
__device__ __forceinline__ void load_queries(const AttendArgs& args, const AttendRows& rows,
                                             float (*query_rows)[kMaxDim]) {
  for (int row = warp_id(); row < rows.count; row += kWarps) {
    const QueryRow source = query_row(args, rows.row[row]);
    for (int dim = lane_id(); dim < kMaxDim; dim += kWarpSize) {
      query_rows[row][dim] = dim < args.head_dim ? rotated_query(source, dim) : 0.0f;
    }
  }
}

// The item whose keys, positions and RoPE the block reads; sharers agree in these.
__device__ __forceinline__ const AttendItem& item_of_keys(const AttendArgs& args,
                                                          const AttendRows& rows) {
  return args.items[args.heads[rows.row[0].head].item];
}

__device__ __forceinline__ int64_t partial_index(const AttendArgs& args, const AttendRow& row,
                                                 int partial) {
  const AttendHead& head = args.heads[row.head];
  return head.first_partial + static_cast<int64_t>(row.row) * head.splits + partial;
}

// Logits of the row by slot of its head; null when nobody asks for scores.
__device__ __forceinline__ float* logits_of(const AttendArgs& args, const AttendRow& row) {
  const AttendHead& head = args.heads[row.head];
  if (head.logit_stride == 0) return nullptr;
  return args.logits + head.first_logit + row.row * head.logit_stride;
}

__device__ __forceinline__ bool sees(const AttendRow& row, int group, unsigned flags,
                                     int position) {
  return (flags >> (row.row % group) & 1u) != 0 && position <= row.limit;
}

// ---- slots
// ---------------------------------------------------------------------------------------

// The head (of several that share, one) that the block's slots are read from.
__device__ __forceinline__ HeadSlots slots_of_block(const AttendArgs& args,
                                                    const AttendBlock& block) {
  return {args.runs + block.span.first_run, block.span.n_runs};
}

}  // namespace spindlekv::cuda
