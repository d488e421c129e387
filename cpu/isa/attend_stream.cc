// attend for few rows (decode): K and V are read once, straight from their storage.
//
//   x[r, s] = q[r] . k[s];  p = exp(x - m);  acc[r] += sum_s p[r, s] v[s]     64 slots at a time
// Four rows share each K and V vector in registers (4 slots x 4 rows of accumulators for K, 4 x 4
// vectors of output for V on AVX-512); rows to come are prefetched meanwhile. Bytes: 2 D e per
// slot, memory-bound. Keys that turn while they are read go through a float tile in the first-level
// cache.
#include "cpu/attend_task.h"
#include "cpu/isa/attend_rows.h"
#include "cpu/isa/rows.h"
#include "cpu/isa/softmax.h"
#include "cpu/isa/turned_scores.h"

namespace spindlekv::cpu::SKV_ISA {
namespace {

constexpr int kLineBytes = 64;
// How many slots ahead rows are prefetched: 8 rows of 256 bytes were the best of 4, 8, 16, 32 and
// 64 on Sapphire Rapids, where the fill buffers of the first-level cache limit what is in flight.
constexpr int kPrefetchSlots = 8;

// What comes after a tile's rows. rows == NULL: nothing is prefetched.
struct Ahead {
  const void* const* rows;  // of the next tile, or of this one if it is the last
  int bytes;                // of a row
};

inline void prefetch_ahead(const Ahead& ahead, const void* const* rows, int slot) {
  if (ahead.rows == nullptr) return;
  const int next = slot + kPrefetchSlots;
  const char* const row =
      static_cast<const char*>(next < kTileSlots ? rows[next] : ahead.rows[next - kTileSlots]);
  for (int at = 0; at < ahead.bytes; at += kLineBytes) __builtin_prefetch(row + at, 0, 3);
}

// ---- scores ---------------------------------------------------------------------------

// 4 slots x kRows rows; the slots' dot products land at out[r * 64 + 0..3].
template <class Element, int kRows>
inline void score_4_slots(const float* q, int dim, const void* const* k, int head_dim, float* out) {
  const Element* row[4];
  for (int i = 0; i < 4; ++i) row[i] = static_cast<const Element*>(k[i]);
  Vec acc[kRows][4];
  for (int r = 0; r < kRows; ++r) {
    for (int i = 0; i < 4; ++i) acc[r][i] = zero();
  }
  int d = 0;
  for (; d + kWidth <= head_dim; d += kWidth) {
    Vec key[4];
    for (int i = 0; i < 4; ++i) key[i] = load(row[i] + d);
    for (int r = 0; r < kRows; ++r) {
      const Vec query = load(q + r * dim + d);
      for (int i = 0; i < 4; ++i) acc[r][i] = madd(query, key[i], acc[r][i]);
    }
  }
  if (kWidth > 8 && d < head_dim) {
    for (int i = 0; i < 4; ++i) {
      const Vec key = load_8(row[i] + d);
      for (int r = 0; r < kRows; ++r) acc[r][i] = madd(load(q + r * dim + d), key, acc[r][i]);
    }
  }
  for (int r = 0; r < kRows; ++r) sum_4(acc[r], out + r * kTileSlots);
}

template <class Element, int kRows>
void score_tile(const float* q, int dim, const void* const* k, int count, int head_dim,
                const void* const* stored, const Ahead& ahead, float* out) {
  for (int slot = 0; slot < count; slot += 4) {
    for (int i = 0; i < 4; ++i) prefetch_ahead(ahead, stored, slot + i);
    score_4_slots<Element, kRows>(q, dim, k + slot, head_dim, out + slot);
  }
}

// ---- values ---------------------------------------------------------------------------

// kVecs vectors of output from column d on. kHalf: only 8 elements are left (AVX-512).
template <class Element, int kRows, int kVecs, bool kHalf>
inline void add_columns(const float* p, const void* const* v, int count, int d, int dim,
                        const float* factor, const Ahead& ahead, float* acc) {
  Vec sum[kRows][kVecs];
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kVecs; ++c) {
      sum[r][c] = mul(load(acc + r * dim + d + c * kWidth), splat(factor[r]));
    }
  }
  for (int slot = 0; slot < count; ++slot) {
    const Element* const row = static_cast<const Element*>(v[slot]) + d;
    prefetch_ahead(ahead, v, slot);
    Vec value[kVecs];
    for (int c = 0; c < kVecs; ++c) value[c] = kHalf ? load_8(row) : load(row + c * kWidth);
    for (int r = 0; r < kRows; ++r) {
      const Vec weight = splat(p[r * kTileSlots + slot]);
      for (int c = 0; c < kVecs; ++c) sum[r][c] = madd(weight, value[c], sum[r][c]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kVecs; ++c) store(acc + r * dim + d + c * kWidth, sum[r][c]);
  }
}

template <class Element, int kRows>
void add_values(const float* p, const void* const* v, int count, int head_dim, int dim,
                const float* factor, Ahead ahead, float* acc) {
  constexpr int kVecs = kWidth == 16 ? 4 : 2;
  int d = 0;
  for (; d + kVecs * kWidth <= head_dim; d += kVecs * kWidth) {
    add_columns<Element, kRows, kVecs, false>(p, v, count, d, dim, factor, ahead, acc);
    ahead.rows = nullptr;
  }
  for (; d + kWidth <= head_dim; d += kWidth) {
    add_columns<Element, kRows, 1, false>(p, v, count, d, dim, factor, ahead, acc);
    ahead.rows = nullptr;
  }
  if (kWidth > 8 && d < head_dim) {
    add_columns<Element, kRows, 1, true>(p, v, count, d, dim, factor, ahead, acc);
  }
}

// Infinity or NaN in a row that is hidden from a head must not reach it as 0 * infinity.
template <class Element>
bool has_nonfinite(const void* const* v, int count, int head_dim) {
  Vec probe = zero();
  for (int slot = 0; slot < count; ++slot) {
    const Element* const row = static_cast<const Element*>(v[slot]);
    int d = 0;
    for (; d + kWidth <= head_dim; d += kWidth) probe = madd(load(row + d), zero(), probe);
    if (kWidth > 8 && d < head_dim) probe = madd(load_8(row + d), zero(), probe);
  }
  const float sum = halving_sum(probe);
  return sum != sum;
}

// Values one row at a time, leaving out those of weight 0.
template <class Element>
void add_values_apart(const float* p, const void* const* v, int rows, int count, int head_dim,
                      int dim, const float* factor, float* acc) {
  static constexpr float kKeep = 1.0f;
  for (int r = 0; r < rows; ++r) {
    float* const row = acc + int64_t{r} * dim;
    scale_row(row, factor[r], dim);
    for (int slot = 0; slot < count; ++slot) {
      const float* const weight = p + r * kTileSlots + slot;
      if (*weight == 0.0f) continue;
      add_values<Element, 1>(weight, v + slot, 1, head_dim, dim, &kKeep, {nullptr, 0}, row);
    }
  }
}

// ---- one tile -------------------------------------------------------------------------

// Runs a kernel for rows in fours.
template <class Call>
inline void by_fours(int rows, const Call& call) {
  for (int r = 0; r < rows; r += 4) {
    switch (rows - r) {
      case 1:
        call.template run<1>(r);
        break;
      case 2:
        call.template run<2>(r);
        break;
      case 3:
        call.template run<3>(r);
        break;
      default:
        call.template run<4>(r);
        break;
    }
  }
}

template <class Element>
struct ScoreCall {
  const float* q;
  int dim;
  const void* const* k;
  int count, head_dim;
  const void* const* stored;  // the rows in storage: k itself, unless those were turned
  Ahead ahead;
  float* out;
  template <int kRows>
  void run(int r) const {
    // The first rows bring the data in for the others.
    score_tile<Element, kRows>(q + r * dim, dim, k, count, head_dim, stored,
                               r == 0 ? ahead : Ahead{nullptr, 0}, out + r * kTileSlots);
  }
};

template <class Element>
struct ValueCall {
  const float* p;
  const void* const* v;
  int count, head_dim, dim;
  const float* factor;
  Ahead ahead;
  float* acc;
  template <int kRows>
  void run(int r) const {
    add_values<Element, kRows>(p + r * kTileSlots, v, count, head_dim, dim, factor + r,
                               r == 0 ? ahead : Ahead{nullptr, 0}, acc + r * dim);
  }
};

struct Memory {
  float* q;       // [rows, dim]
  float* scores;  // [rows, 64]
  float* factor;  // [rows]
  TurnedScores* turned;
};

template <class Element>
void score(const AttendTask& task, const Memory& memory, const SlotTile& tile, const SlotTile& next,
           int rows, int dim) {
  const SkvAttendParams& params = *task.parts->params;
  const Ahead ahead{next.k, params.head_dim * static_cast<int>(sizeof(Element))};
  if (tile.has_turn) {
    const void* rows_ahead[kTileSlots];
    for (int i = 0; i < kTileSlots; ++i) {
      const int slot = i + kPrefetchSlots;
      rows_ahead[i] = slot < kTileSlots ? tile.k[slot] : next.k[slot - kTileSlots];
    }
    score_turned(memory.turned, tile.k, tile.turn, tile.count, rows_ahead, nullptr, memory.scores);
  } else {
    by_fours(rows, ScoreCall<Element>{memory.q, dim, tile.k, tile.count, params.head_dim, tile.k,
                                      ahead, memory.scores});
  }
  if (!tile.has_k_magnitude) return;
  for (int r = 0; r < rows; ++r) {
    float* const x = memory.scores + r * kTileSlots;
    for (int i = 0; i < kTileSlots; i += kWidth) {
      store(x + i, mul(load(x + i), load(tile.k_magnitude + i)));
    }
  }
}

// Logits to weights: updates m and l, leaves exp(x - m) in scores and the rescale factor of acc.
bool weigh(const AttendTask& task, const Memory& memory, const SlotTile& tile, float* kept) {
  const Extent extent = position_extent(tile);
  bool hidden = false;
  for_each_row(task, [&](int r, const SkvAttendParams& params, int head, int32_t position) {
    float* const x = memory.scores + r * kTileSlots;
    const Sight sight = row_sight(tile, extent, head, params.causal != 0, position);
    hidden = hidden || hides(sight);
    finish_logits(tile, sight, params.scale, x);
    if (kept != nullptr) {
      for (int i = 0; i < kTileSlots; i += kWidth) store(kept + r * kTileSlots + i, load(x + i));
    }
    memory.factor[r] = advance_row(x, task.m + r, task.l + r);
    if (!tile.has_v_magnitude) return;
    for (int i = 0; i < kTileSlots; i += kWidth)
      store(x + i, mul(load(x + i), load(tile.v_magnitude + i)));
  });
  return hidden;
}

template <class Element>
void add(const AttendTask& task, const Memory& memory, const SlotTile& tile, const SlotTile& next,
         bool hidden, int rows, int dim) {
  const int head_dim = task.parts->params->head_dim;
  if (hidden && has_nonfinite<Element>(tile.v, tile.count, head_dim)) {
    add_values_apart<Element>(memory.scores, tile.v, rows, tile.count, head_dim, dim, memory.factor,
                              task.acc);
    return;
  }
  const Ahead ahead{next.v, head_dim * static_cast<int>(sizeof(Element))};
  by_fours(rows, ValueCall<Element>{memory.scores, tile.v, tile.count, head_dim, dim, memory.factor,
                                    ahead, task.acc});
}

bool turns_any_key(const AttendTask& task) {
  if (!task.source.turn_keys) return false;
  for (int i = 0; i < task.source.n_runs; ++i) {
    if (task.source.runs[i].rotated == 0) return true;
  }
  return false;
}

template <class Element>
void stream(const AttendTask& task) {
  const int dim = padded_dim(task.parts->params->head_dim);
  const int rows = task.rows;
  Memory memory;
  memory.q = task.scratch;
  memory.scores = memory.q + padded_rows(rows) * dim;
  memory.factor = memory.scores + padded_rows(rows) * kTileSlots;

  load_all_queries(task, rows, dim, memory.q);
  for (int r = 0; r < rows; ++r) {
    task.m[r] = kNegativeInfinity;
    task.l[r] = 0.0f;
  }
  for (int i = 0; i < rows * dim; i += kWidth) store(task.acc + i, zero());
  TurnedScores turned;
  memory.turned = &turned;
  if (turns_any_key(task)) {
    turned =
        begin_turned_scores(*task.parts->params, memory.q, rows, memory.factor + padded_rows(rows));
  }

  SlotTile tiles[2];
  const int n_tiles = tiles_of(task.n_slots);
  read_tile_of(task, 0, &tiles[0]);
  for (int i = 0; i < n_tiles; ++i) {
    const SlotTile& tile = tiles[i % 2];
    SlotTile& next = tiles[(i + 1) % 2];
    const bool is_last = i + 1 == n_tiles;
    if (!is_last) read_tile_of(task, i + 1, &next);
    const SlotTile& ahead = is_last ? tile : next;
    float* const kept =
        task.logits == nullptr ? nullptr : task.logits + int64_t{i} * rows * kTileSlots;
    score<Element>(task, memory, tile, ahead, rows, dim);
    const bool hidden = weigh(task, memory, tile, kept);
    add<Element>(task, memory, tile, ahead, hidden, rows, dim);
  }
}

}  // namespace

void attend_stream(const AttendTask& task) {
  switch (task.parts->params->dtype) {
    case SKV_F16:
      return stream<F16>(task);
    case SKV_BF16:
      return stream<Bf16>(task);
    default:
      return stream<float>(task);
  }
}

}  // namespace spindlekv::cpu::SKV_ISA
