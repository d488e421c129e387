// See word_scores.h. An int vector has 2 kWidth elements; pairs are stored as a vector of first and
// one of second elements.
#include "cpu/isa/word_scores.h"

#include "cpu/attend_task.h"
#include "cpu/isa/dot_rows.h"
#include "cpu/isa/rows.h"

namespace spindlekv::cpu::SKV_ISA {

#if defined(__AVX2__)
namespace {

constexpr int kShorts = 2 * kWidth;  // elements of a vector of integers
constexpr float kLargestUnit = 32700.0f;
constexpr float kOne = 32767.0f;  // cosine 1
constexpr int kLineShorts = 32;   // elements of a line of the cache

#if defined(__AVX512F__)
struct Shorts {
  __m512i v;
};
inline Shorts no_shorts() { return {_mm512_setzero_si512()}; }
inline Shorts load_shorts(const int16_t* p) { return {_mm512_loadu_si512(p)}; }
inline Shorts add(Shorts a, Shorts b) { return {_mm512_add_epi16(a.v, b.v)}; }
inline Shorts sub(Shorts a, Shorts b) { return {_mm512_sub_epi16(a.v, b.v)}; }
// a * b / 2^15, rounded.
inline Shorts mul_high(Shorts a, Shorts b) { return {_mm512_mulhrs_epi16(a.v, b.v)}; }
// Rounds kWidth floats to integers.
inline void store_shorts(int16_t* p, Vec a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(a.v)));
}
inline Vec to_floats(Shorts sums) { return {_mm512_cvtepi32_ps(sums.v)}; }
// sums, kWidth of 32 bits, grow by the products of neighbours.
struct TwoSteps {
  static Shorts run(Shorts sums, Shorts a, Shorts b) {
    return {_mm512_add_epi32(sums.v, _mm512_madd_epi16(a.v, b.v))};
  }
};
// With AVX512-VNNI, which this source is not compiled for.
struct OneStep {
  static Shorts run(Shorts sums, Shorts a, Shorts b) {
    asm("vpdpwssd %2, %1, %0" : "+v"(sums.v) : "v"(a.v), "v"(b.v));
    return sums;
  }
};
bool has_vnni() { return __builtin_cpu_supports("avx512vnni"); }
#else
struct Shorts {
  __m256i v;
};
inline Shorts no_shorts() { return {_mm256_setzero_si256()}; }
inline Shorts load_shorts(const int16_t* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))};
}
inline Shorts add(Shorts a, Shorts b) { return {_mm256_add_epi16(a.v, b.v)}; }
inline Shorts sub(Shorts a, Shorts b) { return {_mm256_sub_epi16(a.v, b.v)}; }
inline Shorts mul_high(Shorts a, Shorts b) { return {_mm256_mulhrs_epi16(a.v, b.v)}; }
inline void store_shorts(int16_t* p, Vec a) {
  const __m256i ints = _mm256_cvtps_epi32(a.v);
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(p),
      _mm_packs_epi32(_mm256_castsi256_si128(ints), _mm256_extracti128_si256(ints, 1)));
}
inline Vec to_floats(Shorts sums) { return {_mm256_cvtepi32_ps(sums.v)}; }
struct TwoSteps {
  static Shorts run(Shorts sums, Shorts a, Shorts b) {
    return {_mm256_add_epi32(sums.v, _mm256_madd_epi16(a.v, b.v))};
  }
};
using OneStep = TwoSteps;
bool has_vnni() { return false; }
#endif

// The place of f32 vector v of first (second: + kShorts) elements; of what does not turn.
int turn_place(int v) { return v / 2 * 2 * kShorts + v % 2 * kWidth; }
int rest_place(const WordScores& words, int v) { return words.turns * 2 * kShorts + v * kWidth; }

// A row as f32 vectors in the order of TurnedScores: pairs, then the rest.
constexpr int kMostVecs = 512 / kWidth;
struct Row {
  Vec v[kMostVecs];
};

