// append_kv on the CPU: one task moves up to 64 tokens of one item. Bytes: each row is read and
// written once; memory-bound. Rows that change neither dtype nor angle are copied as they are.
#include <algorithm>
#include <cstring>
#include <vector>

#include "cpu/convert.h"
#include "cpu/device.h"
#include "cpu/entries.h"
#include "cpu/row_kernels.h"

namespace spindlekv::cpu {
namespace {

constexpr int kTaskTokens = 64;
constexpr int kMaxHeadDim = 512;

struct Piece {
  const SkvAppendItem* item;
  int first, tokens;
};

const char* row_at(const void* rows, int64_t element, int32_t dtype) {
  return static_cast<const char*>(rows) + element * static_cast<int64_t>(dtype_bytes(dtype));
}

class Appender {
 public:
  Appender(const SkvAppendKvParams& params, const RowKernels& kernels)
      : params_(params), kernels_(kernels) {}

  void run(const Piece& piece) const {
    for (int token = piece.first; token < piece.first + piece.tokens; ++token) {
      append_key(*piece.item, token);
      append_value(*piece.item, token);
    }
    write_attributes(*piece.item, piece.first, piece.tokens);
  }

 private:
  void* target(void* rows, const SkvAppendItem& item, int token) const {
    const int64_t slot = int64_t{item.dst_slot} + token;
    return const_cast<char*>(row_at(rows, slot * params_.head_dim, params_.dtype));
  }

  void append_key(const SkvAppendItem& item, int token) const {
    const char* const in = row_at(item.k, token * item.k_stride_token, params_.src_dtype);
    void* const out = target(item.dst.k, item, token);
    float row[kMaxHeadDim];
    if (params_.rotate != 0) {
      kernels_.load(params_.src_dtype, in, row, params_.head_dim);
      kernels_.rotate(row, params_.rope, int64_t{item.first_position} + token, false);
      kernels_.store(params_.dtype, row, out, params_.head_dim);
    } else {
      move_row(in, out, row);
    }
    if (item.key_norms == nullptr) return;
    // The norm of what is stored, after rounding.
    kernels_.load(params_.dtype, out, row, params_.head_dim);
    item.key_norms[token] = kernels_.norm(row, params_.head_dim);
  }

  void append_value(const SkvAppendItem& item, int token) const {
    float row[kMaxHeadDim];
    move_row(row_at(item.v, token * item.v_stride_token, params_.src_dtype),
             target(item.dst.v, item, token), row);
  }

  void move_row(const char* in, void* out, float* row) const {
    if (params_.src_dtype == params_.dtype) {
      std::memcpy(out, in, dtype_bytes(params_.dtype) * static_cast<size_t>(params_.head_dim));
      return;
    }
    kernels_.load(params_.src_dtype, in, row, params_.head_dim);
    kernels_.store(params_.dtype, row, out, params_.head_dim);
  }

  static void write_attributes(const SkvAppendItem& item, int first, int tokens) {
    const int64_t slot = int64_t{item.dst_slot} + first;
    for (int i = 0; i < tokens; ++i) item.dst.positions[slot + i] = item.first_position + first + i;
    if (item.dst.mask != nullptr) std::fill_n(item.dst.mask + slot, tokens, uint16_t{0xffff});
    if (item.dst.beta != nullptr) std::fill_n(item.dst.beta + slot, tokens, 0.0f);
  }

  const SkvAppendKvParams& params_;
  const RowKernels& kernels_;
};

}  // namespace

size_t append_kv_workspace(SkvDevice&, const SkvAppendKvParams&) { return 0; }

Status append_kv(SkvDevice& device, const SkvExec&, const SkvAppendKvParams& params) {
  std::vector<Piece> pieces;
  int64_t tokens = 0;
  for (int32_t i = 0; i < params.n_items; ++i) {
    const SkvAppendItem& item = params.items[i];
    tokens += item.tokens;
    for (int first = 0; first < item.tokens; first += kTaskTokens) {
      pieces.push_back({&item, first, std::min(kTaskTokens, item.tokens - first)});
    }
  }
  const Appender appender(params, row_kernels_for(device.isa));
  if (tokens <= kTaskTokens) {  // a decode step: not worth waking anybody
    for (const Piece& piece : pieces) appender.run(piece);
    return ok_status();
  }
  device.pool.parallel_for(static_cast<int64_t>(pieces.size()), [&](int64_t index, int) {
    appender.run(pieces[static_cast<size_t>(index)]);
  });
  return ok_status();
}

}  // namespace spindlekv::cpu
