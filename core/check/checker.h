// A list of argument rules of which the first broken one becomes the Status.
//
//   Checker check("attend");
//   check.head_dim(p.head_dim);
//   check.range("group", p.group, 1, kMaxGroup);
//   return check.status();
//
// Rules after a broken one do nothing, so later rules may rely on earlier ones only through ok().
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "core/status.h"
#include "core/types.h"

namespace spindlekv {

inline constexpr int32_t kMinHeadDim = 8;
inline constexpr int32_t kMaxHeadDim = 512;
inline constexpr int32_t kHeadDimStep = 8;
inline constexpr int32_t kMaxGroup = 16;     // query heads per KV head: the bits of a slot's mask
inline constexpr size_t kRowAlignment = 16;  // bytes, of the K and V rows of a run
inline constexpr int64_t kMaxShortReference = 65536;  // codewords that a 2-byte reference can name

const char* dtype_name(int32_t dtype);

// Where the elements of a [outer, inner, row] block of memory lie: strides and sizes in elements.
struct Block {
  const void* data;
  int64_t outer;
  int64_t inner;
  int64_t row;
  int64_t stride_outer;
  int64_t stride_inner;
  size_t element_bytes;
};

class Checker {
 public:
  explicit Checker(const char* op) : status_(ok_status()), op_(op) {}

  bool ok() const { return is_ok(status_); }
  Status status() const { return status_; }

  // Parameter names that follow are members of `list`[i], or `list`[i][j].
  void enter(const char* list, int64_t i, int64_t j = -1);
  void leave() { list_ = nullptr; }
  // Every name that follows, of members of lists too, is inside `list`[i].
  void within(const char* list, int64_t i);

  // The general rule: `expected` and `actual` are printf formats of one value each, or plain words.
  void require(bool holds, const char* param, const char* expected, int64_t actual);
  void require(bool holds, const char* param, const char* expected, const char* actual);

  void range(const char* param, int64_t value, int64_t least, int64_t most);
  void at_least(const char* param, int64_t value, int64_t least);
  void flag(const char* param, int64_t value) { range(param, value, 0, 1); }
  void multiple(const char* param, int64_t value, int64_t of, const char* of_param);
  void finite(const char* param, float value);
  void float_dtype(const char* param, int32_t dtype);
  void head_dim(int32_t head_dim);
  void present(const char* param, const void* pointer);
  // There, and a multiple of `alignment` bytes.
  void aligned(const char* param, const void* pointer, size_t alignment);
  void rope(const SkvRope& rope, int32_t head_dim);
  // Positions [first, first + count) are int32 and, if a table is given, inside it.
  void positions(const char* param, int64_t first, int64_t count, const SkvRope& rope);
  // Rows of `width` elements do not reach into each other.
  void row_stride(const char* param, int64_t stride, int64_t rows, int64_t width);
  // No two elements of a block that is written share memory.
  void distinct_rows(const char* param, const Block& block);
  // The address ranges of two blocks do not meet.
  void apart(const char* param, const char* other, const Block& a, const Block& b);

 private:
  void fail(const char* param, const char* expected, const char* actual);

  Status status_;
  const char* op_;
  const char* outer_list_ = nullptr;
  int64_t outer_i_ = -1;
  const char* list_ = nullptr;
  int64_t i_ = -1;
  int64_t j_ = -1;
};

}  // namespace spindlekv
