// Store::snapshot: everything a store holds as one byte string, so that two states can be compared
// bit for bit.
#include "core/store.h"

namespace spindlekv {
namespace {

void put(std::vector<uint8_t>* out, const void* data, size_t bytes) {
  const uint8_t* first = static_cast<const uint8_t*>(data);
  out->insert(out->end(), first, first + bytes);
}

// Whether `next` was appended behind `segment` as a page of the same kind.
bool is_continued(const Segment& segment, const Segment& next) {
  const SegmentShape &a = segment.shape, &b = next.shape;
  return a.codec == SKV_CODEC_RAW && b.codec == SKV_CODEC_RAW && a.has_mask == b.has_mask &&
         a.has_beta == b.has_beta && segment.rotated == next.rotated;
}

}  // namespace

Status Store::put_segments(OpRunner& run, std::span<const Segment> segments,
                           std::vector<uint8_t>* out) const {
  int32_t slots = 0, capacity = 0, begin = 0;
  for (const Segment& segment : segments) {
    slots += segment.slots;
    capacity += segment.shape.capacity;
    begin += segment.begin;
  }
  const SegmentShape& shape = segments.front().shape;
  const int32_t numbers[] = {
      shape.codec, slots, segments.front().rotated, shape.k_codewords, shape.v_codewords,
      capacity,    begin};
  put(out, numbers, sizeof(numbers));
  const bool raw = shape.codec == SKV_CODEC_RAW;
  const size_t row = row_bytes();
  const size_t element = dtype_bytes(config_.dtype);
  struct Part {
    const void* data;
    size_t bytes;
  };
  constexpr int kParts = 9;
  for (int part = 0; part < kParts; ++part) {
    for (const Segment& segment : segments) {
      const SkvRun stored = run_of(segment, config_.dtype, config_.head_dim, 0);
      const size_t count = index(stored.slots);
      const Part parts[kParts] = {
          {stored.k, (raw ? count : index(stored.k_codewords)) * row},
          {stored.v, (raw ? count : index(stored.v_codewords)) * row},
          {stored.k_ref, raw ? 0 : count * index(stored.ref_bytes)},
          {stored.v_ref, raw ? 0 : count * index(stored.ref_bytes)},
          {stored.k_magnitude, raw ? 0 : count * element},
          {stored.v_magnitude, raw ? 0 : count * element},
          {stored.positions, count * sizeof(int32_t)},
          {stored.mask, stored.mask == nullptr ? 0 : count * sizeof(uint16_t)},
          {stored.beta, stored.beta == nullptr ? 0 : count * sizeof(float)}};
      std::vector<uint8_t> bytes;
      SKV_RETURN_IF_ERROR(
          run.download(static_cast<const uint8_t*>(parts[part].data), parts[part].bytes, &bytes));
      put(out, bytes.data(), bytes.size());
    }
  }
  return ok_status();
}

Status Store::snapshot(OpRunner& run, std::vector<uint8_t>* out) const {
  out->clear();
  put(out, &config_.rotate_keys, sizeof(config_.rotate_keys));
  put(out, &config_.reindex, sizeof(config_.reindex));
  put(out, &config_.record_queries, sizeof(config_.record_queries));
  put(out, &insert_, sizeof(insert_));
  put(out, &trim_, sizeof(trim_));
  for (const Layer& layer : layers_) {
    put(out, &layer.next_position, sizeof(layer.next_position));
    put(out, &layer.contiguous_from, sizeof(layer.contiguous_from));
    const int32_t queries[] = {layer.queries.capacity, layer.queries.count,
                               layer.queries.end_position};
    put(out, queries, sizeof(queries));
    for (const HeadSegments& head : layer.heads) {
      const std::vector<Segment>& segments = head.segments;
      for (size_t s = 0, end = 0; s < segments.size(); s = end) {
        for (end = s + 1; end < segments.size() && is_continued(segments[s], segments[end]);) ++end;
        SKV_RETURN_IF_ERROR(put_segments(run, std::span(segments).subspan(s, end - s), out));
      }
    }
  }
  return ok_status();
}

}  // namespace spindlekv
