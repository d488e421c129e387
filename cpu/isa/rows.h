// Rows of K, V and Q as floats: converted, multiplied by their magnitude, turned by RoPE.
#pragma once

#include "core/types.h"
#include "cpu/simd.h"
#include "cpu/simd_transpose.h"
#include "cpu/slot_tile.h"

namespace spindlekv::cpu::SKV_ISA {

// Turns the leading n_rot elements of a row in place (canonical). `angles` is the table's row:
// cosine and sine of pair i at 2 i. sign is 1, or -1 to turn back.
static inline void rotate_row(float* row, const float* angles, int n_rot, int style, float sign) {
  const int pairs = n_rot / 2;
  const bool is_norm = style == SKV_ROPE_NORM;
  int i = 0;
  for (; i + kWidth <= pairs; i += kWidth) {
    Vec c, s, x, y;
    load_pairs(angles + 2 * i, &c, &s);
    s = mul(s, splat(sign));
    if (is_norm) {
      load_pairs(row + 2 * i, &x, &y);
    } else {
      x = load(row + i);
      y = load(row + pairs + i);
    }
    const Vec turned_x = neg_fma(y, s, mul(x, c));
    const Vec turned_y = fma(y, c, mul(x, s));
    if (is_norm) {
      store_pairs(row + 2 * i, turned_x, turned_y);
    } else {
      store(row + i, turned_x);
      store(row + pairs + i, turned_y);
    }
  }
  for (; i < pairs; ++i) {
    const float c = angles[2 * i];
    const float s = angles[2 * i + 1] * sign;
    float* const x = is_norm ? row + 2 * i : row + i;
    float* const y = is_norm ? row + 2 * i + 1 : row + pairs + i;
    const float turned_x = __builtin_fmaf(-*y, s, *x * c);
    const float turned_y = __builtin_fmaf(*y, c, *x * s);
    *x = turned_x;
    *y = turned_y;
  }
}

static inline const float* table_row(const SkvRope& rope, int64_t position) {
  return rope.cos_sin + position * rope.n_rot;
}

static inline void scale_row(float* row, float factor, int padded_dim) {
  const Vec f = splat(factor);
  for (int d = 0; d < padded_dim; d += kWidth) store(row + d, mul(load(row + d), f));
}

// sum += factor row.
static inline void add_scaled_row(const float* row, float factor, float* sum, int padded_dim) {
  const Vec f = splat(factor);
  for (int d = 0; d < padded_dim; d += kWidth) {
    store(sum + d, madd(f, load(row + d), load(sum + d)));
  }
}

// Floats of one row; what lies between head_dim and padded_dim becomes 0.
template <class Element>
static inline void load_row(const void* in, float* out, int head_dim, int padded_dim) {
  to_floats(static_cast<const Element*>(in), out, head_dim);
  for (int d = head_dim; d < padded_dim; ++d) out[d] = 0.0f;
}

static inline void load_row_of(int32_t dtype, const void* in, float* out, int head_dim,
                               int padded_dim) {
  switch (dtype) {
    case SKV_F16:
      return load_row<F16>(in, out, head_dim, padded_dim);
    case SKV_BF16:
      return load_row<Bf16>(in, out, head_dim, padded_dim);
    default:
      return load_row<float>(in, out, head_dim, padded_dim);
  }
}

static inline void store_row_of(int32_t dtype, const float* in, void* out, int head_dim) {
  switch (dtype) {
    case SKV_F16:
      return from_floats(in, static_cast<F16*>(out), head_dim);
    case SKV_BF16:
      return from_floats(in, static_cast<Bf16*>(out), head_dim);
    default:
      return from_floats(in, static_cast<float*>(out), head_dim);
  }
}

// Row `slot` of a tile's keys: magnitude * row, turned.
template <class Element>
static inline void load_key(const SlotTile& tile, int slot, const SkvRope& rope, float* out,
                            int head_dim, int padded_dim) {
  load_row<Element>(tile.k[slot], out, head_dim, padded_dim);
  if (tile.has_k_magnitude) scale_row(out, tile.k_magnitude[slot], padded_dim);
  if (tile.has_turn && tile.turn[slot] >= 0) {
    rotate_row(out, table_row(rope, tile.turn[slot]), rope.n_rot, rope.style, 1.0f);
  }
}

// The tile's keys as columns: transposed[d][slot], 64 slots wide; slots beyond the count are 0.
// `rows` has room for kRows rows of padded_dim, a multiple of 8.
template <class Element, int kRows = 8>
static inline void load_keys_transposed(const SlotTile& tile, const SkvRope& rope, int head_dim,
                                        int padded_dim, float* rows, float* transposed) {
  for (int slot = 0; slot < kTileSlots; slot += kRows) {
    for (int i = 0; i < kRows; ++i) {
      float* const row = rows + i * padded_dim;
      if (slot + i < tile.count) {
        load_key<Element>(tile, slot + i, rope, row, head_dim, padded_dim);
      } else {
        for (int d = 0; d < padded_dim; d += kWidth) store(row + d, zero());
      }
    }
    transpose_rows<kRows>(rows, padded_dim, head_dim, transposed + slot, kTileSlots);
  }
}

// Query rows of one KV head's group: row g * n_queries + t of `out` is query first_query + t of
// head g, turned; `row_count` rows are written, those past the last query with 0.
template <class Params>
static inline void load_queries(const Params& params, int kv_head, int first_query, int n_queries,
                                int row_count, int padded_dim, float* out) {
  const int64_t bytes = params.q_dtype == SKV_F32 ? 4 : 2;
  float* row = out;
  for (int g = 0; g < params.group; ++g) {
    for (int t = 0; t < n_queries; ++t, row += padded_dim) {
      const int64_t head = int64_t{kv_head} * params.group + g;
      const int64_t query = int64_t{first_query} + t;
      const char* const in = static_cast<const char*>(params.q) +
                             (head * params.q_stride_head + query * params.q_stride_token) * bytes;
      load_row_of(params.q_dtype, in, row, params.head_dim, padded_dim);
      if (params.rope.cos_sin != nullptr) {
        rotate_row(row, table_row(params.rope, params.rope_query_position + query),
                   params.rope.n_rot, params.rope.style, 1.0f);
      }
    }
  }
  float* const end = out + int64_t{row_count} * padded_dim;
  for (; row < end; row += kWidth) store(row, zero());
}

}  // namespace spindlekv::cpu::SKV_ISA
