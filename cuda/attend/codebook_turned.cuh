// attend over a codebook run of 16-bit elements, keys before RoPE: the logits of all slots.
//   <q'[r], R(64 b + i) k> = <R(64 b)^T q'[r], R(i) k>
//   x[r,s] = scale a_s <q'[r], R(p_s) C_K[k_s]> + beta[s], p_s = 64 b + i
// Block = (run, 1024 slots); a warp takes a quarter of them in order. Its queries turn back once
// for the slots of one block of 64 positions; a key turns by its place in that block, whose sines
// all lie in shared memory. Composing two rows of the table needs what core/types.h gives: angles
// that grow with the position and one magnitude a pair, which is divided out of the queries. Keys
// come from global memory as they are multiplied: four lanes share one, 16 bytes of it a load, and
// both dims of a pair are in one lane. So the dims of a product on tensor cores are in an order of
// their own, which that of the queries follows. Both are sums of 16-bit parts, as in turn.cuh. Keys
// are the 16 rows of a product, queries its 8 columns. Bytes: a codeword a slot (2 D, as a rule out
// of L2), 12 a slot and 4 for each of its rows. For 16 keys of D = 128 a warp issues some 650
// instructions, whatever the rows are: bound by issue and by L2 alike.
#pragma once

#include "cuda/attend/codebook_block.cuh"
#include "cuda/attend/mma_tile.cuh"
#include "cuda/attend/turn.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/mma.cuh"
#include "cuda/common/reduce.cuh"

#include <cmath>

namespace spindlekv::cuda {

inline constexpr int kTurnedThreads = 128;
inline constexpr int kTurnedWarps = kTurnedThreads / kWarpSize;
inline constexpr int kTurnedPositions = 64;  // of a block of positions
static_assert(kTurnedSplit % (kTurnedWarps * kWarpSize) == 0);

template <typename Elem_, int kMaxDim_, int kRows_>
struct TurnedTraits {
  using Elem = Elem_;
  static constexpr int kRows = kRows_;                                  // at most: 4, 8 or 16
  static constexpr int kBlocks = kMaxDim_ <= 64 || kRows <= 4 ? 3 : 2;  // on an SM, without spills
  static constexpr int kColumns = kRows <= 8 ? 1 : 2;                   // of 8 queries
  static constexpr bool kIsHalf = std::is_same_v<Elem, f16>;
  static constexpr int kMaxDim = kMaxDim_;
  static constexpr int kParts = kIsHalf ? 2 : 3;  // that sum up to a query or a key
  static constexpr int kSpans = kMaxDim / 64;     // of 16 dims in a lane: 8 pairs
  static constexpr int kSteps = kMaxDim / 16;     // products of 16 dims
  static constexpr int kTurnWords = kMaxDim / 4;  // of 16 bytes in a row of the turns
  static constexpr int kDimsOfLane = kMaxDim / kWarpSize;
};

// What a warp has to itself.
template <typename Traits>
struct TurnedWarp {
  alignas(16) typename Traits::Elem part[Traits::kParts][Traits::kRows][Traits::kMaxDim];
  alignas(16) float dots[kWarpSize][Traits::kRows];  // of the slots of a window
};

template <typename Traits>
struct TurnedShared {
  float4 turn[kTurnedPositions][Traits::kTurnWords];
  alignas(16) float query[Traits::kRows][Traits::kMaxDim];
  TurnedWarp<Traits> warp[kTurnedWarps];
  AttendRows rows;
  RowSights sights;
  float undo[kBlockRows];  // what makes a dot of a row's parts the row's own
  WarpMaxima<kTurnedWarps> maxima;
};

// ---- dims of a lane -----------------------------------------------------------------------------

// Twice 8 neighbouring dims. Where they turn, they are 8 pairs.
struct LaneSpan {
  int first[2];  // 0 where they are not there
  bool is_there[2];
  bool turns;
  int pair;  // the first
};

// Span `span` of lane 4 n + quarter.
__device__ __forceinline__ LaneSpan lane_span(const SkvRope& rope, int head_dim, int span,
                                              int quarter) {
  const int index = quarter + 4 * span;
  LaneSpan dims;
  dims.pair = 8 * index;
  dims.turns = dims.pair < rope.n_rot / 2;
  const bool is_split = dims.turns && rope.style != SKV_ROPE_NORM;
  dims.first[0] = is_split ? dims.pair : 16 * index;
  dims.first[1] = is_split ? rope.n_rot / 2 + dims.pair : 16 * index + 8;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    dims.is_there[half] = dims.first[half] < head_dim;
    if (!dims.is_there[half]) dims.first[half] = 0;
  }
  return dims;
}

