/* The ops: one parameter struct each, documented once, here. Plain C.
 *
 * Rules for all of them
 * - Shapes in brackets use B L Hq Hkv T D W; Hq = Hkv * group; query head h belongs to KV head h /
 * group.
 * - "host" arrays are read before the call returns; all other pointers are device memory.
 * - Strides are in elements. D (head_dim) is a multiple of 8, 8..512. K, V dtype is f32, f16 or
 * bf16.
 * - An op that returns an error has written nothing that a caller may rely on; no op keeps a
 * pointer.
 * - Results are bitwise reproducible on a device. Ops marked "canonical" follow core/canonical.h
 * and give the same bits on every backend; the others are compared with float64 under
 * docs/tolerance.md.
 * - Ops enqueue on exec.stream; the CPU backend has finished when the call returns.
 * - workspace: ask the backend's workspace_bytes(op, params) first; 0 is possible.
 */
#ifndef SPINDLEKV_CORE_OPS_H_
#define SPINDLEKV_CORE_OPS_H_

#include "types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, TypeStem): SKV_OP_<name> is its number, Skv<TypeStem>Params its struct. */
#define SKV_OPS(X)                     \
  X(append_kv, AppendKv)               \
  X(attend, Attend)                    \
  X(attend_batch, AttendBatch)         \
  X(window_scores, WindowScores)       \
  X(pool_scores, PoolScores)           \
  X(reduce_group, ReduceGroup)         \
  X(select_topk, SelectTopk)           \
  X(compact, Compact)                  \
  X(rope, Rope)                        \
  X(build_codebook, BuildCodebook)     \
  X(nearest_codeword, NearestCodeword) \
  X(reduce_by_label, ReduceByLabel)    \
  X(key_stats, KeyStats)               \
  X(row_cosine, RowCosine)

typedef enum SkvOp {
#define SKV_OP_ENUM(name, Stem) SKV_OP_##name,
  SKV_OPS(SKV_OP_ENUM)
#undef SKV_OP_ENUM
      SKV_OP_COUNT
} SkvOp;

/* ---- append_kv --------------------------------------------------------------------------------
 * Copies new rows into raw runs, converting dtype, and writes their positions. Optionally rotates
 * keys by RoPE before they are stored (in f32, then rounded once) and writes their L2 norms
 * (canonical). An item is one KV head's piece; items must not overlap. dst.slots is not read: rows
 * go to slots [dst_slot, dst_slot + tokens) of dst.k / dst.v / dst.positions; dst.mask, if set,
 * gets 0xffff; dst.beta 0. */
typedef struct SkvAppendItem {
  const void* k; /* first row, src_dtype; D contiguous elements per token */
  const void* v;
  int64_t k_stride_token; /* elements between tokens; >= D or 0 tokens */
  int64_t v_stride_token;
  int32_t tokens;
  int32_t first_position; /* positions are first_position, +1, ... */
  SkvRun dst;             /* codec raw */
  int32_t dst_slot;
  int32_t reserved;
  float* key_norms; /* [tokens] or NULL */
} SkvAppendItem;

typedef struct SkvAppendKvParams {
  int32_t dtype;     /* of the runs */
  int32_t src_dtype; /* f32, f16 or bf16 */
  int32_t head_dim;
  int32_t n_items;
  const SkvAppendItem* items; /* host */
  int32_t rotate;             /* 1: apply rope to keys; rope.cos_sin must be set */
  int32_t reserved;
  SkvRope rope;
} SkvAppendKvParams;

/* ---- attend -----------------------------------------------------------------------------------
 * out[h,t] = sum_s p[h,t,s] v[s],  p = softmax_s( scale * <q'[h,t], k'[s]> + beta[s] ) over the
 * slots s of h's KV head that are visible: mask bit (h mod group) is set, and, if causal,
 * position[s] <= query_position + t. q', k' are after RoPE: queries always turn by
 * rope_query_position + t; keys of a run with rotated = 0 turn by their position (by their slot
 * index if reindex = 1; runs with rotated = 1 are then an argument error). A query with no visible
 * slot gives out = 0 and lse = -inf. Slots are split in pieces of a fixed size and the partials (m,
 * l, acc) merged in order, so the result does not depend on threads or SMs. Fused accumulation:
 * score_sum[r, s] += sum_t p, where r is the query head (score_mode 1) or its KV head (score_mode
 * 2: summed, not averaged, over the group). One owner per element; no atomics. What a query does
 * not see has no influence on it, whatever it holds. NaN that it sees reaches it; infinity reaches
 * it as infinity or NaN, because tensor cores multiply numbers in parts. */
