// attend for few rows (decode): K and V are read once, straight from their storage.
//
//   x[r, s] = q[r] . k[s];  p = exp(x - m);  acc[r] += sum_s p[r, s] v[s]     64 slots at a time
// Four rows share each K and V vector in registers (4 slots x 4 rows of accumulators for K, 4 x 4
// vectors of output for V on AVX-512); rows to come are prefetched meanwhile. Bytes: 2 D e per
// slot, memory-bound. Whole tiles of raw runs are read by adjacent_rows.h, any others here; keys
// that turn while they are read are scored by turned_scores.h.
#include <algorithm>

#include "cpu/attend_task.h"
#include "cpu/isa/adjacent_rows.h"
#include "cpu/isa/attend_rows.h"
#include "cpu/isa/dot_rows.h"
#include "cpu/isa/rows.h"
#include "cpu/isa/softmax.h"
#include "cpu/isa/turned_scores.h"
#include "cpu/prefetch.h"

namespace spindlekv::cpu::SKV_ISA {
namespace {

// Rows anywhere, one by one, and what to prefetch with each: those beyond the tile are the next
// one's.
struct ScatteredRows {
  const void* const* rows;    // [64] to be read
  const void* const* stored;  // [64] to be prefetched: `rows`, or NULL
  const void* const* next;    // [64] stored rows of the next tile, or of this one if it is the last
  int bytes;                  // of a stored row

  const void* row(int slot) const { return rows[slot]; }
  bool prefetches() const { return stored != nullptr; }
  const char* far(int slot) const { return ahead(slot + slots_in(kFarBytes)); }
  const char* near(int slot) const { return ahead(slot + slots_in(kNearBytes)); }
  ScatteredRows silent() const { return {rows, nullptr, nullptr, bytes}; }

