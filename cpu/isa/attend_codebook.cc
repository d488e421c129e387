// attend for few rows (decode) over slots that are stored as references into codewords.
//
//   x[r, s] = (q[r] . R_s C_K[k_s]) a_s;  bins[c, r] = sum over v_s = c of p[r, s] b_s;
//   acc[r] = sum_c bins[c, r] C_V[c]                                   a, b: magnitudes
// Values are added up in the space of codewords, one vector of rows a slot, and each codeword is
// read and multiplied once a piece instead of once a slot. Keys stored after RoPE have one product
// a codeword, which their slots look up; keys before RoPE turn on the way (turned_scores.h). All
// logits of the piece are there before the first exponential, so no bin is ever rescaled.
// Bytes: references, magnitudes and positions (12 a slot, f16), 4 D a pair of codewords, once.
#include "cpu/attend_task.h"
#include "cpu/isa/attend_rows.h"
#include "cpu/isa/dot_rows.h"
#include "cpu/isa/rows.h"
#include "cpu/isa/softmax.h"
#include "cpu/isa/turned_scores.h"
#include "cpu/prefetch.h"

namespace spindlekv::cpu::SKV_ISA {
namespace {

// Rows of bins come in fours: one vector on every instruction set.
constexpr int kFour = 4;
typedef float Four __attribute__((vector_size(16)));
typedef int32_t FourInts __attribute__((vector_size(16)));

inline Four load_four(const float* p) {
  Four x;
  memcpy(&x, p, sizeof(x));
  return x;
}
inline void store_four(float* p, Four x) { memcpy(p, &x, sizeof(x)); }

inline void transpose(Four (&rows)[kFour]) {
  const auto [a, b, c, d] = rows;
  const Four ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
  const Four ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Four cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  const Four cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  rows[0] = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
  rows[1] = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
  rows[2] = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
  rows[3] = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
}

constexpr int kKeysAhead = 16;  // slots; their rows come from the second-level cache at best
constexpr int kWordsAtOnce = 16;
constexpr int kWordsFar = 8 * kWordsAtOnce;  // on the way to the second-level cache

struct Piece {
  const SkvAttendParams* params;  // what all parts have in common
  const SkvRun* run;
  int first, count;  // slots of the run
  int rows, fours;   // query rows; rounded up to 4
  int head_dim, dim;
  bool turns;  // keys were stored before RoPE
};

struct Memory {
  float* q;          // [padded rows, dim]
  float* logits;     // [tiles, rows, 64]
  float* weights;    // [fours, 64]
  float* by_slot;    // [64, fours]
  float* bins;       // [v_codewords, fours]; products of the keys' codewords before
  int32_t* touched;  // [v_codewords] codewords with weight
  float* turning;    // turned_scores_floats
};

// Calls call(refs + first) with the type that the run's references have.
template <class Call>
inline void with_refs(const SkvRun& run, const void* refs, int first, const Call& call) {
  if (run.ref_bytes == 2) {
    call(static_cast<const uint16_t*>(refs) + first);
  } else {
    call(static_cast<const int32_t*>(refs) + first);
  }
}

// Magnitudes of `count` slots as floats; 1 beyond.
template <class Element>
inline void load_magnitudes(const void* values, int first, int count, float* out) {
  const Element* const in = static_cast<const Element*>(values) + first;
  int i = 0;
  for (; i + kWidth <= count; i += kWidth) store(out + i, load(in + i));
  for (; i < count; ++i) out[i] = to_float(in[i]);
  for (; i < kTileSlots; ++i) out[i] = 1.0f;
}

// What logits_of reads.
void describe(const Piece& piece, int first, int count, SlotTile* tile) {
  const SkvRun& run = *piece.run;
  tile->count = count;
  tile->has_mask = run.mask != nullptr;
  tile->has_beta = run.beta != nullptr;
  tile->position = tile->position_copy;
  memcpy(tile->position_copy, run.positions + first, sizeof(int32_t) * static_cast<size_t>(count));
  for (int i = 0; tile->has_mask && i < count; ++i) tile->mask[i] = run.mask[first + i];
  if (tile->has_beta) {
    memcpy(tile->beta, run.beta + first, sizeof(float) * static_cast<size_t>(count));
  }
}

// ---- scores -------------------------------------------------------------------------------

// Products of every key codeword with every row, [k_codewords, fours].
template <class Element>
void look_up_products(const Piece& piece, const Memory& memory) {
  const int head_dim = piece.head_dim;
  const Element* const words = static_cast<const Element*>(piece.run->k);
  const int codewords = piece.run->k_codewords;
  for (int c = 0; c < codewords; c += kQuad) {
    const int n = codewords - c < kQuad ? codewords - c : kQuad;
    const Element* rows[kQuad];
    for (int i = 0; i < kQuad; ++i) rows[i] = words + int64_t{c + (i < n ? i : 0)} * head_dim;
    float products[kStreamRows * kQuad];
    by_rows(piece.rows, DotCall<Element>{memory.q, piece.dim, rows, head_dim, products, kQuad});
    for (int i = 0; i < n; ++i) {
      for (int r = 0; r < piece.rows; ++r) {
        memory.bins[int64_t{c + i} * piece.fours + r] = products[r * kQuad + i];
      }
    }
  }
}

// x[r][i] = products[refs[i]][r].
template <class Ref>
void pick_products(const Piece& piece, const Memory& memory, const Ref* refs, int count, float* x) {
  const auto products_of = [&](int i) { return memory.bins + int64_t{refs[i]} * piece.fours; };
  int i = 0;
  for (; i + kFour <= count; i += kFour) {
    for (int r = 0; r < piece.rows; r += kFour) {
      Four rows[kFour];
      for (int j = 0; j < kFour; ++j) rows[j] = load_four(products_of(i + j) + r);
      transpose(rows);
      for (int j = 0; j < kFour && r + j < piece.rows; ++j) {
        store_four(x + (r + j) * kTileSlots + i, rows[j]);
      }
    }
  }
  for (; i < count; ++i) {
    for (int r = 0; r < piece.rows; ++r) x[r * kTileSlots + i] = products_of(i)[r];
  }
}

void score_by_products(const Piece& piece, const Memory& memory, int first, int count, float* x) {
  with_refs(*piece.run, piece.run->k_ref, first,
            [&](const auto* refs) { pick_products(piece, memory, refs, count, x); });
}

template <class Element>
void score_by_turning(const Piece& piece, TurnedScores* turned, int first, int count, float* x) {
  const SkvRun& run = *piece.run;
  const int64_t row_bytes = piece.head_dim * static_cast<int64_t>(sizeof(Element));
  const int left = piece.first + piece.count - first;
  const int known = left < count + kKeysAhead ? left : count + kKeysAhead;
  const void* rows[kTileSlots + kKeysAhead];
  with_refs(run, run.k_ref, first, [&](const auto* refs) {
    const char* const words = static_cast<const char*>(run.k);
    for (int i = 0; i < known; ++i) rows[i] = words + refs[i] * row_bytes;
  });
  for (int i = known; i < count + kKeysAhead; ++i) rows[i] = rows[known - 1];
  if (piece.params->reindex == 0) {
    return score_turned(turned, rows, run.positions + first, count, rows + kKeysAhead, x);
  }
  int32_t turn[kTileSlots];
  for (int i = 0; i < count; ++i) turn[i] = run.slot_base + first + i;
  score_turned(turned, rows, turn, count, rows + kKeysAhead, x);
}

// Logits of one tile out of its products, and the maxima so far.
template <class Element>
void finish_tile(const AttendTask& task, const Piece& piece, int first, int count, float* x) {
  SlotTile tile;
  describe(piece, first, count, &tile);
  float magnitude[kTileSlots];
  load_magnitudes<Element>(piece.run->k_magnitude, first, count, magnitude);
  const Extent extent = position_extent(tile);
  for_each_row(task, [&](int r, const SkvAttendParams& params, int head, int32_t position) {
    float* const at = x + r * kTileSlots;
    const Sight sight = row_sight(tile, extent, head, params.causal != 0, position);
    const TileRow products = times(load_tile_row(at), magnitude);
    const TileRow logits = logits_of(tile, sight, params.scale, products);
    store_tile_row(at, logits);
    const float most = row_max(logits);
    task.m[r] = most > task.m[r] ? most : task.m[r];
  });
}

template <class Element>
void score(const AttendTask& task, const Piece& piece, const Memory& memory) {
  TurnedScores turned;
  if (piece.turns) {
    turned = begin_turned_scores(*piece.params, memory.q, piece.rows, memory.turning, task.angles);
  } else {
    look_up_products<Element>(piece, memory);
  }
  float* x = memory.logits;
  for (int at = 0; at < piece.count; at += kTileSlots, x += piece.rows * kTileSlots) {
    const int first = piece.first + at;
    const int count = piece.count - at < kTileSlots ? piece.count - at : kTileSlots;
    if (piece.turns) {
      score_by_turning<Element>(piece, &turned, first, count, x);
    } else {
      score_by_products(piece, memory, first, count, x);
    }
    finish_tile<Element>(task, piece, first, count, x);
  }
}

// ---- values -------------------------------------------------------------------------------

// by_slot[s][r] = weights[r][s].
void turn_weights(const Memory& memory, int fours) {
  for (int r = 0; r < fours; r += kFour) {
    const float* const in = memory.weights + r * kTileSlots;
    for (int s = 0; s < kTileSlots; s += kFour) {
      Four rows[kFour];
      for (int j = 0; j < kFour; ++j) rows[j] = load_four(in + j * kTileSlots + s);
      transpose(rows);
      float* const out = memory.by_slot + s * fours + r;
      for (int j = 0; j < kFour; ++j) store_four(out + j * fours, rows[j]);
    }
  }
}

// bins[refs[i]] += by_slot[i].
template <class Ref>
void add_to_bins(const Piece& piece, const Memory& memory, const Ref* refs, int count) {
  const int fours = piece.fours;
  if (fours == kFour) {
    for (int i = 0; i < count; ++i) {
      float* const bin = memory.bins + int64_t{refs[i]} * kFour;
      store_four(bin, load_four(bin) + load_four(memory.by_slot + i * kFour));
    }
    return;
  }
  for (int i = 0; i < count; ++i) {
    float* const bin = memory.bins + int64_t{refs[i]} * fours;
    for (int r = 0; r < fours; r += kFour) {
      store_four(bin + r, load_four(bin + r) + load_four(memory.by_slot + i * fours + r));
    }
  }
}

// Exponentials of all logits: l, and the weights of the codewords. The logits stay as they are.
template <class Element>
void fill_bins(const Piece& piece, const Memory& memory, const float* m, float* l) {
  const SkvRun& run = *piece.run;
  const int64_t floats = int64_t{run.v_codewords} * piece.fours;
  memset(memory.bins, 0, sizeof(float) * static_cast<size_t>(floats));
  memset(memory.weights, 0, sizeof(float) * static_cast<size_t>(piece.fours * kTileSlots));
  float magnitude[kTileSlots];
  const float* x = memory.logits;
  for (int at = 0; at < piece.count; at += kTileSlots, x += piece.rows * kTileSlots) {
    const int first = piece.first + at;
    const int count = piece.count - at < kTileSlots ? piece.count - at : kTileSlots;
    load_magnitudes<Element>(run.v_magnitude, first, count, magnitude);
    for (int r = 0; r < piece.rows; ++r) {
      const TileRow p = exp_from(load_tile_row(x + r * kTileSlots), finite_pivot(m[r]));
      l[r] += sum_64(p);
      store_tile_row(memory.weights + r * kTileSlots, times(p, magnitude));
    }
    turn_weights(memory, piece.fours);
    with_refs(run, run.v_ref, first,
              [&](const auto* refs) { add_to_bins(piece, memory, refs, count); });
  }
}

// The codewords that have weight in some row: what nobody sees is not read, whatever it holds.
int list_touched(const Piece& piece, const Memory& memory) {
  int n = 0;
  const float* bin = memory.bins;
  for (int c = 0; c < piece.run->v_codewords; ++c, bin += piece.fours) {
    FourInts differs = FourInts{0, 0, 0, 0};
    for (int r = 0; r < piece.fours; r += kFour) {
      differs |= load_four(bin + r) != Four{0.0f, 0.0f, 0.0f, 0.0f};
    }
    memory.touched[n] = c;
    n += (differs[0] | differs[1] | differs[2] | differs[3]) != 0;
  }
  return n;
}

// Codewords, of those touched.
struct Words {
  const int32_t* list;
  int n;
  const int32_t* ahead;  // as many to prefetch meanwhile
  const int32_t* far;    // as many to bring to the second-level cache
};

// kVecs vectors of output from column d on. kHalf: only 8 elements are left (AVX-512).
template <class Element, int kRows, int kVecs, bool kHalf>
inline void add_word_columns(const Piece& piece, const Memory& memory, const Words& touched,
                             int row, int d, float* acc) {
  const int head_dim = piece.head_dim;
  const Element* const words = static_cast<const Element*>(piece.run->v) + d;
  Vec sum[kRows][kVecs];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) sum[r][v] = load(acc + (row + r) * piece.dim + d + v * kWidth);
  }
  for (int i = 0; i < touched.n; ++i) {
    if (row == 0) {
      constexpr size_t kBytes = (kHalf ? 8 : kVecs * kWidth) * sizeof(Element);
      prefetch_bytes(words + int64_t{touched.ahead[i]} * head_dim, kBytes);
      prefetch_bytes<kSecondLevel>(words + int64_t{touched.far[i]} * head_dim, kBytes);
    }
    const Element* const word = words + int64_t{touched.list[i]} * head_dim;
    const float* const bin = memory.bins + int64_t{touched.list[i]} * piece.fours + row;
    Vec value[kVecs];
    for (int v = 0; v < kVecs; ++v) value[v] = kHalf ? load_8(word) : load(word + v * kWidth);
    for (int r = 0; r < kRows; ++r) {
      const Vec weight = splat(bin[r]);
      for (int v = 0; v < kVecs; ++v) sum[r][v] = madd(weight, value[v], sum[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) store(acc + (row + r) * piece.dim + d + v * kWidth, sum[r][v]);
  }
}

template <class Element>
struct WordsCall {
  const Piece& piece;
  const Memory& memory;
  const Words& touched;
  float* acc;
  template <int kRows>
  void run(int row) const {
    constexpr int kVecs = kHasManyRegisters ? 4 : 2;
    const int head_dim = piece.head_dim;
    int d = 0;
    for (; d + kVecs * kWidth <= head_dim; d += kVecs * kWidth) {
      add_word_columns<Element, kRows, kVecs, false>(piece, memory, touched, row, d, acc);
    }
    for (; d + kWidth <= head_dim; d += kWidth) {
      add_word_columns<Element, kRows, 1, false>(piece, memory, touched, row, d, acc);
    }
    if (kWidth > 8 && d < head_dim) {
      add_word_columns<Element, kRows, 1, true>(piece, memory, touched, row, d, acc);
    }
  }
};

bool has_nan(const float* x, int n) {
  Vec probe = zero();
  for (int i = 0; i < n; i += kWidth) probe = madd(load(x + i), zero(), probe);
  const float sum = halving_sum(probe);
  return sum != sum;
}

// The same one row at a time, leaving out codewords of weight 0: infinity or NaN in a codeword that
// one row sees must not reach another as 0 * infinity.
template <class Element>
void add_words_apart(const Piece& piece, const Memory& memory, int touched, float* acc) {
  const int head_dim = piece.head_dim;
  float word[512];
  for (int r = 0; r < piece.rows; ++r) {
    float* const row = acc + int64_t{r} * piece.dim;
    for (int d = 0; d < piece.dim; d += kWidth) store(row + d, zero());
    for (int i = 0; i < touched; ++i) {
      const float weight = memory.bins[int64_t{memory.touched[i]} * piece.fours + r];
      if (weight == 0.0f) continue;
      load_row<Element>(
          static_cast<const Element*>(piece.run->v) + int64_t{memory.touched[i]} * head_dim, word,
          head_dim, piece.dim);
      add_scaled_row(word, weight, row, piece.dim);
    }
  }
}

template <class Element>
void add_words(const Piece& piece, const Memory& memory, float* acc) {
  const int touched = list_touched(piece, memory);
  // A few at a time, so that they are still near when the next columns and rows need them.
  for (int first = 0; first < touched; first += kWordsAtOnce) {
    const int n = touched - first < kWordsAtOnce ? touched - first : kWordsAtOnce;
    const int left = touched - first - n;
    const int32_t* const list = memory.touched + first;
    const Words words{list, n, list + (left < n ? 0 : n),
                      list + (left < kWordsFar ? 0 : kWordsFar)};
    by_rows(piece.rows, WordsCall<Element>{piece, memory, words, acc});
  }
  if (has_nan(acc, piece.rows * piece.dim)) {
    add_words_apart<Element>(piece, memory, touched, acc);
  }
}

template <class Element>
void attend(const AttendTask& task, const Piece& piece, const Memory& memory) {
  for (int r = 0; r < piece.rows; ++r) {
    task.m[r] = kNegativeInfinity;
    task.l[r] = 0.0f;
  }
  for (int i = 0; i < piece.rows * piece.dim; i += kWidth) store(task.acc + i, zero());
  score<Element>(task, piece, memory);
  fill_bins<Element>(piece, memory, task.m, task.l);
  add_words<Element>(piece, memory, task.acc);
}

Piece piece_of(const AttendTask& task) {
  const SkvAttendParams& params = *task.parts->params;
  const SkvRun* run = task.source.runs;
  while (run->slot_base + run->slots <= task.first_slot) ++run;
  Piece piece;
  piece.params = &params;
  piece.run = run;
  piece.first = task.first_slot - run->slot_base;
  piece.count = task.n_slots;
  piece.rows = task.rows;
  piece.fours = (task.rows + kFour - 1) / kFour * kFour;
  piece.head_dim = params.head_dim;
  piece.dim = padded_dim(params.head_dim);
  piece.turns = task.source.turn_keys && run->rotated == 0;
  return piece;
}

}  // namespace

void attend_codebook(const AttendTask& task) {
  const Piece piece = piece_of(task);
  const int64_t codewords = codebook_size(*piece.run);
  Memory memory;
  memory.q = task.scratch;
  memory.weights = memory.q + padded_rows(piece.rows) * piece.dim;
  memory.by_slot = memory.weights + piece.fours * kTileSlots;
  memory.turning = memory.by_slot + piece.fours * kTileSlots;
  memory.bins = memory.turning + turned_scores_floats(piece.rows, piece.head_dim);
  memory.touched = reinterpret_cast<int32_t*>(memory.bins + codewords * piece.fours);
  float* const rest = reinterpret_cast<float*>(memory.touched + codewords);
  memory.logits = task.kept != nullptr ? task.kept : rest;
  load_all_queries(task, piece.rows, piece.dim, memory.q);
  switch (piece.params->dtype) {
    case SKV_F16:
      return attend<F16>(task, piece, memory);
    case SKV_BF16:
      return attend<Bf16>(task, piece, memory);
    default:
      return attend<float>(task, piece, memory);
  }
}

}  // namespace spindlekv::cpu::SKV_ISA
