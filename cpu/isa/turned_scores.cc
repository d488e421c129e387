// See turned_scores.h. On AVX-512 a key stays in registers from its storage to the last query row.
#include "cpu/isa/turned_scores.h"

#include "cpu/attend_task.h"
#include "cpu/isa/dot_rows.h"
#include "cpu/isa/rows.h"
#include "cpu/prefetch.h"

namespace spindlekv::cpu::SKV_ISA {
namespace {

// A block with fewer slots is not worth turning the queries for.
constexpr int kLeastSlots = 2;
// Largest difference between a row of the table and its composition, over the length of the row:
// four times what rounding gives.
constexpr float kComposition = 2e-6f;

int vectors_of(int elements) { return (elements + kWidth - 1) / kWidth; }

// Where vector v of elements [first, end) begins, and how many of its lanes the one before has.
struct Place {
  int at, covered;
};
Place place_of(int v, int first, int end) {
  const int wanted = first + v * kWidth;
  const int at = wanted + kWidth <= end ? wanted : end - kWidth;
  return {at, wanted - at};
}

int pairs_of(const TurnedScores& scores) { return scores.rope->n_rot / 2; }
int turn_at(const TurnedScores& scores, int v) { return place_of(v, 0, pairs_of(scores)).at; }
int rest_at(const TurnedScores& scores, int v) {
  return place_of(v, scores.rope->n_rot, scores.head_dim).at;
}

// One query row in the order of the split products.
void split_query(const TurnedScores& scores, const float* q, float* out) {
  const int pairs = pairs_of(scores);
  const bool is_norm = scores.rope->style == SKV_ROPE_NORM;
  for (int v = 0; v < scores.turns; ++v, out += 2 * kWidth) {
    const Place place = place_of(v, 0, pairs);
    for (int lane = 0; lane < kWidth; ++lane) {
      const int pair = place.at + lane;
      const bool is_there = lane < place.covered;
      out[lane] = is_there ? 0.0f : q[is_norm ? 2 * pair : pair];
      out[kWidth + lane] = is_there ? 0.0f : q[is_norm ? 2 * pair + 1 : pairs + pair];
    }
  }
  for (int v = 0; v < scores.rests; ++v, out += kWidth) {
    const Place place = place_of(v, scores.rope->n_rot, scores.head_dim);
    for (int lane = 0; lane < kWidth; ++lane) {
      out[lane] = lane < place.covered ? 0.0f : q[place.at + lane];
    }
  }
}

// Row 0 must be cosines alone; they are the length of every row (YaRN's attention factor), and may
// be divided by.
bool measure_row_0(const SkvRope& rope, float* largest) {
  constexpr float kLeastLength = 1e-30f, kMostLength = 1e30f;
  *largest = 0.0f;
  for (int i = 0; i < rope.n_rot / 2; ++i) {
    const float c = rope.cos_sin[2 * i];
    if (!(c > kLeastLength && c < kMostLength)) return false;
    if (rope.cos_sin[2 * i + 1] != 0.0f) return false;
    *largest = c > *largest ? c : *largest;
  }
  return true;
}

// One over the cosines of row 0, the way products are split; the sines' places are not used.
void invert_row_0(const TurnedScores& scores, float* out) {
  for (int v = 0; v < scores.turns; ++v, out += 2 * kWidth) {
    Vec length, none;
    load_pairs(scores.rope->cos_sin + 2 * turn_at(scores, v), &length, &none);
    store(out, div(splat(1.0f), length));
  }
}

// Row `position` of the table over row 0, the way products are split.
void make_angle_row(const TurnedScores& scores, const float* inverse, int64_t position,
                    float* out) {
  for (int v = 0; v < scores.turns; ++v, out += 2 * kWidth, inverse += 2 * kWidth) {
    Vec c, s;
    load_pairs(table_row(*scores.rope, position) + 2 * turn_at(scores, v), &c, &s);
    const Vec factor = load(inverse);
    store(out, mul(c, factor));
    store(out + kWidth, mul(s, factor));
  }
}

bool are_of(const TurnAngles& angles, const SkvRope& rope) {
  return angles.rope.cos_sin == rope.cos_sin && angles.rope.positions == rope.positions &&
         angles.rope.n_rot == rope.n_rot;
}

// [64, turns, 2, kWidth] of the first positions, then [16, turns, 2, kWidth] of every 64th.
void make_angles(const TurnedScores& scores, TurnAngles* angles) {
  angles->rope = *scores.rope;
  angles->composes =
      scores.rope->n_rot / 2 >= kWidth && measure_row_0(*scores.rope, &angles->largest);
  if (!angles->composes) return;
  const int row = scores.turns * 2 * kWidth;
  const int32_t positions = scores.rope->positions;
  float* const inverse = scores.keys;
  invert_row_0(scores, inverse);
  float* out = angles->rows;
  for (int p = 0; p < kTurnBlock && p < positions; ++p) {
    make_angle_row(scores, inverse, p, out + p * row);
  }
  out += kTurnBlock * row;
  for (int b = 0; b < kBlocksInStretch && b * kTurnBlock < positions; ++b) {
    make_angle_row(scores, inverse, b * kTurnBlock, out + b * row);
  }
}

// Slots that do not turn (-1) are in a block of their own, at its first place.
int place_in_block(int32_t turn) { return turn < 0 ? 0 : turn % kTurnBlock; }

const float* angles_of(const TurnedScores& scores, int32_t turn) {
  return scores.angles + place_in_block(turn) * scores.turns * 2 * kWidth;
}

// ---- the queries of a block -------------------------------------------------------------

// A vector of cosines and one of sines.
struct Angle {
  Vec c, s;
};
Angle table_angle(const TurnedScores& scores, int64_t position, int v) {
  Angle angle;
  load_pairs(table_row(*scores.rope, position) + 2 * turn_at(scores, v), &angle.c, &angle.s);
  return angle;
}
Angle angle_at(const float* row, int v) {
  return {load(row + v * 2 * kWidth), load(row + v * 2 * kWidth + kWidth)};
}
Angle sum_of(const Angle& a, const Angle& b) {
  return {neg_madd(a.s, b.s, mul(a.c, b.c)), madd(a.c, b.s, mul(a.s, b.c))};
}

const float* step_of(const TurnedScores& scores, int64_t block) {
  return scores.steps + block * scores.turns * 2 * kWidth;
}

// Whether row `first` turned on to `last`, less than a stretch away, is row `last`.
bool rows_compose(const TurnedScores& scores, int64_t first, int64_t last) {
  const float* const step = step_of(scores, (last - first) / kTurnBlock);
  const float* const angles = angles_of(scores, static_cast<int32_t>(last - first));
  Vec most = zero();
  for (int v = 0; v < scores.turns; ++v) {
    const Angle on = sum_of(angle_at(step, v), angle_at(angles, v));
    const Angle composed = sum_of(table_angle(scores, first, v), on);
    const Angle wanted = table_angle(scores, last, v);
    const Vec x = sub(composed.c, wanted.c);
    const Vec y = sub(composed.s, wanted.s);
    most = max(madd(x, x, mul(y, y)), most);
  }
  const float bound = kComposition * scores.table->largest;
  return reduce_max(most) <= bound * bound;
}

// The rows that the next stretch is turned by: the only ones that are read of the whole table.
SKV_PREFETCH void prefetch_next_stretch(const SkvRope& rope, int64_t last) {
  const int64_t next_last = last + kTurnStretch;
  if (next_last >= rope.positions) return;
  const size_t bytes = static_cast<size_t>(rope.n_rot) * sizeof(float);
  prefetch_bytes(table_row(rope, last + 1), bytes);
  prefetch_bytes(table_row(rope, next_last), bytes);
}

// out = the rows of q turned back by an angle for each pair.
template <class AngleOf>
void turn_back(const TurnedScores& scores, const float* q, const AngleOf& angle_of, float* out) {
  for (int v = 0; v < scores.turns; ++v) {
    const Angle angle = angle_of(v);
    for (int r = 0; r < scores.rows; ++r) {
      const int at = r * scores.stride + v * 2 * kWidth;
      const Vec x = load(q + at);
      const Vec y = load(q + at + kWidth);
      store(out + at, madd(y, angle.s, mul(x, angle.c)));
      store(out + at + kWidth, neg_madd(x, angle.s, mul(y, angle.c)));
    }
  }
}

void enter_stretch(TurnedScores* scores, int32_t stretch) {
  scores->stretch = stretch;
  const int64_t first = int64_t{stretch} * kTurnStretch;
  const int64_t end = scores->rope->positions;
  const int64_t last = first + kTurnStretch <= end ? first + kTurnStretch - 1 : end - 1;
  prefetch_next_stretch(*scores->rope, last);
  scores->stretch_composes = rows_compose(*scores, first, last);
  if (!scores->stretch_composes) return;
  turn_back(
      *scores, scores->base, [&](int v) { return table_angle(*scores, first, v); },
      scores->stretched);
}

// Turns the queries back by the positions of the block; false if the rows about it do not compose.
bool turn_queries(TurnedScores* scores, int32_t block) {
  if (block == scores->block) return scores->stretch_composes;
  scores->block = block;
  const int32_t stretch = block / kBlocksInStretch;
  if (stretch != scores->stretch) enter_stretch(scores, stretch);
  if (!scores->stretch_composes) return false;
  const float* const step = step_of(*scores, block % kBlocksInStretch);
  turn_back(*scores, scores->stretched, [&](int v) { return angle_at(step, v); }, scores->turned);
  return true;
}

// ---- products of four keys ---------------------------------------------------------------

template <class Element, bool kNorm>
inline void load_turned(const Element* row, int pairs, int at, const float* angles, Vec* x,
                        Vec* y) {
  Vec first, second;
  if (kNorm) {
    load_pairs(row + 2 * at, &first, &second);
  } else {
    first = load(row + at);
    second = load(row + pairs + at);
  }
  const Vec c = load(angles);
  const Vec s = load(angles + kWidth);
  *x = neg_madd(second, s, mul(first, c));
  *y = madd(second, c, mul(first, s));
}

// kTurns: scores.turns where it is known and all of a key turns, or 0.
template <class Element, bool kNorm, int kRows, int kTurns>
[[gnu::always_inline]] inline void score_quad(const TurnedScores& scores, const float* q,
                                              const Element* const* k, const float* const* angles,
                                              float* out, int out_stride) {
  const int turns = kTurns > 0 ? kTurns : scores.turns;
  const int pairs = kTurns > 0 ? kTurns * kWidth : pairs_of(scores);
  const int stride = kTurns > 0 ? kTurns * 2 * kWidth : scores.stride;
  QuadSums<kRows> sums;
  for (int v = 0; v < turns; ++v) {
    const int at = kTurns > 0 ? v * kWidth : turn_at(scores, v);
    Vec x[kQuad], y[kQuad];
#pragma GCC unroll 4
    for (int i = 0; i < kQuad; ++i) {
      load_turned<Element, kNorm>(k[i], pairs, at, angles[i] + v * 2 * kWidth, &x[i], &y[i]);
    }
    sums.add(q + v * 2 * kWidth, stride, x);
    sums.add(q + v * 2 * kWidth + kWidth, stride, y);
  }
  for (int v = 0; kTurns == 0 && v < scores.rests; ++v) {
    Vec key[kQuad];
    load_quad(k, rest_at(scores, v), key);
    sums.add(q + (2 * turns + v) * kWidth, stride, key);
  }
  sums.fold(out, out_stride);
}

// The same through memory: more rows than registers hold share the turned keys.
template <class Element, bool kNorm>
void score_quad_stored(const TurnedScores& scores, const float* q, const Element* const* k,
                       const float* const* angles, float* out, int out_stride) {
  const int pairs = pairs_of(scores);
  const float* rows[kQuad];
  for (int i = 0; i < kQuad; ++i) {
    float* key = scores.keys + i * scores.stride;
    rows[i] = key;
    for (int v = 0; v < scores.turns; ++v, key += 2 * kWidth) {
      Vec x, y;
      load_turned<Element, kNorm>(k[i], pairs, turn_at(scores, v), angles[i] + v * 2 * kWidth, &x,
                                  &y);
      store(key, x);
      store(key + kWidth, y);
    }
    for (int v = 0; v < scores.rests; ++v, key += kWidth) {
      store(key, load(k[i] + rest_at(scores, v)));
    }
  }
  by_rows(scores.rows, DotCall<float>{q, scores.stride, rows, scores.stride, out, out_stride});
}

// ---- a tile ------------------------------------------------------------------------------

struct Tile {
  const void* const* k;
  const int32_t* turn;
  const void* const* ahead;
  float* out;
  int count;
};

// Slots [from, to) of one block, by the queries q of that block. kRows: all query rows where they
// and the keys fit the registers, or 0.
template <class Element, bool kNorm, int kRows, int kTurns>
void score_slots(const TurnedScores& scores, const float* q, const Tile& tile, int from, int to) {
  const int angle_floats = (kTurns > 0 ? kTurns : scores.turns) * 2 * kWidth;
  const int head_dim = kTurns > 0 ? kTurns * 2 * kWidth : scores.head_dim;
  const auto score = [&](const Element* const* k, const float* const* angles, float* out,
                         int stride) {
    if constexpr (kRows > 0) {
      score_quad<Element, kNorm, kRows, kTurns>(scores, q, k, angles, out, stride);
    } else {
      score_quad_stored<Element, kNorm>(scores, q, k, angles, out, stride);
    }
  };
  const Element* k[kQuad];
  const float* angles[kQuad];
  const auto find = [&](int i, int slot) {
    k[i] = static_cast<const Element*>(tile.k[slot]);
    angles[i] = scores.angles + place_in_block(tile.turn[slot]) * angle_floats;
  };
  int slot = from;
  for (; slot + kQuad <= to; slot += kQuad) {
#pragma GCC unroll 4
    for (int i = 0; i < kQuad; ++i) {
      find(i, slot + i);
      prefetch_bytes(tile.ahead[slot + i], head_dim * sizeof(Element));
    }
    score(k, angles, tile.out + slot, kTileSlots);
  }
  if (slot == to) return;
  for (int i = 0; i < kQuad; ++i) {
    const int each = slot + i < to ? slot + i : to - 1;
    find(i, each);
    prefetch_bytes(tile.ahead[each], head_dim * sizeof(Element));
  }
  Columns columns(tile.out + slot, to - slot);
  score(k, angles, columns.target(), columns.stride());
  columns.finish(scores.rows);
}

template <class Element, bool kNorm, int kTurns>
void score_rows(const TurnedScores& scores, const float* q, const Tile& tile, int from, int to) {
  switch (kWidth < 16 ? 0 : scores.rows) {
    case 1:
      return score_slots<Element, kNorm, 1, kTurns>(scores, q, tile, from, to);
    case 2:
      return score_slots<Element, kNorm, 2, kTurns>(scores, q, tile, from, to);
    case 3:
      return score_slots<Element, kNorm, 3, kTurns>(scores, q, tile, from, to);
    case 4:
      return score_slots<Element, kNorm, 4, kTurns>(scores, q, tile, from, to);
    default:
      return score_slots<Element, kNorm, 0, kTurns>(scores, q, tile, from, to);
  }
}

// Slots [from, to) of one block.
template <class Element, bool kNorm>
void score_block(const TurnedScores& scores, const float* q, const Tile& tile, int from, int to) {
  const bool is_whole = scores.rests == 0 && pairs_of(scores) == scores.turns * kWidth;
  switch (is_whole ? scores.head_dim : 0) {
    case 64:
      return score_rows<Element, kNorm, 32 / kWidth>(scores, q, tile, from, to);
    case 128:
      return score_rows<Element, kNorm, 64 / kWidth>(scores, q, tile, from, to);
    default:
      return score_rows<Element, kNorm, 0>(scores, q, tile, from, to);
  }
}

// Slots [from, to), each turned by its own row of the table.
template <class Element>
void score_apart(const TurnedScores& scores, const Tile& tile, int from, int to) {
  const SkvRope& rope = *scores.rope;
  for (int slot = from; slot < to; slot += kQuad) {
    const float* rows[kQuad];
    for (int i = 0; i < kQuad; ++i) {
      const int each = slot + i < to ? slot + i : to - 1;
      float* const row = scores.keys + i * scores.dim;
      rows[i] = row;
      if (slot + i < to) prefetch_bytes(tile.ahead[each], scores.head_dim * sizeof(Element));
      load_row<Element>(tile.k[each], row, scores.head_dim, scores.dim);
      if (tile.turn[each] < 0) continue;
      rotate_row(row, table_row(rope, tile.turn[each]), rope.n_rot, rope.style, 1.0f);
    }
    Columns columns(tile.out + slot, to - slot);
    by_rows(scores.rows, DotCall<float>{scores.q, scores.dim, rows, scores.head_dim,
                                        columns.target(), columns.stride()});
    columns.finish(scores.rows);
  }
}

int32_t block_of(int32_t turn) { return turn < 0 ? -1 : turn / kTurnBlock; }

// Whether all slots of a tile are of one block of positions, which most tiles of 64 are.
bool is_one_block(const int32_t* turn, int count) {
  if (count != kTileSlots || turn[0] < 0) return false;
  const uint32_t first = static_cast<uint32_t>(turn[0] - turn[0] % kTurnBlock);
  uint32_t largest = 0;
  for (int i = 0; i < kTileSlots; ++i) {
    const uint32_t place = static_cast<uint32_t>(turn[i]) - first;
    largest = place > largest ? place : largest;
  }
  return largest < kTurnBlock;
}

template <class Element>
void score_tile(TurnedScores* scores, const Tile& tile) {
  const int count = tile.count;
  int blocks = 1;
  const bool is_whole = is_one_block(tile.turn, count);
  for (int i = 1; !is_whole && i < count; ++i)
    blocks += block_of(tile.turn[i]) != block_of(tile.turn[i - 1]);
  const bool is_sparse = blocks > 1 && blocks * kLeastSlots > count;
  if (!scores->table->composes || is_sparse) return score_apart<Element>(*scores, tile, 0, count);
  for (int from = 0; from < count;) {
    const int32_t block = block_of(tile.turn[from]);
    int to = is_whole ? count : from + 1;
    while (to < count && block_of(tile.turn[to]) == block) ++to;
    if (block >= 0 && !turn_queries(scores, block)) {
      score_apart<Element>(*scores, tile, from, to);
    } else {
      const float* const q = block < 0 ? scores->base : scores->turned;
      if (scores->rope->style == SKV_ROPE_NORM) {
        score_block<Element, true>(*scores, q, tile, from, to);
      } else {
        score_block<Element, false>(*scores, q, tile, from, to);
      }
    }
    from = to;
  }
}

}  // namespace

TurnedScores begin_turned_scores(const SkvAttendParams& params, const float* q, int rows,
                                 float* memory, TurnAngles* angles) {
  TurnedScores scores;
  scores.rope = &params.rope;
  scores.dtype = params.dtype;
  scores.rows = rows;
  scores.head_dim = params.head_dim;
  scores.dim = padded_dim(params.head_dim);
  scores.q = q;
  scores.turns = vectors_of(params.rope.n_rot / 2);
  scores.rests = vectors_of(params.head_dim - params.rope.n_rot);
  scores.stride = (2 * scores.turns + scores.rests) * kWidth;
  scores.base = memory;
  scores.stretched = scores.base + rows * scores.stride;
  scores.turned = scores.stretched + rows * scores.stride;
  scores.keys = scores.turned + rows * scores.stride;
  scores.table = angles;
  scores.angles = angles->rows;
  scores.steps = scores.angles + kTurnBlock * scores.turns * 2 * kWidth;
  scores.block = scores.stretch = -1;
  scores.stretch_composes = false;
  if (!are_of(*angles, params.rope)) make_angles(scores, angles);
  if (!angles->composes) return scores;
  float* const copies[] = {scores.base, scores.stretched, scores.turned};
  for (int r = 0; r < rows; ++r) {
    for (float* const copy : copies) {
      split_query(scores, q + r * scores.dim, copy + r * scores.stride);
    }
  }
  return scores;
}

void score_turned(TurnedScores* scores, const void* const* k, const int32_t* turn, int count,
                  const void* const* ahead, float* out) {
  const Tile tile{k, turn, ahead, out, count};
  switch (scores->dtype) {
    case SKV_F16:
      return score_tile<F16>(scores, tile);
    case SKV_BF16:
      return score_tile<Bf16>(scores, tile);
    default:
      return score_tile<float>(scores, tile);
  }
}

}  // namespace spindlekv::cpu::SKV_ISA
