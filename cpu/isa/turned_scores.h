// Scores of a few query rows with keys that are stored before RoPE.
//
//   q . R(1024 a + 64 b + r) k = (R(64 b)^T R(1024 a)^T q) . (R(r) k)
// The queries turn back once per block of 64 positions, in two turns of which the first serves a
// stretch of 16 blocks; a key turns only by its place r within the block. The 64 rows of angles for
// keys and the 16 for blocks, made of the table's first rows, stay in the caches, where the rows of
// absolute positions would be as many bytes as the keys. A table is taken apart like this where its
// rows compose, which is looked at (row 0 without sine, the last row of every stretch); where they
// do not, where blocks hold few slots, and for tables narrower than a vector, keys turn by their
// own row.
//
// Error: three turns instead of one add 6 roundings of f32 to the side of the queries and one row
// of angles for another two to that of the keys, gamma(10) |q| |k| in all, beside the gamma(D + 6)
// of docs/tolerance.md.
#pragma once

#include "core/ops.h"
#include "cpu/attend_task.h"
#include "cpu/simd.h"

namespace spindlekv::cpu::SKV_ISA {

inline constexpr int kTurnBlock = 64;  // positions
inline constexpr int kBlocksInStretch = 16;
inline constexpr int kTurnStretch = kBlocksInStretch * kTurnBlock;

struct TurnedScores {
  const SkvRope* rope;
  int32_t dtype;
  int rows, head_dim, dim;
  const float* q;  // [rows, dim]
  // Rows for the split products: `turns` vectors of first and of second elements of pairs in
  // turn, then `rests` vectors of what does not turn. The last vector of either kind may begin
  // early, where it overlaps the one before; queries are 0 in what is there already.
  int turns, rests, stride;
  float* base;       // [rows, stride] the queries
  float* stretched;  // [rows, stride] turned back by 1024 * stretch positions
  float* turned;     // [rows, stride] turned back by 64 * block positions
  const TurnAngles* table;
  const float* angles;  // [64, turns, 2, kWidth] cosine and sine of the first positions over row 0
  const float* steps;   // [16, turns, 2, kWidth] of every 64th position
  float* keys;          // [4, max(dim, stride)]
  int32_t block, stretch;  // of `turned` and `stretched`
  bool stretch_composes;
};

// Prepares the queries q[rows, dim], which must outlive it, and the angles of the table unless they
// are its own already. memory: turned_scores_floats.
TurnedScores begin_turned_scores(const SkvAttendParams& params, const float* q, int rows,
                                 float* memory, TurnAngles* angles);

// out[r * 64 + s] = q[r] . (row k[s] turned by turn[s] positions, or as it is where turn[s] < 0)
// for s < count <= 64. Row ahead[s] is prefetched when slot s is reached.
void score_turned(TurnedScores* scores, const void* const* k, const int32_t* turn, int count,
                  const void* const* ahead, float* out);

}  // namespace spindlekv::cpu::SKV_ISA