typedef enum SkvScoreMode {
  SKV_SCORE_NONE = 0,
  SKV_SCORE_QUERY_HEAD = 1,
  SKV_SCORE_KV_HEAD = 2
} SkvScoreMode;

typedef struct SkvAttendParams {
  int32_t dtype;   /* of K and V */
  int32_t q_dtype; /* of q and out: f32, f16 or bf16 */
  int32_t head_dim;
  int32_t kv_heads;
  int32_t group;   /* 1..16 query heads per KV head */
  int32_t queries; /* Tq >= 0 */
  const void* q;   /* [Hq, Tq, D], before RoPE if rope is set */
  void* out;       /* [Hq, Tq, D]; may not alias q */
  float* lse;      /* [Hq, Tq] natural log-sum-exp of the logits, contiguous, or NULL */
  int64_t q_stride_head, q_stride_token;
  int64_t out_stride_head, out_stride_token;
  float scale; /* usually 1/sqrt(D) */
  int32_t causal;
  int32_t query_position;      /* logical position of query 0 */
  int32_t rope_query_position; /* position query 0 is rotated by */
  int32_t reindex;
  int32_t n_runs;
  const SkvRun* runs;   /* host [n_runs] */
  const SkvHead* heads; /* host [kv_heads] */
  SkvRope rope;
  float* score_sum;     /* [rows, >= slots] f32 or NULL */
  int64_t score_stride; /* elements between rows of score_sum */
  int32_t score_mode;   /* SkvScoreMode */
  int32_t reserved;
} SkvAttendParams;

/* ---- attend_batch -------------------------------------------------------------------------------
 * attend for several caches in one call: sequences of a server's step, or layers whose queries are
 * at hand together. Items may differ in everything but dtype, q_dtype, head_dim and group: lengths,
 * codecs, number of queries, positions, rope, causality. Item i's out, lse and score_sum are those
 * that attend(items[i]) gives, under docs/tolerance.md: not bit for bit, because runs that several
 * items have in common are read once for all of them. Shared are the leading runs of a KV head that
 * are equal in every field of SkvRun (a prefix kept through fork()); the shared and the own part
 * are partials, merged in slot order (cascade attention). An item's result does not depend on the
 * order of the items or on threads. Outputs of different items must not overlap. n_items = 0 does
 * nothing. */
typedef struct SkvAttendBatchParams {
  int32_t n_items;
  int32_t reserved;
  const SkvAttendParams* items; /* host [n_items] */
} SkvAttendBatchParams;

/* ---- window_scores ----------------------------------------------------------------------------
 * Canonical (entropy and lse apart). Column statistics of the softmax of W query rows over all
 * slots of the head, without the attention matrix: for query w of query head h (logical position
 * query_position + w, causal over positions as in attend), p[h,w,s] as in attend; then over w
 * ascending sum[h,s], sum_sq[h,s], max[h,s], entropy[h] = - sum_{w,s} p ln p, lse[h,w]. norm WINDOW
 * divides sum by W and sum_sq by W; CAUSAL_COUNT divides sum (only) by the number of positions of
 * the whole prompt that can see s: query_position + W - position[s] (the printed eq. 2 of
 * SpindleKV). query_weights, if set, weigh the queries in sum alone: sum = fma(weight[w], p, sum);
 * divisors stay as they are. entropy_context: the entropy counts only slots whose position is below
 * query_position; p is not normalised anew. Slots beyond a head's count are not written. nonfinite:
 * the op adds the number of visible logits that are NaN or +-inf. Each output may be NULL. Sources:
 * SnapKV, H2O (all queries), TOVA (W = 1), CAKE (sum_sq, entropy), PyramidInfer (weights). */
typedef enum SkvScoreNorm {
  SKV_NORM_SUM = 0,
  SKV_NORM_WINDOW = 1,
  SKV_NORM_CAUSAL_COUNT = 2
} SkvScoreNorm;