template <class Element>
inline void load_split(const TurnedScores& scores, const Element* in, Row* row) {
  const int pairs = scores.rope->n_rot / 2;
  for (int v = 0; v < scores.turns; ++v) {
    const int at = v * kWidth;
    if (scores.rope->style == SKV_ROPE_NORM) {
      load_pairs(in + 2 * at, &row->v[2 * v], &row->v[2 * v + 1]);
    } else {
      row->v[2 * v] = load(in + at);
      row->v[2 * v + 1] = load(in + pairs + at);
    }
  }
  for (int v = 0; v < scores.rests; ++v) {
    row->v[2 * scores.turns + v] = load(in + scores.rope->n_rot + v * kWidth);
  }
}

// Bounds the length of what any 32-bit lane adds up: two neighbouring elements of every vector.
inline float lane_length(const TurnedScores& scores, const Row& row) {
  Vec sum[2] = {zero(), zero()};
  for (int v = 0; v < scores.turns; ++v) {
    const Vec x = row.v[2 * v];
    const Vec y = row.v[2 * v + 1];
    sum[v % 2] = madd(x, x, madd(y, y, sum[v % 2]));
  }
  for (int v = 0; v < scores.rests; ++v) {
    const Vec x = row.v[2 * scores.turns + v];
    sum[v % 2] = madd(x, x, sum[v % 2]);
  }
  const Vec probe = mul(add(sum[0], sum[1]), zero());
  const float flaw = halving_sum(probe);
  return __builtin_sqrtf(2.0f * reduce_max(max(sum[0], sum[1]))) + flaw;
}

inline void store_row(const TurnedScores& scores, const WordScores& words, const Row& row,
                      float factor, int16_t* out) {
  const Vec f = splat(factor);
  for (int v = 0; v < scores.turns; ++v) {
    store_shorts(out + turn_place(v), mul(row.v[2 * v], f));
    store_shorts(out + turn_place(v) + kShorts, mul(row.v[2 * v + 1], f));
  }
  for (int v = 0; v < scores.rests; ++v) {
    store_shorts(out + rest_place(words, v), mul(row.v[2 * scores.turns + v], f));
  }
}

// An odd number of f32 vectors leaves half a vector of integers.
void clear_halves(const TurnedScores& scores, const WordScores& words, int16_t* row) {
  const Vec none = zero();
  if (scores.turns % 2 != 0) {
    store_shorts(row + turn_place(scores.turns), none);
    store_shorts(row + turn_place(scores.turns) + kShorts, none);
  }
  if (scores.rests % 2 != 0) store_shorts(row + rest_place(words, scores.rests), none);
}

template <class Element>
bool make_words(const TurnedScores& scores, const WordScores& words, const Element* codewords,
                int n) {
  Row row;
  for (int c = 0; c < n; ++c) {
    const Element* const in = codewords + int64_t{c} * scores.head_dim;
    for (int at = 0; at < scores.head_dim; at += 32)
      __builtin_prefetch(in + 8 * scores.head_dim + at);
    load_split(scores, in, &row);
    const float length = lane_length(scores, row);
    if (!(length * 0.0f == 0.0f)) return false;  // infinity or NaN
    int16_t* const out = words.words + int64_t{c} * words.stride;
    store_row(scores, words, row, length > 0.0f ? kLargestUnit / length : 0.0f, out);
    clear_halves(scores, words, out);
    words.units[c] = length / kLargestUnit;
  }
  return true;
}

void make_angles(const TurnedScores& scores, const WordScores& words) {
  const int count = scores.rope->positions < kTurnBlock ? scores.rope->positions : kTurnBlock;
  for (int p = 0; p < count; ++p) {
    int16_t* const out = words.angles + p * words.turns * 2 * kShorts;
    for (int v = 0; v < scores.turns; ++v) {
      const float* const in = scores.angles + (p * scores.turns + v) * 2 * kWidth;
      store_shorts(out + turn_place(v), mul(load(in), splat(kOne)));
      store_shorts(out + turn_place(v) + kShorts, mul(load(in + kWidth), splat(kOne)));
    }
    if (scores.turns % 2 != 0) {
      store_shorts(out + turn_place(scores.turns), zero());
      store_shorts(out + turn_place(scores.turns) + kShorts, zero());
    }
  }
}