 private:
  int slots_in(int distance) const {
    const int slots = distance / bytes;
    return slots < 1 ? 1 : slots < kTileSlots ? slots : kTileSlots;
  }
  const char* ahead(int slot) const {
    static_assert((kTileSlots & (kTileSlots - 1)) == 0);
    const void* const* const tile = slot < kTileSlots ? stored : next;
    return static_cast<const char*>(tile[slot & (kTileSlots - 1)]);
  }
};

// Query rows at a time: a row of K or V becomes floats once for as many.
constexpr int kRowsOfStream = 4;

// ---- scores ---------------------------------------------------------------------------

template <class Element, int kRows>
void score_tile(const float* q, int dim, const ScatteredRows& k, int count, int head_dim,
                float* out) {
  for (int slot = 0; slot < count; slot += kQuad) {
    for (int i = 0; k.prefetches() && i < kQuad; ++i) {
      prefetch_bytes<kSecondLevel>(k.far(slot + i), k.bytes);
      prefetch_bytes(k.near(slot + i), k.bytes);
    }
    const Element* row[kQuad];
    for (int i = 0; i < kQuad; ++i) row[i] = static_cast<const Element*>(k.row(slot + i));
    dot_quad<Element, kRows>(q, dim, row, head_dim, out + slot, kTileSlots);
  }
}

// ---- values ---------------------------------------------------------------------------

// kVecs vectors of output from column d on, over slots [begin, end); each block of columns
// prefetches its part of a row. kHalf: only 8 elements are left (AVX-512). factor: what the sums so
// far are multiplied by; NULL: nothing.
template <class Element, int kRows, int kVecs, bool kHalf>
inline void add_columns(const float* p, const ScatteredRows& v, int begin, int end, int d, int dim,
                        const float* factor, float* acc) {
  constexpr int kElements = kHalf ? 8 : kVecs * kWidth;
  Vec sum[kRows][kVecs];
  for (int r = 0; r < kRows; ++r) {
    const Vec scale = splat(factor == nullptr ? 1.0f : factor[r]);
    for (int c = 0; c < kVecs; ++c) {
      sum[r][c] = mul(load(acc + r * dim + d + c * kWidth), scale);
    }
  }
  for (int slot = begin; slot < end; ++slot) {
    const Element* const row = static_cast<const Element*>(v.row(slot)) + d;
    if (v.prefetches()) {
      constexpr int kBytes = kElements * static_cast<int>(sizeof(Element));
      prefetch_part<kBytes, kSecondLevel>(v.far(slot), d * static_cast<int>(sizeof(Element)));
      if (d == 0) prefetch_bytes(v.near(slot), v.bytes);
    }
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
void add_values(const float* p, const ScatteredRows& v, int count, int head_dim, int dim,
                const float* factor, float* acc) {
  constexpr int kVecs = kHasManyRegisters ? 4 : 2;
  for (int begin = 0; begin < count; begin += kValueSlots) {
    const int end = std::min(begin + kValueSlots, count);
    const float* const scale = begin == 0 ? factor : nullptr;
    int d = 0;
    for (; d + kVecs * kWidth <= head_dim; d += kVecs * kWidth) {
      add_columns<Element, kRows, kVecs, false>(p, v, begin, end, d, dim, scale, acc);
    }
    for (; d + kWidth <= head_dim; d += kWidth) {
      add_columns<Element, kRows, 1, false>(p, v, begin, end, d, dim, scale, acc);
    }
    if (kWidth > 8 && d < head_dim) {
      add_columns<Element, kRows, 1, true>(p, v, begin, end, d, dim, scale, acc);
    }
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
      const ScatteredRows value{v + slot, nullptr, nullptr, 0};
      add_values<Element, 1>(weight, value, 1, head_dim, dim, &kKeep, row);
    }
  }
}

// ---- one tile -------------------------------------------------------------------------

// The first rows bring the data in for the others.
template <class Element>
struct ScoreCall {
  const float* q;
  int dim;
  ScatteredRows k;
  int count, head_dim;
  float* out;
  template <int kRows>
  void run(int r) const {
    score_tile<Element, kRows>(q + r * dim, dim, r == 0 ? k : k.silent(), count, head_dim,
                               out + r * kTileSlots);
  }
};

template <class Element>
struct ValueCall {
  const float* p;
  ScatteredRows v;
  int count, head_dim, dim;
  const float* factor;
  float* acc;
  template <int kRows>
  void run(int r) const {
    add_values<Element, kRows>(p + r * kTileSlots, r == 0 ? v : v.silent(), count, head_dim, dim,
                               factor + r, acc + r * dim);
  }
};

template <class Element, int kDim>
struct AdjacentScoreCall {
  const float* q;
  const Element* k;
  const Element* next;
  int head_dim;
  float* out;
  template <int kRows>
  void run(int r) const {
    const float* const rows = q + r * padded_dim(head_dim);
    float* const scores = out + r * kTileSlots;
    if (r == 0) {
      score_adjacent<kRows>(rows, AdjacentRows<Element, kDim, true>{k, next, head_dim}, scores);
    } else {
      score_adjacent<kRows>(rows, AdjacentRows<Element, kDim, false>{k, next, head_dim}, scores);
    }
  }
};

template <class Element, int kDim>
struct AdjacentValueCall {
  const float* p;
  const Element* v;
  const Element* next;
  int head_dim;
  const float* factor;
  float* acc;
  template <int kRows>
  void run(int r) const {
    const float* const weights = p + r * kTileSlots;
    float* const rows = acc + r * padded_dim(head_dim);
    if (r == 0) {
      add_adjacent<kRows>(weights, AdjacentRows<Element, kDim, true>{v, next, head_dim}, factor,
                          rows);
    } else {
      add_adjacent<kRows>(weights, AdjacentRows<Element, kDim, false>{v, next, head_dim},
                          factor + r, rows);
    }
  }
};

struct Memory {
  float* q;       // [rows, dim]
  float* scores;  // [rows, 64]
  float* factor;  // [rows]
  TurnedScores* turned;
};

// Whether adjacent_rows.h scores the keys of a tile.
bool has_adjacent_keys(const SlotTile& tile) { return tile.is_adjacent && !tile.has_turn; }

// The tile that adjacent rows go on in: this one again where the next one's are scattered.
const SlotTile& tile_after(const SlotTile& tile, const SlotTile& next) {
  return next.is_adjacent ? next : tile;
}

template <class Element>
const Element* first_row(const void* const* rows) {
  return static_cast<const Element*>(rows[0]);
}

template <class Element>
void score(const AttendTask& task, const Memory& memory, const SlotTile& tile, const SlotTile& next,
           int rows, int dim) {
  const SkvAttendParams& params = *task.parts->params;
  const int head_dim = params.head_dim;
  const int bytes = head_dim * static_cast<int>(sizeof(Element));
  if (tile.has_turn) {
    const ScatteredRows keys{tile.k, tile.k, next.k, bytes};
    const void* rows_ahead[kTileSlots];
    for (int i = 0; i < kTileSlots; ++i) rows_ahead[i] = keys.near(i);
    score_turned(memory.turned, tile.k, tile.turn, tile.count, rows_ahead, memory.scores);
  } else if (has_adjacent_keys(tile)) {
    const Element* const k = first_row<Element>(tile.k);
    const Element* const k_after = first_row<Element>(tile_after(tile, next).k);
    with_known_dim(head_dim, [&](auto known) {
      by_rows<kRowsOfStream>(
          rows, AdjacentScoreCall<Element, known>{memory.q, k, k_after, head_dim, memory.scores});
    });
  } else {
    const ScatteredRows keys{tile.k, tile.k, next.k, bytes};
    by_rows<kRowsOfStream>(
        rows, ScoreCall<Element>{memory.q, dim, keys, tile.count, head_dim, memory.scores});
  }
  if (!tile.has_k_magnitude) return;
  for (int r = 0; r < rows; ++r) {
    float* const x = memory.scores + r * kTileSlots;
    store_tile_row(x, times(load_tile_row(x), tile.k_magnitude));
  }
}

// Logits to weights: updates m and l, leaves exp(x - m) in scores, and with m in `kept`, if that is
// not NULL, and the rescale factor of acc. ask(r) prefetches what is to be asked for with row r.
template <class Ask>
bool weigh(const AttendTask& task, const Memory& memory, const SlotTile& tile, const Ask& ask,
           float* kept) {
  const Extent extent = position_extent(tile);
  bool hidden = false;
  for_each_row(task, [&](int r, const SkvAttendParams& params, int head, int32_t position) {
    ask(r);
    float* const x = memory.scores + r * kTileSlots;
    const Sight sight = row_sight(tile, extent, head, params.causal != 0, position);
    hidden = hidden || hides(sight);
    TileRow row = logits_of(tile, sight, params.scale, load_tile_row(x));
    memory.factor[r] = advance_row(&row, task.m + r, task.l + r);
    if (kept != nullptr) {
      store_tile_row(kept + r * kTileSlots, row);
      kept[task.rows * kTileSlots + r] = task.m[r];
    }
    if (tile.has_v_magnitude) row = times(row, tile.v_magnitude);
    store_tile_row(x, row);
  });
  return hidden;
}

// Whether a row of values that some head does not see holds what is no number.
template <class Element>
bool hides_nonfinite(const AttendTask& task, bool hidden, SlotTile* tile) {
  if (!hidden) return false;
  write_rows(task.source, tile);
  return has_nonfinite<Element>(tile->v, tile->count, task.parts->params->head_dim);
}

// apart: one row at a time, because some row must not meet all values.
template <class Element>
void add(const AttendTask& task, const Memory& memory, const SlotTile& tile, const SlotTile& next,
         bool apart, int rows, int dim) {
  const int head_dim = task.parts->params->head_dim;
  if (apart) {
    add_values_apart<Element>(memory.scores, tile.v, rows, tile.count, head_dim, dim, memory.factor,
                              task.acc);
    return;
  }
  const int bytes = head_dim * static_cast<int>(sizeof(Element));
  if (tile.is_adjacent) {
    const Element* const v = first_row<Element>(tile.v);
    const Element* const v_after = first_row<Element>(tile_after(tile, next).v);
    with_known_dim(head_dim, [&](auto known) {
      by_rows<kRowsOfStream>(rows,
                             AdjacentValueCall<Element, known>{memory.scores, v, v_after, head_dim,
                                                               memory.factor, task.acc});
    });
    return;
  }
  const ScatteredRows values{tile.v, tile.v, next.v, bytes};
  by_rows<kRowsOfStream>(rows, ValueCall<Element>{memory.scores, values, tile.count, head_dim, dim,
                                                  memory.factor, task.acc});
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
    turned = begin_turned_scores(*task.parts->params, memory.q, rows,
                                 memory.factor + padded_rows(rows), task.angles);
  }

  // What is kept has its place in whole tiles.
  const bool may_end_early = task.kept == nullptr;
  const auto read = [&](int first, int end, SlotTile* tile) {
    read_slots_lazily(task.source, task.first_slot + first, std::min(kTileSlots, end - first),
                      may_end_early, tile);
  };
  SlotTile tiles[2];
  read(0, task.n_slots, &tiles[0]);
  for (int i = 0, first = 0; first < task.n_slots; ++i) {
    SlotTile& tile = tiles[i % 2];
    SlotTile& next = tiles[(i + 1) % 2];
    first += tile.count;
    // What is ahead of a piece's last tile is the next piece's first: as a rule this thread's too.
    const int end = first < task.n_slots ? task.n_slots : task.source.slots - task.first_slot;
    const bool is_last = first >= end;
    if (!is_last) read(first, end, &next);
    SlotTile& ahead = is_last ? tile : next;
    const bool adjacent_keys = has_adjacent_keys(tile);
    if (!adjacent_keys) {
      write_rows(task.source, &tile);
      write_rows(task.source, &ahead);
    }
    float* const kept =
        task.kept == nullptr ? nullptr : task.kept + i * kept_tile_floats(true, rows);
    score<Element>(task, memory, tile, ahead, rows, dim);
    // The keys of this tile asked for the first kFarBytes of the next ones.
    const bool asks = adjacent_keys && has_adjacent_keys(ahead) && !is_last;
    const auto ask = [&](int r) {
      if (!asks) return;
      const int share = kWeightBytes / rows;
      prefetch_bytes<kSecondLevel>(static_cast<const char*>(ahead.k[0]) + kFarBytes + r * share,
                                   share);
    };
    const bool hidden = weigh(task, memory, tile, ask, kept);
    add<Element>(task, memory, tile, ahead, hides_nonfinite<Element>(task, hidden, &tile), rows,
                 dim);
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