typedef struct SkvWindowScoresParams {
  int32_t dtype;
  int32_t q_dtype;
  int32_t head_dim;
  int32_t kv_heads;
  int32_t group;
  int32_t queries; /* W >= 1 */
  const void* q;   /* [Hq, W, D], before RoPE if rope is set */
  int64_t q_stride_head, q_stride_token;
  float scale;
  int32_t query_position;
  int32_t rope_query_position;
  int32_t reindex;
  int32_t n_runs;
  int32_t norm; /* SkvScoreNorm */
  const SkvRun* runs;
  const SkvHead* heads;
  SkvRope rope;
  const float* query_weights; /* [W] or NULL: 1 */
  int32_t entropy_context;    /* 1: the entropy leaves the window's own slots out */
  int32_t reserved;
  float* sum;         /* [Hq, stride] */
  float* sum_sq;      /* [Hq, stride] */
  float* max;         /* [Hq, stride] */
  int64_t stride;     /* elements between rows; >= the largest head's slots */
  float* entropy;     /* [Hq] */
  float* lse;         /* [Hq, W] */
  int32_t* nonfinite; /* [1], added to */
} SkvWindowScoresParams;

/* ---- pool_scores ------------------------------------------------------------------------------
 * Canonical. out[r, i] = max or mean of in[r, j] over |j - i| <= kernel/2, for i in [0,
 * lengths[r]); elements at or beyond the length do not take part. Mean divides by `kernel`
 * (SKV_POOL_KERNEL: zero padding counted, as SnapKV's code does) or by the number of elements
 * inside (SKV_POOL_VALID). kernel is odd; 1 copies. Max: a NaN in the window gives NaN. in and out
 * may not alias. */
typedef enum SkvPoolKind { SKV_POOL_MEAN = 0, SKV_POOL_MAX = 1 } SkvPoolKind;
typedef enum SkvPoolDivisor { SKV_POOL_KERNEL = 0, SKV_POOL_VALID = 1 } SkvPoolDivisor;

typedef struct SkvPoolScoresParams {
  const float* in; /* [rows, >= length] */
  float* out;      /* [rows, >= length] */
  int64_t in_stride, out_stride;
  int32_t rows;
  int32_t kernel;
  int32_t kind;           /* SkvPoolKind */
  int32_t divisor;        /* SkvPoolDivisor */
  const int32_t* lengths; /* host [rows] */
} SkvPoolScoresParams;

/* ---- reduce_group -----------------------------------------------------------------------------
 * Canonical. out[k, i] = reduction of in[k * group + g, i] over g ascending; mean divides the sum
 * by group. Max: any NaN gives NaN. */
typedef enum SkvReduceKind {
  SKV_REDUCE_MEAN = 0,
  SKV_REDUCE_MAX = 1,
  SKV_REDUCE_SUM = 2
} SkvReduceKind;

typedef struct SkvReduceGroupParams {
  const float* in; /* [rows * group, >= length] */
  float* out;      /* [rows, >= length] */
  int64_t in_stride, out_stride;
  int32_t rows;
  int32_t group;
  int32_t kind; /* SkvReduceKind */
  int32_t length;
} SkvReduceGroupParams;

/* ---- select_topk ------------------------------------------------------------------------------
 * Exact. Row r has lengths[r] scores. The first `sinks` and the last `recent` of a row are
 * protected: always selected, never counted in k. Of the others the k[r] best are selected: larger
 * score first, equal scores smaller index first, NaN below -inf (order of canonical::score_key). k
 * >= what is there selects all; k = 0 none. Output per output row: ascending indices, and their
 * count. pool_rows = P > 1 (across-head mode): rows are taken in sets of P consecutive ones; k[set]
 * entries (one per set) are the set's total; each row first gets its best min(floor, unprotected)
 * slots, the rest of the total goes to the best of what is left over all P rows (equal scores:
 * smaller row, then smaller index). A total below the floors' sum gives each row floor slots
 * anyway. union_group = G > 1: after selection, G consecutive rows (the query heads of one KV head;
 * equal lengths) merge into one output row: the ascending union; masks bit g says that row g
 * selected it (protected: all bits). pool_rows and union_group are not both > 1. */