// Angles of two pairs: (cos, sin, cos, sin). Pairs of a span (2 i, 2 i + 1), or (i, i + 8).
__device__ __forceinline__ void turn_two_pairs(bool are_neighbours, float4 angle, int two,
                                               float (&x)[16]) {
  const float c[2] = {angle.x, angle.z};
  const float s[2] = {angle.y, angle.w};
  if (are_neighbours) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float first = x[4 * two + 2 * i];
      x[4 * two + 2 * i] = fmaf(-x[4 * two + 2 * i + 1], s[i], first * c[i]);
      x[4 * two + 2 * i + 1] = fmaf(x[4 * two + 2 * i + 1], c[i], first * s[i]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float first = x[2 * two + i];
      x[2 * two + i] = fmaf(-x[8 + 2 * two + i], s[i], first * c[i]);
      x[8 + 2 * two + i] = fmaf(x[8 + 2 * two + i], c[i], first * s[i]);
    }
  }
}

// ---- turns --------------------------------------------------------------------------------------

__device__ __forceinline__ const float4* table_row(const SkvRope& rope, int position, int pair) {
  const int64_t pairs = rope.n_rot / 2;
  return reinterpret_cast<const float4*>(rope.cos_sin + 2 * (position * pairs + pair));
}

// Where the angles of pairs 2 `two` and the next of a span lie in row `row` of the turns: lanes
// read 16 bytes beside each other, rows that follow one another out of other banks.
__device__ __forceinline__ int turn_word(int row, int span, int two, int quarter) {
  const int swap = two % 2 == 0 ? row & 1 : -(row & 1);
  return 4 * (4 * span + two) + (4 * swap + quarter);
}

// The table's first 64 rows times kTurnedScale; dims that do not turn have cosine 1.
template <typename Traits>
__device__ __forceinline__ void load_position_turns(const SkvRope& rope,
                                                    TurnedShared<Traits>& shared) {
  static_assert(kTurnedThreads % Traits::kTurnWords == 0);
  const int word = static_cast<int>(threadIdx.x) % Traits::kTurnWords;
  const int span = word / 16;
  const int two = word / 4 % 4;
  const int quarter = word % 4;
  const int pair = 8 * (quarter + 4 * span) + 2 * two;
  const int rows = min(kTurnedPositions, rope.positions);
  for (int row = static_cast<int>(threadIdx.x) / Traits::kTurnWords; row < rows;
       row += kTurnedThreads / Traits::kTurnWords) {
    float4 turn = make_float4(1.0f, 0.0f, 1.0f, 0.0f);
    if (pair < rope.n_rot / 2) turn = load_constant(table_row(rope, row, pair));
    shared.turn[row][turn_word(row, span, two, quarter)] = make_float4(
        turn.x * kTurnedScale, turn.y * kTurnedScale, turn.z * kTurnedScale, turn.w * kTurnedScale);
  }
}

// The magnitude of the pair that `dim` is in.
__device__ __forceinline__ float magnitude_of(const SkvRope& rope, int dim) {
  if (dim >= rope.n_rot) return 1.0f;
  const int half = rope.n_rot / 2;
  const int pair = rope.style == SKV_ROPE_NORM ? dim / 2 : dim % half;
  return load_constant(rope.cos_sin + 2 * pair);
}

// Queries after RoPE over the magnitude, times a power of two that gives their parts room.
template <typename Traits>
__device__ __forceinline__ void load_scaled_queries(const AttendArgs& args, const SkvRope& rope,
                                                    TurnedShared<Traits>& shared) {
  for (int row = warp_id(); row < Traits::kRows; row += kTurnedWarps) {
    float x[Traits::kDimsOfLane] = {};
    if (row < shared.rows.count) load_query_dims(args, shared.rows.row[row], x);
#pragma unroll
    for (int i = 0; i < Traits::kDimsOfLane; ++i) {
      x[i] /= magnitude_of(rope, lane_id() + i * kWarpSize);
    }
    const int exponent = row_exponent<Traits>(largest_of(x));
#pragma unroll
    for (int i = 0; i < Traits::kDimsOfLane; ++i) {
      shared.query[row][lane_id() + i * kWarpSize] = x[i] * power_of_two(exponent);
    }
    if (lane_id() == 0) shared.undo[row] = kTurnedInverse * power_of_two(-exponent);
  }
}

