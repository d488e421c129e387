#include "core/check/checker.h"

#include <cinttypes>
#include <cmath>
#include <cstdio>

namespace spindlekv {
namespace {

constexpr size_t kTextBytes = 96;  // of one half of a message; SkvStatus::message holds both

struct Range {
  uintptr_t begin;
  uintptr_t end;
};

Range address_range(const Block& block) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(block.data);
  if (block.data == nullptr || block.outer <= 0 || block.inner <= 0 || block.row <= 0) {
    return {begin, begin};
  }
  const int64_t last =
      (block.outer - 1) * block.stride_outer + (block.inner - 1) * block.stride_inner + block.row;
  return {begin, begin + static_cast<uintptr_t>(last) * block.element_bytes};
}

}  // namespace

const char* dtype_name(int32_t dtype) {
  switch (dtype) {
    case SKV_F32:
      return "f32";
    case SKV_F16:
      return "f16";
    case SKV_BF16:
      return "bf16";
    case SKV_I32:
      return "i32";
    case SKV_U16:
      return "u16";
    case SKV_U8:
      return "u8";
    case SKV_U64:
      return "u64";
    default:
      return "no dtype";
  }
}

void Checker::enter(const char* list, int64_t i, int64_t j) {
  list_ = list;
  i_ = i;
  j_ = j;
}

void Checker::within(const char* list, int64_t i) {
  outer_list_ = list;
  outer_i_ = i;
}

void Checker::fail(const char* param, const char* expected, const char* actual) {
  char outer[32] = "";
  if (outer_list_ != nullptr) {
    std::snprintf(outer, sizeof(outer), "%s[%" PRId64 "].", outer_list_, outer_i_);
  }
  char place[64] = "";
  if (list_ != nullptr && j_ >= 0) {
    std::snprintf(place, sizeof(place), "%s[%" PRId64 "][%" PRId64 "].", list_, i_, j_);
  } else if (list_ != nullptr) {
    std::snprintf(place, sizeof(place), "%s[%" PRId64 "].", list_, i_);
  }
  status_ = error_status(SKV_ARGUMENT, op_, "expected %s for %s%s%s, got %s", expected, outer,
                         place, param, actual);
}

void Checker::require(bool holds, const char* param, const char* expected, const char* actual) {
  if (ok() && !holds) fail(param, expected, actual);
}

void Checker::require(bool holds, const char* param, const char* expected, int64_t actual) {
  if (!ok() || holds) return;
  char text[kTextBytes];
  std::snprintf(text, sizeof(text), "%" PRId64, actual);
  fail(param, expected, text);
}

void Checker::range(const char* param, int64_t value, int64_t least, int64_t most) {
  if (!ok() || (value >= least && value <= most)) return;
  char expected[kTextBytes];
  std::snprintf(expected, sizeof(expected), "an integer in [%" PRId64 ", %" PRId64 "]", least,
                most);
  require(false, param, expected, value);
}

void Checker::at_least(const char* param, int64_t value, int64_t least) {
  if (!ok() || value >= least) return;
  char expected[kTextBytes];
  std::snprintf(expected, sizeof(expected), "an integer >= %" PRId64, least);
  require(false, param, expected, value);
}

void Checker::multiple(const char* param, int64_t value, int64_t of, const char* of_param) {
  if (!ok() || (of > 0 && value % of == 0)) return;
  char expected[kTextBytes];
  std::snprintf(expected, sizeof(expected), "a multiple of %s (%" PRId64 ")", of_param, of);
  require(false, param, expected, value);
}

void Checker::finite(const char* param, float value) {
  if (!ok() || std::isfinite(value)) return;
  char actual[kTextBytes];
  std::snprintf(actual, sizeof(actual), "%g", static_cast<double>(value));
  fail(param, "a finite number", actual);
}

void Checker::float_dtype(const char* param, int32_t dtype) {
  const bool holds = dtype == SKV_F32 || dtype == SKV_F16 || dtype == SKV_BF16;
  require(holds, param, "dtype f32, f16 or bf16", dtype_name(dtype));
}