typedef struct SkvSelectTopkParams {
  const float* scores; /* [rows, stride] */
  int64_t stride;
  int32_t rows;
  int32_t sinks;
  int32_t recent;
  int32_t pool_rows;      /* >= 1, divides rows */
  int32_t floor;          /* slots per row, only with pool_rows > 1 */
  int32_t union_group;    /* 1..16, divides rows */
  const int32_t* lengths; /* host [rows] */
  const int32_t* k;       /* host [rows / pool_rows] */
  int32_t* indices;       /* [rows / union_group, out_stride] */
  int64_t out_stride;     /* >= the longest possible result; the largest length always fits */
  int32_t* counts;        /* [rows / union_group] */
  uint16_t* masks;        /* [rows / union_group, out_stride] or NULL */
} SkvSelectTopkParams;

/* ---- compact ----------------------------------------------------------------------------------
 * Exact. Moves kept slots: for i < count, slot indices[i] - index_base of src goes to slot dst_slot
 * + i of dst, out of place. Raw: K, V rows. Codebook: references and magnitudes; the codewords are
 * not touched (dst.k, dst.v are not written) and both runs have the same ref_bytes. Both:
 * positions; mask if dst.mask (from mask_override, else src.mask, else 0xffff); beta if dst.beta
 * (from src.beta, else 0). src.codec == dst.codec. An index outside src is skipped by no backend:
 * indices are trusted here and checked by the caller (core/store). */
typedef struct SkvCompactItem {
  SkvRun src;
  SkvRun dst;
  const int32_t* indices;        /* [count] ascending */
  const uint16_t* mask_override; /* [count] or NULL */
  int32_t count;
  int32_t index_base;
  int32_t dst_slot;
  int32_t reserved;
} SkvCompactItem;

typedef struct SkvCompactParams {
  int32_t dtype;
  int32_t head_dim;
  int32_t n_items;
  int32_t reserved;
  const SkvCompactItem* items; /* host */
} SkvCompactParams;

/* ---- rope -------------------------------------------------------------------------------------
 * Canonical. Turns rows [heads, tokens, D] (in may equal out) by the angle of positions_to minus
 * that of positions_from: apply: from NULL; undo: to NULL; re-rotate: both. The turn is one
 * rotation by |to - from| with the sine's sign following, so the table must reach the largest
 * difference. Computed in f32, rounded once to dtype. */
typedef struct SkvRopeParams {
  const void* in; /* [heads, tokens, D] */
  void* out;
  int64_t in_stride_head, in_stride_token;
  int64_t out_stride_head, out_stride_token;
  int32_t dtype;
  int32_t head_dim;
  int32_t heads;
  int32_t tokens;
  const int32_t* positions_from; /* device [tokens] or NULL */
  const int32_t* positions_to;   /* device [tokens] or NULL */
  SkvRope
      rope; /* every |to - from| < rope.positions, else skipped rows are an error of the caller */
} SkvRopeParams;

/* ---- build_codebook ---------------------------------------------------------------------------
 * Canonical. SpindleKV (arXiv 2507.06517) eq. 8-13 per problem, a problem being the keys or the
 * values of one KV head. u[i] = unit(x[i]) in f32. Graph: G[a,b] = 1 iff dot(u[a], u[b]) > theta,
 * or a == b, or rows a and b are bitwise equal (exact duplicates; that includes pairs of zero rows;
 * +0 and -0 differ bitwise but two zero-norm rows count as equal). Stages, any combination, in this
 * order: GRAPH  writes G over all n rows as bits: word w of row a holds columns 64w..64w+63 (bit 0
 * lowest). [n, ceil(n/64)] u64 COVER  greedy maximum-degree cover on the sub-graph of `rows` (all n
 * rows if NULL): while uncovered rows are left, pick the uncovered row with the most uncovered
 * neighbours (itself counted; tie: smallest index), it becomes codeword c, all its uncovered
 * neighbours get label c. Stops after max_codewords picks (0: no limit); rows still uncovered then
 *          take the label of the codeword with the largest dot(u, u_leader) (tie: smaller label),
 * which needs x. Reads G from `graph` if given, else computes what it needs in the workspace. EMIT
 * needs labels and leaders (from COVER of this call, or of an earlier call with the same rows).
 * Codeword c starts as u[leader_c] rounded to dtype. Then `refine` rounds of spherical k-means
 * under the guarantee: for c ascending: s = 0; for members i ascending: s[d] = fma(m_i, x_i[d],
 * s[d])   (m_i = norm(x_i)); for t in {1, 1/2, 1/4, 1/8}: candidate = round_dtype(unit(w[d] + t *
 * (unit(s)[d] - w[d]))) with w the present codeword as f32 (t = 1: round_dtype(unit(s))); taken if
 * every member has dot(u_i, candidate) > bound_i and err(candidate) < err(w), where err(c) = sum
 * over members ascending, in float64 fma order, of m_i^2 * ((1 - 2 dot(u_i, c)) + dot(c, c)); first
 * t that passes wins; none: w stays. then each row i moves to the codeword j with the largest 2
 * dot(u_i, c_j) - dot(c_j, c_j) (tie: smaller j) among those with dot(u_i, c_j) > bound_i, if
 * strictly larger than its present one's. Stops early when a round changed nothing. bound_i =
 * theta; for rows that COVER left below theta (max_codewords) bound_i = -2. Codewords without
 * members are removed at the end; labels are renumbered keeping order. Then writes codewords,
 * references, magnitudes (m_i rounded to dtype), cosines and the final count. nonfinite: the op
 * adds the number of rows (of `rows`) whose norm is not finite; outputs are then unspecified. A
 * long op: checks exec.cancel. Zero rows: u = 0, isolated but for each other; they cost one
 * codeword (0) together. */