// The warp's queries, turned back to the start of a block of positions, in parts and in the order
// of dims in which keys come.
template <typename Traits>
__device__ __forceinline__ void turn_queries_back(const AttendArgs& args, const SkvRope& rope,
                                                  int block, TurnedShared<Traits>& shared) {
  constexpr int kLanesOfRow = 4 * Traits::kSpans;
  const int quarter = lane_id() % 4;
  const int span = lane_id() / 4 % Traits::kSpans;
  const LaneSpan dims = lane_span(rope, args.head_dim, span, quarter);
  const bool are_neighbours = rope.style == SKV_ROPE_NORM;
  const float4* turns = table_row(rope, block * kTurnedPositions, dims.pair);
  TurnedWarp<Traits>& warp = shared.warp[warp_id()];
  __syncwarp();  // the lanes are done with the last block's
  for (int row = lane_id() / kLanesOfRow; row < Traits::kRows; row += kWarpSize / kLanesOfRow) {
    float x[16] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (!dims.is_there[half]) continue;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float4 four =
            *reinterpret_cast<const float4*>(&shared.query[row][dims.first[half] + 4 * i]);
        x[8 * half + 4 * i] = four.x;
        x[8 * half + 4 * i + 1] = four.y;
        x[8 * half + 4 * i + 2] = four.z;
        x[8 * half + 4 * i + 3] = four.w;
      }
    }
#pragma unroll
    for (int two = 0; two < 4; ++two) {
      if (!dims.turns) continue;
      const float4 turn = load_constant(turns + two);
      turn_two_pairs(are_neighbours, make_float4(turn.x, -turn.y, turn.z, -turn.w), two, x);
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      uint32_t packed[Traits::kParts];
      pack_parts<typename Traits::Elem>(x[2 * i], x[2 * i + 1], packed);
      const int word = swizzled(row, 8 * span + i);
#pragma unroll
      for (int part = 0; part < Traits::kParts; ++part) {
        *reinterpret_cast<uint32_t*>(&warp.part[part][row][8 * word + 2 * quarter]) = packed[part];
      }
    }
  }
  __syncwarp();  // read by other lanes
}

// ---- dots ---------------------------------------------------------------------------------------

// One slot of the window for each lane.
struct TurnedSlots {
  int count;
  int word;   // of this lane's slot
  int block;  // of positions; -1 past the last slot
  int place;  // in the block
  float magnitude;
};

template <typename Elem>
__device__ __forceinline__ TurnedSlots load_turned_slots(const CodebookRun& book, bool reindex,
                                                         int first, int end) {
  TurnedSlots slots{max(0, min(kWarpSize, end - first)), 0, -1, 0, 0.0f};
  if (lane_id() >= slots.count) return slots;
  const int slot = first + lane_id();
  slots.word = static_cast<int>(codeword_of(book.run.k_ref, book.run.ref_bytes, slot));
  const int position = reindex ? book.run.slot_base + slot : slot_position(book.run, slot);
  slots.block = position / kTurnedPositions;
  slots.place = position % kTurnedPositions;
  slots.magnitude = load_magnitude<Elem>(book.run.k_magnitude, slot);
  return slots;
}

// Queries of one step of 16 dims, 8 of them a column; fewer rows are there again.
template <typename Traits>
__device__ __forceinline__ void load_columns(const TurnedWarp<Traits>& warp, int part, int step,
                                             uint32_t (&query)[Traits::kColumns][2]) {
  // Lane i of 8 gives the address of row i of an 8 x 8 tile.
  const int row = (lane_id() / 16 * 8 + lane_id() % 8) % Traits::kRows;
  const int word = swizzled(row, 2 * step + lane_id() / 8 % 2);
  uint32_t tiles[4];
  ldmatrix_x4(tiles, &warp.part[part][row][8 * word]);
#pragma unroll
  for (int i = 0; i < 2 * Traits::kColumns; ++i) query[i / 2][i % 2] = tiles[i];
}

