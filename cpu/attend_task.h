// What attend hands to its kernels: a piece of work, and the memory that it owns.
//
// Rows are the query heads of a KV head's group times the queries of a block: query t of head g is
// row g * n_queries + t; those of several items that read the same slots follow each other. A piece
// is the attention of those rows over some slots of the head; its result is the partial (m, l,
// acc): running maximum, sum of exponentials, weighted value sum.
#pragma once

#include <cstdint>

#include "core/ops.h"
#include "cpu/isa.h"
#include "cpu/slot_tile.h"

namespace spindlekv::cpu {

// Up to this many rows stream K and V straight from their storage; above, blocks of both are
// converted to floats first and the cost is shared by the rows.
inline constexpr int kStreamRows = 12;

// Rows of scratch arrays come in multiples of this, elements of a row in multiples of 16.
inline constexpr int kRowMultiple = 6;
static inline constexpr int padded_rows(int rows) {
  return (rows + kRowMultiple - 1) / kRowMultiple * kRowMultiple;
}
static inline constexpr int padded_dim(int head_dim) { return (head_dim + 15) / 16 * 16; }

// The block kernel has a row in every lane: rows are rounded up to whole vectors of any width.
static inline constexpr int block_lanes(int rows) { return (rows + 15) / 16 * 16; }
// The most of a piece; lines that have more together share in several pieces.
inline constexpr int kMostBlockRows = 128;
// It takes keys of up to so many slots at a time, at a stride known to the compiler that spreads
// them over the sets of the cache.
inline constexpr int kKeySlots = 32;
inline constexpr int kKeyStride = 512 + 16;

// The rows that one item has in a piece: a block of its queries.
struct AttendPart {
  const SkvAttendParams* params;
  int kv_head;
  int first_query, n_queries;
  int line;  // cpu/attend_plan.h: whose result they belong to
};

// Angles of a RoPE table's first rows, which a lane makes once a call for all its pieces.
struct TurnAngles {
  SkvRope rope;   // of which table they are; cos_sin NULL: none yet
  float* rows;    // turn_angles_floats
  bool composes;  // row 0 has no sine, so other rows can be taken apart by it
  float largest;  // cosine of row 0
};

struct AttendTask {
  const AttendPart* parts;  // keys, scale apart, are the same for all: those of the first
  int n_parts;
  int rows;  // of all parts
  SlotSource source;
  int first_slot, n_slots;  // the piece; its tiles begin at first_slot
  float* m;                 // [block_lanes]
  float* l;                 // [block_lanes]
  float* acc;               // [block_lanes, padded_dim]; stream: [rows, padded_dim]
  float* kept;              // for score accumulation: kept_tile_floats a tile, or NULL
  float* scratch;           // attend_scratch_floats
  TurnAngles* angles;       // the lane's
};

// What a piece keeps of every tile until the log-sum-exp is known: logits, [rows, 64]; of streams
// weights exp(logit - m), [rows, 64], and m as it was then, [kKeptMaxima].
inline constexpr int kKeptMaxima = 16;
static_assert(kStreamRows <= kKeptMaxima);
static inline constexpr int64_t kept_tile_floats(bool keeps_weights, int rows) {
  return int64_t{rows} * kTileSlots + (keeps_weights ? kKeptMaxima : 0);
}

struct AttendPartial;

struct MergeTask {
  const SkvAttendParams* params;
  int query_head, query;
  int row;  // of the line
  const AttendPartial* partials;
  int n_partials;
  float* acc_scratch;  // [padded_dim]
  float* lse;          // [1] out
};

// Sums of a piece's slots: rows_per_sum rows after the other add up to one line of them.
struct ScoreTask {
  const float* kept;
  bool keeps_weights;
  const float* lse;  // [block_lanes]
  int rows, rows_per_sum;
  int n_slots;
  float* sum;  // [rows / rows_per_sum, n_slots], added to
  int64_t sum_stride;
};

struct AttendKernels {
  void (*stream)(const AttendTask& task);
  void (*block)(const AttendTask& task);
  void (*codebook)(const AttendTask& task);
  void (*merge)(const MergeTask& task);
  void (*add_scores)(const ScoreTask& task);
};

// What the scores of keys that turn while they are read need: the queries three times and four
// keys, each with room for three vectors of 16 that overlap.
static inline int64_t turned_scores_floats(int rows, int head_dim) {
  return (3 * int64_t{rows} + 4) * (padded_dim(head_dim) + 48);
}

// Angles of 64 positions and of 16 blocks, with the same room.
static inline int64_t turn_angles_floats(int head_dim) {
  return (64 + 16) * int64_t{padded_dim(head_dim) + 48};
}

// For the matrix unit (cpu/isa/attend_block_amx.cc): queries, weights and a second sum a row; keys;
// pairs of values. bf16 twice is as large as f32.
static inline int64_t amx_scratch_floats(int rows, int head_dim) {
  const int64_t dim = padded_dim(head_dim), key = (int64_t{head_dim} + 31) / 32 * 32;
  return block_lanes(rows) * (key + kTileSlots + dim) + kTileSlots * (key + 16) +
         kTileSlots / 2 * (2 * dim + 16);
}

static inline int64_t attend_scratch_floats(int rows, int head_dim) {
  const int64_t dim = padded_dim(head_dim);
  // Queries, logits and five numbers a row; keys; values or turned keys; in streams what turns
  // keys.
  return block_lanes(rows) * (dim + kTileSlots + 5) + kKeySlots * kKeyStride + kTileSlots * dim +
         (rows <= kStreamRows ? turned_scores_floats(rows, head_dim)
                              : amx_scratch_floats(rows, head_dim));
}

static inline int codebook_size(const SkvRun& run) {
  return run.k_codewords > run.v_codewords ? run.k_codewords : run.v_codewords;
}

// What attend_codebook needs for pieces of up to so many slots and codewords.
static inline int64_t codebook_scratch_floats(int rows, int head_dim, int slots,
                                              int64_t codewords) {
  const int64_t fours = (rows + 3) / 4 * 4;
  // Queries; weights, by row and by slot; turning; bins and the list of those touched; logits.
  return padded_rows(rows) * padded_dim(head_dim) + 2 * fours * kTileSlots +
         turned_scores_floats(rows, head_dim) + codewords * (fours + 1) +
         int64_t{tiles_of(slots)} * rows * kTileSlots;
}

SKV_DECLARE_ISA_TABLE(AttendKernels, attend_kernels)

#if defined(SKV_HAS_ISA_AVX512)
namespace avx512 {
extern const AttendKernels attend_kernels_amx;
}
#endif

static inline const AttendKernels& kernels_of_attend(Isa isa) {
#if defined(SKV_HAS_ISA_AVX512)
  if (isa == Isa::kAmx) return avx512::attend_kernels_amx;
#endif
  return attend_kernels_for(isa);
}

#if defined(SKV_ISA)
namespace SKV_ISA {
void attend_stream(const AttendTask& task);
void attend_block(const AttendTask& task);
#if defined(__AVX512F__)
void attend_block_amx(const AttendTask& task);
#endif
void attend_codebook(const AttendTask& task);
void merge_partials(const MergeTask& task);
void add_scores(const ScoreTask& task);
}  // namespace SKV_ISA
#endif

}  // namespace spindlekv::cpu