typedef enum SkvCodebookStage {
  SKV_STAGE_GRAPH = 1,
  SKV_STAGE_COVER = 2,
  SKV_STAGE_EMIT = 4
} SkvCodebookStage;

typedef struct SkvCodebookProblem {
  const void* x; /* [n, D] dtype, row stride x_stride; may be NULL if only COVER from graph without
                    max_codewords */
  int64_t x_stride; /* elements */
  int32_t n;
  int32_t n_rows;      /* length of rows; n if rows is NULL */
  const int32_t* rows; /* device [n_rows] ascending, unique, in [0, n); NULL: all */
  float theta;         /* in [-1, 1] */
  int32_t capacity;    /* room in leaders and codewords; >= the count, n_rows always suffices */
  uint64_t* graph;     /* [n, ceil(n/64)] in (COVER) or out (GRAPH), or NULL */
  int32_t* labels;     /* [n_rows] out of COVER, in and out of EMIT */
  int32_t* leaders; /* [capacity] index into x of each codeword's row, in order of picking; out of
                       COVER, in of EMIT */
  int32_t* count;   /* [1] number of codewords; out of COVER, in and out of EMIT */
  void* codewords;  /* EMIT [capacity, D] dtype */
  void* refs;       /* EMIT [n_rows] of ref_bytes, or NULL */
  void* magnitudes; /* EMIT [n_rows] dtype, or NULL */
  float* cosines;   /* EMIT [n_rows] dot(u, final rounded codeword), or NULL */
} SkvCodebookProblem;

typedef struct SkvBuildCodebookParams {
  int32_t dtype;
  int32_t head_dim;
  int32_t n_problems;
  int32_t stages;        /* SkvCodebookStage bits */
  int32_t max_codewords; /* 0: no limit */
  int32_t refine;        /* rounds, >= 0 */
  int32_t ref_bytes;     /* 2 or 4 */
  int32_t reserved;
  const SkvCodebookProblem* problems; /* host */
  int32_t* nonfinite;                 /* [1], added to; may be NULL */
} SkvBuildCodebookParams;

/* ---- nearest_codeword -------------------------------------------------------------------------
 * Canonical. index[i] = argmax_c dot(u_i, c) with u_i = unit(x_i) if normalize else x_i; tie:
 * smaller index; score[i] the dot. C = 0: index -1, score -inf. NaN scores lose against everything;
 * all NaN: index -1, score NaN. */
typedef struct SkvNearestProblem {
  const void* x;         /* [n, D] dtype */
  const void* codewords; /* [c, D] dtype */
  int64_t x_stride, codeword_stride;
  int32_t n;
  int32_t c;
  int32_t* index; /* [n] */
  float* score;   /* [n] or NULL */
  float* norm;    /* [n] norm(x_i), or NULL */
} SkvNearestProblem;

typedef struct SkvNearestCodewordParams {
  int32_t dtype;
  int32_t head_dim;
  int32_t n_problems;
  int32_t normalize;
  const SkvNearestProblem* problems; /* host */
} SkvNearestCodewordParams;

