// append_kv: new rows of K and V into raw runs, converted; keys turned by RoPE on the way if asked.
//   dst.k[dst_slot + t] = round(rotate(float(k[t]), first_position + t));  dst.v likewise, not
//   turned dst.positions = first_position + t;  dst.mask = 0xffff;  dst.beta = 0 key_norms[t] =
//   sqrt(dot(row, row)) of the row as stored (core/canonical.h)
// Grid (tokens, items). Store kernel: a thread moves 8 elements; norm kernel: a thread walks a row,
// because the canonical dot is sequential.
// Memory-bound: reads 2 D source elements a token, writes 2 D elements and up to 10 bytes.
// Source rows may lie at any element alignment; destination rows are 16-byte aligned.
#pragma once

#include "core/canonical.h"
#include "core/ops.h"

#include "cuda/common/convert.cuh"
#include "cuda/common/launch.h"
#include "cuda/rope/rotate.cuh"

#include <cmath>

namespace spindlekv::cuda {

// ---- traits
// --------------------------------------------------------------------------------------

struct AppendTraits {
  static constexpr int kThreads = 128;
  static constexpr int kTokens = 16;  // of a block of the store kernel
};

struct AppendArgs {
  SkvRope rope;                // cos_sin null: keys are not turned
  const SkvAppendItem* items;  // device; of this launch
  int32_t src_dtype;
  int32_t head_dim;
};

// ---- helpers
// -------------------------------------------------------------------------------------

template <typename Elem>
__device__ __forceinline__ Elem* stored_row(void* rows, const SkvAppendItem& item, int token,
                                            int head_dim) {
  return static_cast<Elem*>(rows) + (static_cast<int64_t>(item.dst_slot) + token) * head_dim;
}

__device__ __forceinline__ void store_attributes(const SkvAppendItem& item, int token) {
  const int64_t slot = static_cast<int64_t>(item.dst_slot) + token;
  item.dst.positions[slot] = item.first_position + token;
  if (item.dst.mask != nullptr) item.dst.mask[slot] = 0xffffu;
  if (item.dst.beta != nullptr) item.dst.beta[slot] = 0.0f;
}

// ---- kernels
// -------------------------------------------------------------------------------------

template <typename Elem>
__global__ __launch_bounds__(AppendTraits::kThreads) void append_kv_kernel(const AppendArgs args) {
  const SkvAppendItem& item = args.items[blockIdx.y];
  const int first = static_cast<int>(blockIdx.x) * AppendTraits::kTokens;
  const int tokens = min(AppendTraits::kTokens, item.tokens - first);
  const int vecs = args.head_dim / 8;
  for (int work = static_cast<int>(threadIdx.x); work < tokens * vecs;
       work += AppendTraits::kThreads) {
    const int token = first + work / vecs;
    const int dim = work % vecs * 8;
    const AnyRow key{item.k, args.src_dtype, token * item.k_stride_token};
    const AnyRow value{item.v, args.src_dtype, token * item.v_stride_token};
    const float2* turn = turn_at(args.rope, static_cast<int64_t>(item.first_position) + token);
    float row[8];
    rotated_eight(key, dim, turn, args.rope.n_rot, args.rope.style, row);
    store8(stored_row<Elem>(item.dst.k, item, token, args.head_dim) + dim, row);
    value.eight(dim, row);
    store8(stored_row<Elem>(item.dst.v, item, token, args.head_dim) + dim, row);
  }
  const int token = static_cast<int>(threadIdx.x);
  if (token < tokens) store_attributes(item, first + token);
}

template <typename Elem>
__global__ __launch_bounds__(AppendTraits::kThreads) void append_norms_kernel(
    const AppendArgs args) {
  const SkvAppendItem& item = args.items[blockIdx.y];
  const int64_t token = static_cast<int64_t>(blockIdx.x) * AppendTraits::kThreads + threadIdx.x;
  if (item.key_norms == nullptr || token >= item.tokens) return;
  const Elem* row = stored_row<Elem>(item.dst.k, item, static_cast<int>(token), args.head_dim);
  float sum = 0.0f;
  for (int dim = 0; dim < args.head_dim; dim += 8) {
    float x[8];
    load8(row + dim, x);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum = fmaf(x[i], x[i], sum);
  }
  item.key_norms[token] = sqrtf(sum);
}

// ---- launch
// --------------------------------------------------------------------------------------

template <typename Elem>
Status launch_append_kv(const AppendArgs& args, int64_t items, int64_t most_tokens,
                        cudaStream_t stream) {
  const Grid grid{ceil_div(most_tokens, AppendTraits::kTokens), items};
  return launch<append_kv_kernel<Elem>>("append_kv", grid, dim3(AppendTraits::kThreads), 0, stream,
                                        args);
}

template <typename Elem>
Status launch_append_norms(const AppendArgs& args, int64_t items, int64_t most_tokens,
                           cudaStream_t stream) {
  const Grid grid{ceil_div(most_tokens, AppendTraits::kThreads), items};
  return launch<append_norms_kernel<Elem>>("append_kv", grid, dim3(AppendTraits::kThreads), 0,
                                           stream, args);
}

}  // namespace spindlekv::cuda
