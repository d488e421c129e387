// A segment: slots of one KV head in one extent, stored by one codec; and where its arrays lie in
// the extent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/dtype.h"
#include "core/page_pool.h"
#include "core/types.h"

namespace spindlekv {

// What a segment's arrays must hold.
struct SegmentShape {
  int32_t codec = SKV_CODEC_RAW;
  int32_t capacity = 0;  // slots
  int32_t k_codewords = 0;
  int32_t v_codewords = 0;
  bool has_mask = false;
  bool has_beta = false;
};

// References are 2 bytes wide while both codebooks can be addressed by them.
constexpr int32_t ref_bytes_for(int32_t k_codewords, int32_t v_codewords) {
  return (k_codewords > 65536 || v_codewords > 65536) ? 4 : 2;
}

// Offsets of the arrays from the extent's first byte, each 16-byte aligned; `bytes` is their end.
// Used bytes by part are kept for reports (array_bytes without alignment gaps).
struct SegmentLayout {
  size_t k = 0, v = 0, k_ref = 0, v_ref = 0, k_magnitude = 0, v_magnitude = 0;
  size_t positions = 0, mask = 0, beta = 0;
  size_t bytes = 0;
};

SegmentLayout layout_of(const SegmentShape& shape, int32_t dtype, int32_t head_dim);

// Segments of a head that follow each other may lie in one extent, apart by slots that were
// dropped.
struct Segment {
  ExtentRef extent;
  SegmentShape shape;
  SegmentLayout layout;
  int32_t slots = 0;    // filled, counted after `begin`
  int32_t begin = 0;    // slots dropped from the front by trimming
  int32_t rotated = 0;  // keys stored after RoPE
  bool open = false;    // takes appends (raw, room left)

  int32_t end() const { return begin + slots; }
};

// The run an op reads: the segment's slots from `begin` on, placed at slot_base of the head.
SkvRun run_of(const Segment& segment, int32_t dtype, int32_t head_dim, int32_t slot_base);

struct HeadSegments {
  std::vector<Segment> segments;  // in slot order
  // Whether segment `index` is the first of its extent.
  bool opens_extent(size_t index) const {
    return index == 0 || segments[index].extent != segments[index - 1].extent;
  }
  int32_t slots() const {
    int32_t total = 0;
    for (const Segment& segment : segments) total += segment.slots;
    return total;
  }
};

// Bytes of a layer or cache by part. total = sum of the parts = bytes of its extents.
struct ByteParts {
  int64_t raw = 0;  // K and V rows
  int64_t codewords = 0;
  int64_t references = 0;
  int64_t magnitudes = 0;
  int64_t positions = 0;
  int64_t masks = 0;
  int64_t betas = 0;
  int64_t slack = 0;  // room for appends, alignment, dropped slots, page rounding
  int64_t total = 0;

  void add(const HeadSegments& head, int32_t dtype, int32_t head_dim);

 private:
  void add_used(const Segment& segment, int32_t dtype, int32_t head_dim);
};

}  // namespace spindlekv
