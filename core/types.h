/* Types shared by every layer of spindlekv: status, dtypes, views of stored slots.
 * Plain C, so that a native peer can include it through core/include/spindlekv.h. */
#ifndef SPINDLEKV_CORE_TYPES_H_
#define SPINDLEKV_CORE_TYPES_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define SKV_NODISCARD [[nodiscard]]
extern "C" {
#else
#define SKV_NODISCARD
#endif

/* Order and meaning are those of core/error_codes.def; kept in step by scripts/check-errors.mjs. */
typedef enum SkvCode {
  SKV_OK = 0,
  SKV_ARGUMENT = 1,
  SKV_MISSING_INPUT = 2,
  SKV_UNSUPPORTED = 3,
  SKV_DISPOSED = 4,
  SKV_OUT_OF_MEMORY = 5,
  SKV_ABORTED = 6,
  SKV_BUSY = 7,
  SKV_NON_FINITE = 8,
  SKV_WRONG_DEVICE = 9,
  SKV_CUDA = 10,
  SKV_DEVICE_LOST = 11,
  SKV_NO_DEVICE = 12,
  SKV_NO_BINARY = 13,
  SKV_FILE = 14,
  SKV_INTERNAL = 15
} SkvCode;

/* The result of every call below binding/. `op` is a string literal; `message` is
 * "expected <what> for <param>, got <value>" without the op in front. */
typedef struct SKV_NODISCARD SkvStatus {
  int32_t code;        /* SkvCode */
  int32_t native_code; /* cudaError_t or errno where there is one, else 0 */
  const char* op;
  char message[232];
} SkvStatus;

typedef enum SkvDType {
  SKV_F32 = 0,
  SKV_F16 = 1,
  SKV_BF16 = 2,
  SKV_I32 = 3,
  SKV_U16 = 4,
  SKV_U8 = 5,
  SKV_U64 = 6
} SkvDType;

typedef enum SkvCodec {
  SKV_CODEC_RAW = 0,     /* K and V rows */
  SKV_CODEC_CODEBOOK = 1 /* references into codewords, and magnitudes */
} SkvCodec;

/* One contiguous run of slots of one KV head, stored by one codec. Pointers are device pointers.
 * Rows are contiguous: row r starts at r * head_dim elements. k and v are 16-byte aligned; the
 * arrays of one entry a slot are aligned to that entry only (a run may start anywhere in a page).
 */
typedef struct SkvRun {
  int32_t codec;     /* SkvCodec */
  int32_t slots;     /* filled slots of the run */
  int32_t slot_base; /* index of the run's first slot among the slots of its head */
  int32_t rotated;   /* 1: keys are stored after RoPE; 0: before (rotated while they are read) */
  void* k;           /* raw: [slots, D]; codebook: key codewords [k_codewords, D], unit length */
  void* v;           /* raw: [slots, D]; codebook: value codewords [v_codewords, D], unit length */
  int32_t k_codewords;
  int32_t v_codewords;
  int32_t ref_bytes;  /* codebook: width of a reference, 2 or 4 */
  int32_t reserved;   /* 0 */
  void* k_ref;        /* codebook: [slots] index of the key codeword */
  void* v_ref;        /* codebook: [slots] index of the value codeword */
  void* k_magnitude;  /* codebook: [slots], dtype of K and V; key = magnitude * codeword */
  void* v_magnitude;  /* codebook: [slots], dtype of K and V */
  int32_t* positions; /* [slots] logical position, >= 0 */
  uint16_t* mask;     /* [slots] bit g set: visible to query head g of the group; NULL: all are */
  float* beta;        /* [slots] log-mass added to the logit; NULL: 0 */
} SkvRun;

/* The slots of one KV head: runs[first_run .. first_run + n_runs) in slot order. */
typedef struct SkvHead {
  int32_t first_run;
  int32_t n_runs;
  int32_t slots; /* sum of the runs' slots */
  int32_t reserved;
} SkvHead;

typedef enum SkvRopeStyle {
  SKV_ROPE_NORM = 0, /* adjacent pairs (2i, 2i+1): llama.cpp's NORM */
  SKV_ROPE_NEOX = 1  /* half-split pairs (i, i + n_rot/2) */
} SkvRopeStyle;

/* Rotary embedding by table: pair i of a row at position p turns by the angle whose cosine and sine
 * are cos_sin[(p * n_rot/2 + i) * 2 + {0, 1}]. Tables are made on the host in float64
 * (core/rope_table.h) so that every backend reads the same numbers. The angle of a pair is
 * proportional to p and its magnitude the same in all rows, so a backend may compose the rows of
 * two positions instead of reading that of their sum. cos_sin == NULL: no rotation.
 */
typedef struct SkvRope {
  const float* cos_sin; /* device, [positions, n_rot/2, 2] f32 */
  int32_t positions;    /* rows of the table */
  int32_t n_rot;        /* leading dims that turn; even, <= head_dim */
  int32_t style;        /* SkvRopeStyle */
  int32_t reserved;
} SkvRope;

/* Where and how an op runs. */
typedef struct SkvExec {
  void* stream;    /* cudaStream_t on CUDA; NULL: the default stream, and on the CPU */
  void* workspace; /* device memory of at least the op's workspace_bytes, 256-byte aligned */
  size_t workspace_bytes;
  const volatile int32_t*
      cancel; /* host; non-zero: a long op stops and returns SKV_ABORTED; may be NULL */
  size_t* workspace_needed; /* host; an op that its workspace is too small for says here what it
                               takes, and fails before anything else; may be NULL */
} SkvExec;

#ifdef __cplusplus
}
#endif

#endif /* SPINDLEKV_CORE_TYPES_H_ */