// Which dims a lane has, and how they turn.
template <typename Traits>
struct LaneKeys {
  LaneSpan span[Traits::kSpans];
  bool are_neighbours;
};

// The lane's quarter of a codeword.
template <typename Traits>
using QuarterWord = EightElements<typename Traits::Elem>[Traits::kSpans][2];

template <typename Traits>
__device__ __forceinline__ void load_quarter(const LaneKeys<Traits>& keys,
                                             const typename Traits::Elem* row,
                                             QuarterWord<Traits>& quarter) {
  using Eight = EightElements<typename Traits::Elem>;
#pragma unroll
  for (int i = 0; i < 2 * Traits::kSpans; ++i) {
    const auto* dims = row + keys.span[i / 2].first[i % 2];
    quarter[i / 2][i % 2] = load_constant(reinterpret_cast<const Eight*>(dims));
  }
}

// Zeros where dims are past the head's, which load_quarter has read from its first ones.
template <typename Traits>
__device__ __forceinline__ void clear_past_head(const LaneKeys<Traits>& keys,
                                                QuarterWord<Traits>& quarter) {
#pragma unroll
  for (int i = 0; i < 2 * Traits::kSpans; ++i) {
    if (!keys.span[i / 2].is_there[i % 2]) quarter[i / 2][i % 2] = {};
  }
}

// Dots of all rows with `count` <= 16 slots of the window from lane `first` on, all of them in the
// block that the queries are turned back to. Lane 4 n + t has a quarter of slots n and n + 8.
template <typename Traits>
__device__ __forceinline__ void multiply_slots(const AttendArgs& args, const CodebookRun& book,
                                               const LaneKeys<Traits>& keys,
                                               const TurnedSlots& slots, int first, int count,
                                               TurnedShared<Traits>& shared) {
  using Elem = typename Traits::Elem;
  TurnedWarp<Traits>& warp = shared.warp[warp_id()];
  int place[2];
  QuarterWord<Traits> quarter[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int source = first + min(8 * half + lane_id() / 4, count - 1);
    const int word = __shfl_sync(kAllLanes, slots.word, source);
    place[half] = __shfl_sync(kAllLanes, slots.place, source);
    const Elem* row = static_cast<const Elem*>(book.run.k) + int64_t{word} * args.head_dim;
    load_quarter<Traits>(keys, row, quarter[half]);
  }
  if (args.head_dim != Traits::kMaxDim) {
    clear_past_head<Traits>(keys, quarter[0]);
    clear_past_head<Traits>(keys, quarter[1]);
  }
  float dots[Traits::kColumns][4] = {};
#pragma unroll
  for (int span = 0; span < Traits::kSpans; ++span) {
    float x[2][16];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        x[half][i] = to_float(quarter[half][span][i / 8].element[i % 8]);
      }
#pragma unroll
      for (int two = 0; two < 4; ++two) {
        const int word = turn_word(place[half], span, two, lane_id() % 4);
        turn_two_pairs(keys.are_neighbours, shared.turn[place[half]][word], two, x[half]);
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int step = 4 * span + i;
      uint32_t key[Traits::kParts][4];
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        uint32_t parts[Traits::kParts];
        const int at = 4 * i + k / 2 * 2;
        pack_parts<Elem>(x[k % 2][at], x[k % 2][at + 1], parts);
#pragma unroll
        for (int part = 0; part < Traits::kParts; ++part) key[part][k] = parts[part];
      }
      // Products of parts that together are below the last one's precision are left out.
#pragma unroll
      for (int part = 0; part < Traits::kParts; ++part) {
        uint32_t query[Traits::kColumns][2];
        load_columns<Traits>(warp, part, step, query);
#pragma unroll
        for (int of_key = 0; of_key < Traits::kParts - part; ++of_key) {
#pragma unroll
          for (int column = 0; column < Traits::kColumns; ++column) {
            mma_m16n8k16<Elem>(dots[column], key[of_key], query[column]);
          }
        }
      }
    }
  }
#pragma unroll
  for (int column = 0; column < Traits::kColumns; ++column) {
    const int row = 8 * column + 2 * (lane_id() % 4);
    if (row >= Traits::kRows) continue;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int slot = 8 * half + lane_id() / 4;
      if (slot >= count) continue;
      *reinterpret_cast<float2*>(&warp.dots[first + slot][row]) =
          make_float2(dots[column][2 * half] * shared.undo[row],
                      dots[column][2 * half + 1] * shared.undo[row + 1]);
    }
  }
}