/* ---- reduce_by_label --------------------------------------------------------------------------
 * Canonical. Counting sort by label and weighted sums, per problem: over rows i with labels[i] ==
 * c, i ascending, sums[c][d] = fma(weights[i] or 1, x[i][d], sums[c][d]) from 0; counts[c]; offsets
 * = exclusive prefix of counts, offsets[C] = total; order = row indices grouped by label, ascending
 * inside. Labels outside [0, C) (such as -1) take no part. */
typedef struct SkvLabelProblem {
  const void* x; /* [n, D] dtype, or NULL (then sums is NULL) */
  int64_t x_stride;
  const int32_t* labels; /* device [n] */
  const float* weights;  /* [n] or NULL */
  int32_t n;
  int32_t n_labels;
  float* sums;      /* [C, D] or NULL */
  int32_t* counts;  /* [C] or NULL */
  int32_t* offsets; /* [C + 1] or NULL */
  int32_t* order;   /* [n] (the first offsets[C] are written) or NULL */
} SkvLabelProblem;

typedef struct SkvReduceByLabelParams {
  int32_t dtype; /* of x; not read where no problem has one, like head_dim */
  int32_t head_dim;
  int32_t n_problems;
  int32_t reserved;
  const SkvLabelProblem* problems; /* host */
} SkvReduceByLabelParams;

/* ---- key_stats --------------------------------------------------------------------------------
 * Canonical. What the stored rows of every slot say by themselves: k_norm[h,s] = norm(k[s]) and
 * v_norm[h,s] = norm(v[s]) of the rows as they are stored (a codebook's: magnitude * codeword), so
 * that they do not depend on rope; v_l1[h,s] = sum over d ascending of |v[s][d]|. cos_to_mean[h,s]
 * is the cosine of the key k'[s] that attend reads (after RoPE, reindex honoured) with the mean of
 * all keys of the head, each of unit length: mean = (block sum over the head's slots of w[s] k'[s],
 * added by fma) / slots with w[s] = 1 / norm(k[s]), 0 where that norm is 0; cosine = dot(k'[s],
 * mean) / norm(k[s]) / norm(mean), 0 where one of the two norms is 0. Masks and beta play no part.
 * Slots beyond a head's count are not written. nonfinite: the op adds the number of norms and L1
 * norms it was asked for (the keys' norms also for cos_to_mean) that are NaN or infinite; where a
 * key's is, cos_to_mean of the head means nothing. Each output may be NULL. Sources: the L2 norm
 * (arXiv 2406.11430), KeyDiff (2504.15364), LAVa (2509.09754). */
typedef struct SkvKeyStatsParams {
  int32_t dtype;
  int32_t head_dim;
  int32_t kv_heads;
  int32_t reindex;
  int32_t n_runs;
  int32_t reserved;
  const SkvRun* runs;   /* host [n_runs] */
  const SkvHead* heads; /* host [kv_heads] */
  SkvRope rope;
  float* k_norm;      /* [Hkv, stride] */
  float* cos_to_mean; /* [Hkv, stride] */
  float* v_norm;      /* [Hkv, stride] */
  float* v_l1;        /* [Hkv, stride] */
  int64_t stride;     /* elements between rows; >= the largest head's slots */
  int32_t* nonfinite; /* [1], added to */
} SkvKeyStatsParams;

/* ---- row_cosine -------------------------------------------------------------------------------
 * Canonical. cosines[t] = wide_dot(a[t], b[t]) / sqrt(wide_dot(a[t], a[t])) / sqrt(wide_dot(b[t],
 * b[t])), 0 where one of the two roots is 0. sum[0] += block sum of the cosines, so that chunks of
 * a prompt add up; nonfinite[0] += the number of cosines that are NaN or infinite. Each output may
 * be NULL. a and b may be the same. Sources: SqueezeAttention (arXiv 2404.04793), BaKlaVa
 * (2502.13176). */
typedef struct SkvRowCosineParams {
  int32_t dtype; /* of a and b: f32, f16 or bf16 */
  int32_t rows;  /* T */
  int32_t width; /* elements of a row, any number from 1 on */
  int32_t reserved;
  const void* a; /* [T, width] */
  const void* b;
  int64_t a_stride, b_stride;
  float* cosines;     /* [T] */
  float* sum;         /* [1], added to */
  int32_t* nonfinite; /* [1], added to */
} SkvRowCosineParams;

#ifdef __cplusplus
}
#endif

#endif /* SPINDLEKV_CORE_OPS_H_ */