void Checker::head_dim(int32_t head_dim) {
  const bool holds =
      head_dim >= kMinHeadDim && head_dim <= kMaxHeadDim && head_dim % kHeadDimStep == 0;
  require(holds, "head_dim", "a multiple of 8 in [8, 512]", head_dim);
}

void Checker::present(const char* param, const void* pointer) {
  require(pointer != nullptr, param, "memory", "NULL");
}

void Checker::aligned(const char* param, const void* pointer, size_t alignment) {
  present(param, pointer);
  const size_t past = reinterpret_cast<uintptr_t>(pointer) % alignment;
  if (!ok() || past == 0) return;
  char expected[kTextBytes];
  char actual[kTextBytes];
  std::snprintf(expected, sizeof(expected), "a %zu-byte aligned address", alignment);
  std::snprintf(actual, sizeof(actual), "one %zu bytes past it", past);
  fail(param, expected, actual);
}

void Checker::rope(const SkvRope& rope, int32_t head_dim) {
  if (rope.cos_sin == nullptr) return;
  at_least("rope.positions", rope.positions, 1);
  range("rope.n_rot", rope.n_rot, 2, head_dim);
  require(rope.n_rot % 2 == 0, "rope.n_rot", "an even number", rope.n_rot);
  const bool known = rope.style == SKV_ROPE_NORM || rope.style == SKV_ROPE_NEOX;
  require(known, "rope.style", "0 (norm) or 1 (neox)", rope.style);
}

void Checker::positions(const char* param, int64_t first, int64_t count, const SkvRope& rope) {
  at_least(param, first, 0);
  if (!ok()) return;
  const bool has_table = rope.cos_sin != nullptr;
  const int64_t limit = has_table ? rope.positions : INT32_MAX;
  if (count <= 0 || first + count <= limit) return;
  char expected[kTextBytes];
  char actual[kTextBytes];
  std::snprintf(expected, sizeof(expected), "at most %" PRId64 "%s", limit - count,
                has_table ? " (reach of the RoPE table)" : "");
  std::snprintf(actual, sizeof(actual), "%" PRId64 " with %" PRId64 " tokens", first, count);
  fail(param, expected, actual);
}

void Checker::row_stride(const char* param, int64_t stride, int64_t rows, int64_t width) {
  if (rows > 1) at_least(param, stride, width);
}

void Checker::distinct_rows(const char* param, const Block& block) {
  if (!ok() || block.outer <= 0 || block.inner <= 0) return;
  // Whichever axis has the shorter stride must fit into one step of the other.
  const bool inner_first =
      block.inner <= 1 || block.outer <= 1 || block.stride_inner <= block.stride_outer;
  const int64_t short_extent = inner_first ? block.inner : block.outer;
  const int64_t short_stride = inner_first ? block.stride_inner : block.stride_outer;
  const int64_t long_extent = inner_first ? block.outer : block.inner;
  const int64_t long_stride = inner_first ? block.stride_outer : block.stride_inner;
  const int64_t span = (short_extent > 1 ? (short_extent - 1) * short_stride : 0) + block.row;
  const bool holds =
      (short_extent <= 1 || short_stride >= block.row) && (long_extent <= 1 || long_stride >= span);
  if (holds) return;
  char actual[kTextBytes];
  std::snprintf(actual, sizeof(actual), "strides %" PRId64 " and %" PRId64, block.stride_outer,
                block.stride_inner);
  fail(param, "rows that do not overlap", actual);
}

void Checker::apart(const char* param, const char* other, const Block& a, const Block& b) {
  if (!ok()) return;
  const Range first = address_range(a);
  const Range second = address_range(b);
  if (first.begin == first.end || second.begin == second.end) return;
  if (first.end <= second.begin || second.end <= first.begin) return;
  char actual[kTextBytes];
  std::snprintf(actual, sizeof(actual), "memory shared with %s", other);
  fail(param, "memory of its own", actual);
}

}  // namespace spindlekv