// False if a query is not finite.
bool measure_queries(const TurnedScores& scores, const WordScores& words) {
  Row row;
  for (int r = 0; r < scores.rows; ++r) {
    const float* const in = scores.base + r * scores.stride;
    for (int v = 0; v < 2 * scores.turns + scores.rests; ++v) row.v[v] = load(in + v * kWidth);
    // Rows of the table may lengthen what they turn, and by rounding a little more.
    const float longer = scores.largest > 1.0f ? scores.largest : 1.0f;
    const float length = lane_length(scores, row) * longer * 1.0001f;
    if (!(length * 0.0f == 0.0f)) return false;
    words.query_units[r] = length / kLargestUnit;
    clear_halves(scores, words, words.queries + r * words.stride);
  }
  return true;
}

void make_queries(const TurnedScores& scores, WordScores* words, const float* q, int32_t block) {
  words->block = block;
  Row row;
  for (int r = 0; r < scores.rows; ++r) {
    const float* const in = q + r * scores.stride;
    for (int v = 0; v < 2 * scores.turns + scores.rests; ++v) row.v[v] = load(in + v * kWidth);
    const float unit = words->query_units[r];
    store_row(scores, *words, row, unit > 0.0f ? 1.0f / unit : 0.0f,
              words->queries + r * words->stride);
  }
}

template <class Steps, int kRows>
inline void score_quad(const WordScores& words, int first_row, const int32_t* refs,
                       const int16_t* const* angles, float* out, int out_stride) {
  const int16_t* key[kQuad];
  float units[kQuad];
  for (int i = 0; i < kQuad; ++i) {
    key[i] = words.words + int64_t{refs[i]} * words.stride;
    units[i] = words.units[refs[i]];
  }
  const int16_t* const queries = words.queries + first_row * words.stride;
  Shorts sums[kRows][kQuad];
  for (int r = 0; r < kRows; ++r) {
    for (int i = 0; i < kQuad; ++i) sums[r][i] = no_shorts();
  }
  int at = 0;
  for (int v = 0; v < words.turns; ++v, at += 2 * kShorts) {
    Shorts x[kQuad], y[kQuad];
    for (int i = 0; i < kQuad; ++i) {
      const Shorts first = load_shorts(key[i] + at);
      const Shorts second = load_shorts(key[i] + at + kShorts);
      const Shorts c = load_shorts(angles[i] + at);
      const Shorts s = load_shorts(angles[i] + at + kShorts);
      x[i] = sub(mul_high(first, c), mul_high(second, s));
      y[i] = add(mul_high(second, c), mul_high(first, s));
    }
    for (int r = 0; r < kRows; ++r) {
      const Shorts query_x = load_shorts(queries + r * words.stride + at);
      const Shorts query_y = load_shorts(queries + r * words.stride + at + kShorts);
      for (int i = 0; i < kQuad; ++i) sums[r][i] = Steps::run(sums[r][i], x[i], query_x);
      for (int i = 0; i < kQuad; ++i) sums[r][i] = Steps::run(sums[r][i], y[i], query_y);
    }
  }
  for (int v = 0; v < words.rests; ++v, at += kShorts) {
    Shorts k[kQuad];
    for (int i = 0; i < kQuad; ++i) k[i] = load_shorts(key[i] + at);
    for (int r = 0; r < kRows; ++r) {
      const Shorts query = load_shorts(queries + r * words.stride + at);
      for (int i = 0; i < kQuad; ++i) sums[r][i] = Steps::run(sums[r][i], k[i], query);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    Vec lanes[kQuad];
    for (int i = 0; i < kQuad; ++i) lanes[i] = to_floats(sums[r][i]);
    float* const row = out + (first_row + r) * out_stride;
    sum_4(lanes, row);
    const float unit = words.query_units[first_row + r];
    for (int i = 0; i < kQuad; ++i) row[i] *= unit * units[i];
  }
}

template <class Steps>
struct QuadCall {
  const WordScores& words;
  const int32_t* refs;
  const int16_t* const* angles;
  float* out;
  int out_stride;
  template <int kRows>
  void run(int r) const {
    score_quad<Steps, kRows>(words, r, refs, angles, out, out_stride);
  }
};

inline void prefetch_word(const WordScores& words, int32_t ref) {
  const int16_t* const word = words.words + int64_t{ref} * words.stride;
  for (int at = 0; at < words.stride; at += kLineShorts) __builtin_prefetch(word + at, 0, 3);
}

template <class Steps>
void score_block(const TurnedScores& scores, const WordScores& words, const int32_t* refs,
                 const int32_t* turn, int from, int to, float* out) {
  for (int slot = from; slot < to; slot += kQuad) {
    int32_t quad[kQuad];
    const int16_t* angles[kQuad];
    for (int i = 0; i < kQuad; ++i) {
      const int each = slot + i < to ? slot + i : to - 1;
      const int place = turn[each] < 0 ? 0 : turn[each] % kTurnBlock;
      quad[i] = refs[each];
      prefetch_word(words, refs[slot + i + kWordsAhead]);
      angles[i] = words.angles + place * words.turns * 2 * kShorts;
    }
    Columns columns(out + slot, to - slot);
    by_rows(scores.rows, QuadCall<Steps>{words, quad, angles, columns.target(), columns.stride()});
    columns.finish(scores.rows);
  }
}

}  // namespace

