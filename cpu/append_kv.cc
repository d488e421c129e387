// append_kv on the CPU: one task moves up to 64 tokens of one item. Bytes: each row is read and
// written once; memory-bound. Rows that change neither dtype nor angle are copied as they are;
// appends larger than the caches go past them. The tokens of all items are gone through together,
// so that the KV heads share the rows of the RoPE table, which are twice as long as theirs.
#include <algorithm>
#include <cstring>
#include <vector>

#include "cpu/convert.h"
#include "cpu/device.h"
#include "cpu/entries.h"
#include "cpu/row_kernels.h"
#include "cpu/stream.h"

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
  Appender(const SkvAppendKvParams& params, const RowKernels& kernels, bool streams)
      : params_(params),
        kernels_(kernels),
        row_bytes_(static_cast<int64_t>(dtype_bytes(params.dtype)) * params.head_dim),
        streams_(streams) {}

  void run(const Piece& piece) const {
    const SkvAppendItem& item = *piece.item;
    append_rows({item.k, item.k_stride_token, item.dst.k}, piece, params_.rotate != 0,
                item.key_norms);
    append_rows({item.v, item.v_stride_token, item.dst.v}, piece, false, nullptr);
    write_attributes(item, piece.first, piece.tokens);
    if (streams_) finish_stream();
  }

 private:
  struct Rows {
    const void* src;
    int64_t src_stride;
    void* dst;
  };

  void append_rows(const Rows& rows, const Piece& piece, bool rotate, float* norms) const {
    const SkvAppendItem& item = *piece.item;
    const bool streams = streams_ && can_stream(rows.dst, row_bytes_);
    alignas(64) float aside[kMaxHeadDim];
    float values[kMaxHeadDim];
    for (int token = piece.first; token < piece.first + piece.tokens; ++token) {
      const char* const in = row_at(rows.src, token * rows.src_stride, params_.src_dtype);
      char* const out =
          static_cast<char*>(rows.dst) + (int64_t{item.dst_slot} + token) * row_bytes_;
      const void* row = aside;
      if (!rotate && params_.src_dtype == params_.dtype) {
        row = in;
      } else {
        void* const made = streams ? static_cast<void*>(aside) : out;
        make_row(in, made, rotate, int64_t{item.first_position} + token);
        row = made;
      }
      if (streams) {
        stream_copy(out, row, row_bytes_);
      } else if (row != out) {
        std::memcpy(out, row, static_cast<size_t>(row_bytes_));
      }
      if (norms == nullptr) continue;
      // The norm of what is stored, after rounding.
      kernels_.load(params_.dtype, row, values, params_.head_dim);
      norms[token] = kernels_.norm(values, params_.head_dim);
    }
  }

  void make_row(const void* in, void* out, bool rotate, int64_t position) const {
    if (rotate) {
      kernels_.turn(params_.src_dtype, in, params_.dtype, out, params_.head_dim, params_.rope,
                    position, false);
    } else {
      kernels_.convert(params_.src_dtype, in, params_.dtype, out, params_.head_dim);
    }
  }

  static void write_attributes(const SkvAppendItem& item, int first, int tokens) {
    const int64_t slot = int64_t{item.dst_slot} + first;
    for (int i = 0; i < tokens; ++i) item.dst.positions[slot + i] = item.first_position + first + i;
    if (item.dst.mask != nullptr) std::fill_n(item.dst.mask + slot, tokens, uint16_t{0xffff});
    if (item.dst.beta != nullptr) std::fill_n(item.dst.beta + slot, tokens, 0.0f);
  }

  const SkvAppendKvParams& params_;
  const RowKernels& kernels_;
  const int64_t row_bytes_;
  const bool streams_;
};

// Pieces in the order of their first tokens, items next to each other.
std::vector<Piece> pieces_of(const SkvAppendKvParams& params, int most_tokens) {
  std::vector<Piece> pieces;
  for (int first = 0; first < most_tokens; first += kTaskTokens) {
    for (int32_t i = 0; i < params.n_items; ++i) {
      const SkvAppendItem& item = params.items[i];
      if (first >= item.tokens) continue;
      pieces.push_back({&item, first, std::min(kTaskTokens, item.tokens - first)});
    }
  }
  return pieces;
}

}  // namespace

size_t append_kv_workspace(SkvDevice&, const SkvAppendKvParams&) { return 0; }

Status append_kv(SkvDevice& device, const SkvExec&, const SkvAppendKvParams& params) {
  int64_t tokens = 0;
  int most_tokens = 0;
  for (int32_t i = 0; i < params.n_items; ++i) {
    tokens += params.items[i].tokens;
    most_tokens = std::max(most_tokens, params.items[i].tokens);
  }
  const int64_t token_bytes = 2 * static_cast<int64_t>(dtype_bytes(params.dtype)) * params.head_dim;
  const Appender appender(params, row_kernels_for(device.isa), tokens * token_bytes > kStreamBytes);
  const std::vector<Piece> pieces = pieces_of(params, most_tokens);
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
