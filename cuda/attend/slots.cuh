// Where a slot of a head lies: run lookup, and one slot's row addresses and attributes, whichever
// codec stores it. A codebook slot is a codeword row by reference and a magnitude, so readers need
// not know the codec. Run and head tables are in device memory; addresses out of them are global.
#pragma once

#include "core/types.h"

#include "cuda/common/convert.cuh"
#include "cuda/common/global.cuh"

namespace spindlekv::cuda {

// The slots of one KV head.
struct HeadSlots {
  const SkvRun* runs;
  int n_runs;
};

__device__ __forceinline__ HeadSlots head_slots(const SkvRun* runs, const SkvHead* heads,
                                                int kv_head) {
  const SkvHead head = heads[kv_head];
  return {runs + head.first_run, head.n_runs};
}

// The run that holds `slot` of the head: the last one that starts at or before it.
__device__ __forceinline__ const SkvRun* find_run(const HeadSlots& head, int slot) {
  int low = 0;
  int high = head.n_runs;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (head.runs[middle].slot_base <= slot) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return head.runs + low;
}

// Reference of slot `index` of a codebook run.
__device__ __forceinline__ int64_t codeword_of(const void* refs, int ref_bytes, int index) {
  return ref_bytes == 2 ? load_constant(static_cast<const uint16_t*>(refs) + index)
                        : load_constant(static_cast<const int32_t*>(refs) + index);
}

template <typename Elem>
struct SlotRow {
  const Elem* row;
  float magnitude;
};

// Row of the keys (or values) of slot `index` of a run.
template <typename Elem>
__device__ __forceinline__ SlotRow<Elem> slot_row(const SkvRun& run, const void* rows,
                                                  const void* refs, const void* magnitudes,
                                                  int index, int head_dim) {
  const Elem* base = static_cast<const Elem*>(rows);
  if (run.codec == SKV_CODEC_RAW) return {base + static_cast<int64_t>(index) * head_dim, 1.0f};
  const int64_t codeword = codeword_of(refs, run.ref_bytes, index);
  const Elem magnitude = load_constant(static_cast<const Elem*>(magnitudes) + index);
  return {base + codeword * head_dim, to_float(magnitude)};
}

template <typename Elem>
__device__ __forceinline__ SlotRow<Elem> key_row(const SkvRun& run, int index, int head_dim) {
  return slot_row<Elem>(run, run.k, run.k_ref, run.k_magnitude, index, head_dim);
}

template <typename Elem>
__device__ __forceinline__ SlotRow<Elem> value_row(const SkvRun& run, int index, int head_dim) {
  return slot_row<Elem>(run, run.v, run.v_ref, run.v_magnitude, index, head_dim);
}

__device__ __forceinline__ float slot_beta(const SkvRun& run, int index) {
  return run.beta == nullptr ? 0.0f : load_constant(run.beta + index);
}

__device__ __forceinline__ int slot_position(const SkvRun& run, int index) {
  return load_constant(run.positions + index);
}

// Bits [0, 16) of a slot's flags: its visibility mask. Bit 16: the key turns while it is read.
inline constexpr unsigned kTurnsKey = 1u << 16;

__device__ __forceinline__ unsigned slot_flags(const SkvRun& run, int index) {
  const unsigned mask = run.mask == nullptr ? 0xffffu : load_constant(run.mask + index);
  return mask | (run.rotated == 0 ? kTurnsKey : 0u);
}

}  // namespace spindlekv::cuda
