// Runs of references that attend takes through their codewords instead of slot by slot: what the
// planner (codebook_plan.cu) tells the kernels of one such run, the only one of its head.
//   x[r,s] = scale a_s <q'[r], C_K[k_s]> + beta[s]          keys after RoPE: codebook_products.cuh
//   x[r,s] = scale a_s <q'[r], R(p_s) C_K[k_s]> + beta[s]         before it: codebook_turned.cuh
//   bins[c,r] = sum over v_s = c of exp(x[r,s] - m[r]) b_s;
//   acc[r] = sum_c bins[c,r] C_V[c]                                      codebook_values.cuh
// The logits are all there before the first exponential. Value codewords are taken in tiles: a tile
// and the slots that refer to it make one partial of each row, as a split of slots does elsewhere,
// so the merge knows no difference.
#pragma once

#include <cuda_runtime.h>

#include "core/ops.h"
#include "core/status.h"

namespace spindlekv::cuda {

// A run with fewer slots gains less than the launches cost.
inline constexpr int kLeastCodebookSlots = 1024;
inline constexpr int kMostCodebookTiles = 64;
// Sums of weights that a warp keeps: of 512 codewords where a tile has up to 4 rows, 128 at 16.
inline constexpr int kBinFloats = 2048;
// Slots of a block that makes logits: its share of the maxima of a row. With keys before RoPE more,
// since each block reads the turns of 64 positions.
inline constexpr int kKeySplit = 512;
inline constexpr int kTurnedSplit = 1024;
inline constexpr int kMostCodebookDim = 256;
// Wider heads would leave no room for the turns of 64 positions.
inline constexpr int kMostTurnedDim = 128;

struct alignas(16) CodebookRun {
  SkvRun run;
  int64_t first_product;  // [k_codewords, pitch]
  int64_t first_dot;      // [slots, pitch] logits, -inf where not visible
  int64_t first_maximum;  // [pitch, key_splits]
  int32_t head;           // in the table of heads
  int32_t pitch;          // rows, rounded up to 4, 8 or 16
  int32_t key_slots;      // of a block that makes logits
  int32_t key_splits;     // such blocks
  int32_t tile_words;     // value codewords of a tile
  int32_t first_partial;  // of a row
  int32_t first_product_block;
  int32_t first_gather_block;
  int32_t first_turned_block;
  int32_t first_value_block;
};

// Blocks of each launch, and floats of each part of the workspace.
struct CodebookTotals {
  int64_t product_blocks = 0;
  int64_t gather_blocks = 0;
  int64_t turned_blocks = 0;
  int64_t value_blocks = 0;
  int64_t products = 0;
  int64_t dots = 0;
  int64_t maxima = 0;
  int32_t turned_pitch = 0;  // the largest of runs that turn
};

// Key codewords of a block that multiplies them.
inline constexpr int kProductWords = 128;

struct AttendArgs;

// Starts everything that makes the partials of the runs of args.codebooks.
Status attend_codebooks(const AttendArgs& args, int32_t dtype, const CodebookTotals& totals,
                        cudaStream_t stream);

}  // namespace spindlekv::cuda
