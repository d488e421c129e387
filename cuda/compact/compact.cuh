// compact: moves the kept slots of runs, out of place.
//   dst[dst_slot + i] = src[indices[i] - index_base] for K and V rows (or references and
//   magnitudes), positions, mask and beta
// A block owns kSlots slots of an item of any codec, so one launch serves all items. K and V rows
// move as 16-byte vectors, neighbouring threads taking neighbouring vectors; what has one entry a
// slot is moved by one thread a slot. Exact; memory-bound: every kept byte read and written once.
// Not here: indices outside src; the caller vouches for them.
#pragma once

#include "core/ops.h"

#include "cuda/common/convert.cuh"
#include "cuda/common/launch.h"

namespace spindlekv::cuda {

// ---- traits
// --------------------------------------------------------------------------------------

struct CompactTraits {
  static constexpr int kThreads = 256;
  static constexpr int kSlots = 64;  // of a block
  static_assert(kSlots <= kThreads);
};

// An item and the number of its first block; items without slots are left out.
struct CompactWork {
  SkvCompactItem item;
  int64_t first_block;
};

struct CompactArgs {
  const CompactWork* works;
  int32_t n_works;
  int32_t element_bytes;
  int32_t row_words;  // 16-byte words of a K or V row
};

// ---- helpers
// -------------------------------------------------------------------------------------

// The last work that begins at or before the block.
__device__ __forceinline__ const CompactWork& find_work(const CompactArgs& args, int64_t block) {
  int low = 0;
  int high = args.n_works;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (args.works[middle].first_block <= block) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return args.works[low];
}

// One entry of an array whose entries are 2 or 4 bytes wide.
__device__ __forceinline__ void move_entry(int bytes, void* dst, int64_t to, const void* src,
                                           int64_t from) {
  if (bytes == 2) {
    static_cast<uint16_t*>(dst)[to] = static_cast<const uint16_t*>(src)[from];
  } else {
    static_cast<uint32_t*>(dst)[to] = static_cast<const uint32_t*>(src)[from];
  }
}

// What a slot has one entry of. `index`: of the slot among the item's results.
__device__ __forceinline__ void move_slot(const CompactArgs& args, const SkvCompactItem& item,
                                          int64_t index, int64_t from) {
  const SkvRun& src = item.src;
  const SkvRun& dst = item.dst;
  const int64_t to = item.dst_slot + index;
  if (src.codec == SKV_CODEC_CODEBOOK) {
    move_entry(src.ref_bytes, dst.k_ref, to, src.k_ref, from);
    move_entry(src.ref_bytes, dst.v_ref, to, src.v_ref, from);
    move_entry(args.element_bytes, dst.k_magnitude, to, src.k_magnitude, from);
    move_entry(args.element_bytes, dst.v_magnitude, to, src.v_magnitude, from);
  }
  dst.positions[to] = src.positions[from];
  if (dst.mask != nullptr) {
    const uint16_t kept = src.mask != nullptr ? src.mask[from] : uint16_t{0xffff};
    dst.mask[to] = item.mask_override != nullptr ? item.mask_override[index] : kept;
  }
  if (dst.beta != nullptr) dst.beta[to] = src.beta != nullptr ? src.beta[from] : 0.0f;
}

// ---- kernel
// --------------------------------------------------------------------------------------

__global__ __launch_bounds__(CompactTraits::kThreads) void compact_kernel(const CompactArgs args) {
  SKV_SHARED(source, int[CompactTraits::kSlots]);
  const CompactWork& work = find_work(args, blockIdx.x);
  const SkvCompactItem& item = work.item;
  const int64_t first = (blockIdx.x - work.first_block) * CompactTraits::kSlots;
  const int slots = static_cast<int>(
      min(static_cast<int64_t>(CompactTraits::kSlots), static_cast<int64_t>(item.count) - first));

  // entries of the slots
  const int slot = static_cast<int>(threadIdx.x);
  if (slot < slots) {
    const int from = item.indices[first + slot] - item.index_base;
    source[slot] = from;
    move_slot(args, item, first + slot, from);
  }
  __syncthreads();
  if (item.src.codec != SKV_CODEC_RAW) return;

  // rows
  const auto* src_k = static_cast<const uint4*>(item.src.k);
  const auto* src_v = static_cast<const uint4*>(item.src.v);
  auto* dst_k = static_cast<uint4*>(item.dst.k);
  auto* dst_v = static_cast<uint4*>(item.dst.v);
  const int64_t target = (item.dst_slot + first) * args.row_words;
  for (int word = slot; word < slots * args.row_words; word += CompactTraits::kThreads) {
    const int row = word / args.row_words;
    const int64_t from =
        static_cast<int64_t>(source[row]) * args.row_words + (word - row * args.row_words);
    check_vector_address(src_k + from);
    check_vector_address(src_v + from);
    const uint4 k = src_k[from];
    const uint4 v = src_v[from];
    dst_k[target + word] = k;
    dst_v[target + word] = v;
  }
}

// ---- launch
// --------------------------------------------------------------------------------------

inline Status launch_compact(const CompactArgs& args, int64_t blocks, cudaStream_t stream) {
  return launch<compact_kernel>("compact", {blocks}, dim3(CompactTraits::kThreads), 0, stream,
                                args);
}

}  // namespace spindlekv::cuda