bool begin_word_scores(const TurnedScores& scores, const void* codewords, int n, float* memory,
                       WordScores* words) {
  const int n_rot = scores.rope->n_rot;
  if (!scores.composes || scores.dtype == SKV_F32 || n_rot % (2 * kWidth) != 0 ||
      (scores.head_dim - n_rot) % kWidth != 0) {
    return false;
  }
  words->turns = (scores.turns + 1) / 2;
  words->rests = (scores.rests + 1) / 2;
  words->stride = (2 * words->turns + words->rests) * kShorts;
  words->units = memory;
  words->query_units = words->units + n;
  words->words = reinterpret_cast<int16_t*>(words->query_units + scores.rows);
  words->angles = words->words + int64_t{n} * words->stride;
  words->queries = words->angles + int64_t{kTurnBlock} * words->turns * 2 * kShorts;
  words->block = -2;  // none, and not that of keys which do not turn
  words->has_vnni = has_vnni();
  if (!measure_queries(scores, *words)) return false;
  const bool is_made = scores.dtype == SKV_F16
                           ? make_words(scores, *words, static_cast<const F16*>(codewords), n)
                           : make_words(scores, *words, static_cast<const Bf16*>(codewords), n);
  if (is_made) make_angles(scores, *words);
  return is_made;
}

void score_words(const TurnedScores& scores, WordScores* words, const int32_t* refs,
                 const int32_t* turn, int from, int to, float* out) {
  const int32_t block = turn[from] < 0 ? -1 : turn[from] / kTurnBlock;
  if (block != words->block) {
    make_queries(scores, words, block < 0 ? scores.base : scores.turned, block);
  }
  if (words->has_vnni) {
    score_block<OneStep>(scores, *words, refs, turn, from, to, out);
  } else {
    score_block<TwoSteps>(scores, *words, refs, turn, from, to, out);
  }
}

#else

bool begin_word_scores(const TurnedScores&, const void*, int, float*, WordScores*) { return false; }

void score_words(const TurnedScores&, WordScores*, const int32_t*, const int32_t*, int, int,
                 float*) {}

#endif

}  // namespace spindlekv::cpu::SKV_ISA
