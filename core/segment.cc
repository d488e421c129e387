#include "core/segment.h"

namespace spindlekv {
namespace {

// Reserves `bytes` at the next 16-byte boundary of the layout.
size_t place(SegmentLayout& layout, size_t bytes) {
  const size_t offset = (layout.bytes + 15) / 16 * 16;
  layout.bytes = offset + bytes;
  return offset;
}

template <typename T>
T* at(const Segment& segment, size_t offset, size_t byte_step) {
  std::byte* first = segment.extent ? segment.extent->data() + offset : nullptr;
  if (first == nullptr) return nullptr;
  return reinterpret_cast<T*>(first + static_cast<size_t>(segment.begin) * byte_step);
}

}  // namespace

SegmentLayout layout_of(const SegmentShape& shape, int32_t dtype, int32_t head_dim) {
  const size_t element = dtype_bytes(dtype);
  const size_t row = element * static_cast<size_t>(head_dim);
  const size_t slots = static_cast<size_t>(shape.capacity);
  SegmentLayout layout;
  if (shape.codec == SKV_CODEC_RAW) {
    layout.k = place(layout, slots * row);
    layout.v = place(layout, slots * row);
  } else {
    const size_t ref = static_cast<size_t>(ref_bytes_for(shape.k_codewords, shape.v_codewords));
    layout.k = place(layout, static_cast<size_t>(shape.k_codewords) * row);
    layout.v = place(layout, static_cast<size_t>(shape.v_codewords) * row);
    layout.k_ref = place(layout, slots * ref);
    layout.v_ref = place(layout, slots * ref);
    layout.k_magnitude = place(layout, slots * element);
    layout.v_magnitude = place(layout, slots * element);
  }
  layout.positions = place(layout, slots * sizeof(int32_t));
  if (shape.has_mask) layout.mask = place(layout, slots * sizeof(uint16_t));
  if (shape.has_beta) layout.beta = place(layout, slots * sizeof(float));
  return layout;
}

SkvRun run_of(const Segment& segment, int32_t dtype, int32_t head_dim, int32_t slot_base) {
  const size_t element = dtype_bytes(dtype);
  const size_t row = element * static_cast<size_t>(head_dim);
  const SegmentShape& shape = segment.shape;
  const SegmentLayout& layout = segment.layout;
  SkvRun run{};
  run.codec = shape.codec;
  run.slots = segment.slots;
  run.slot_base = slot_base;
  run.rotated = segment.rotated;
  if (shape.codec == SKV_CODEC_RAW) {
    run.k = at<void>(segment, layout.k, row);
    run.v = at<void>(segment, layout.v, row);
  } else {
    const size_t ref = static_cast<size_t>(ref_bytes_for(shape.k_codewords, shape.v_codewords));
    run.k = at<void>(segment, layout.k, 0);
    run.v = at<void>(segment, layout.v, 0);
    run.k_codewords = shape.k_codewords;
    run.v_codewords = shape.v_codewords;
    run.ref_bytes = static_cast<int32_t>(ref);
    run.k_ref = at<void>(segment, layout.k_ref, ref);
    run.v_ref = at<void>(segment, layout.v_ref, ref);
    run.k_magnitude = at<void>(segment, layout.k_magnitude, element);
    run.v_magnitude = at<void>(segment, layout.v_magnitude, element);
  }
  run.positions = at<int32_t>(segment, layout.positions, sizeof(int32_t));
  if (shape.has_mask) run.mask = at<uint16_t>(segment, layout.mask, sizeof(uint16_t));
  if (shape.has_beta) run.beta = at<float>(segment, layout.beta, sizeof(float));
  return run;
}

void ByteParts::add_used(const Segment& segment, int32_t dtype, int32_t head_dim) {
  const int64_t element = static_cast<int64_t>(dtype_bytes(dtype));
  const int64_t row = element * head_dim;
  const SegmentShape& shape = segment.shape;
  const int64_t slots = segment.slots;
  const auto count = [this](int64_t& part, int64_t bytes) {
    part += bytes;
    slack -= bytes;
  };
  if (shape.codec == SKV_CODEC_RAW) {
    count(raw, slots * 2 * row);
  } else {
    const int64_t ref = ref_bytes_for(shape.k_codewords, shape.v_codewords);
    count(codewords, (static_cast<int64_t>(shape.k_codewords) + shape.v_codewords) * row);
    count(references, slots * 2 * ref);
    count(magnitudes, slots * 2 * element);
  }
  count(positions, slots * static_cast<int64_t>(sizeof(int32_t)));
  if (shape.has_mask) count(masks, slots * static_cast<int64_t>(sizeof(uint16_t)));
  if (shape.has_beta) count(betas, slots * static_cast<int64_t>(sizeof(float)));
}

void ByteParts::add(const HeadSegments& head, int32_t dtype, int32_t head_dim) {
  for (size_t s = 0; s < head.segments.size(); ++s) {
    const Segment& segment = head.segments[s];
    if (!segment.extent) continue;
    if (head.opens_extent(s)) {
      const int64_t held = static_cast<int64_t>(segment.extent->bytes());
      slack += held;
      total += held;
    }
    add_used(segment, dtype, head_dim);
  }
}

}  // namespace spindlekv