// ---- kernel -------------------------------------------------------------------------------------

// Dots of a window of 32 slots.
template <typename Traits>
__device__ __forceinline__ void multiply_window(const AttendArgs& args, const CodebookRun& book,
                                                const SkvRope& rope, const LaneKeys<Traits>& keys,
                                                const TurnedSlots& slots, int& turned_to,
                                                TurnedShared<Traits>& shared) {
  int done = 0;
#pragma unroll 1
  while (done < slots.count) {
    const int block = __shfl_sync(kAllLanes, slots.block, done);
    if (block != turned_to) {
      turn_queries_back<Traits>(args, rope, block, shared);
      turned_to = block;
    }
    // Slots of the block that follow one another.
    const unsigned others = ~(__ballot_sync(kAllLanes, slots.block == block) >> done);
    const int behind = others == 0 ? kWarpSize : done + __ffs(static_cast<int>(others)) - 1;
#pragma unroll 1
    for (; done < behind; done += 16) {
      multiply_slots<Traits>(args, book, keys, slots, done, min(16, behind - done), shared);
    }
    done = behind;
  }
}

template <typename Traits>
__global__ __launch_bounds__(kTurnedThreads,
                             Traits::kBlocks) void codebook_turned_kernel(const AttendArgs args) {
  using Elem = typename Traits::Elem;
  SKV_DYNAMIC_SHARED(memory, TurnedShared<Traits>);
  TurnedShared<Traits>& shared = *memory;
  const CodebookBlock block = codebook_block(args, &CodebookRun::first_turned_block);
  const CodebookRun& book = block.book;
  load_rows(args, rows_block(block), shared.rows);
  __syncthreads();
  const SkvAttendParams& op = item_of_keys(args, shared.rows).op;
  const SkvRope rope = op.rope;
  const bool reindex = op.reindex != 0;
  load_sights(args, shared.rows, shared.sights);
  load_scaled_queries<Traits>(args, rope, shared);
  load_position_turns<Traits>(rope, shared);
  __syncthreads();

  LaneKeys<Traits> keys;
  keys.are_neighbours = rope.style == SKV_ROPE_NORM;
#pragma unroll
  for (int span = 0; span < Traits::kSpans; ++span) {
    keys.span[span] = lane_span(rope, args.head_dim, span, lane_id() % 4);
  }
  const LogitMaker maker = logit_maker(args, book);
  constexpr int kShare = kTurnedSplit / kTurnedWarps;
  const int first = block.index * kTurnedSplit + warp_id() * kShare;
  const int end = min(first + kShare, book.run.slots);
  float maximum[Traits::kRows / 4][4];
#pragma unroll
  for (int i = 0; i < Traits::kRows; ++i) maximum[i / 4][i % 4] = -INFINITY;
  TurnedSlots slots = load_turned_slots<Elem>(book, reindex, first, end);
  int turned_to = -1;
#pragma unroll 1
  for (int at = first; at < end; at += kWarpSize) {
    const TurnedSlots next = load_turned_slots<Elem>(book, reindex, at + kWarpSize, end);
    multiply_window<Traits>(args, book, rope, keys, slots, turned_to, shared);
    __syncwarp();  // the dots are read by the lanes of their slots
#pragma unroll
    for (int row = 0; row < Traits::kRows; row += 4) {
      if (row >= book.pitch || lane_id() >= slots.count) continue;
      const float4 dots =
          *reinterpret_cast<const float4*>(&shared.warp[warp_id()].dots[lane_id()][row]);
      finish_slot(args, book, shared.sights, maker, row, at + lane_id(), slots.magnitude, dots,
                  maximum[row / 4]);
    }
    __syncwarp();  // the dots are written again
    slots = next;
  }
#pragma unroll
  for (int row = 0; row < Traits::kRows; ++row) {
    const float most = warp_max(maximum[row / 4][row % 4]);
    if (lane_id() == 0) shared.maxima.of[row][warp_id()] = most;
  }
  __syncthreads();
  store_maxima(args, block, shared.maxima);
}

}  // namespace spindlekv::cuda
