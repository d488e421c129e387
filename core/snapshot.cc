// Store::snapshot: everything a store holds as one byte string, so that two states can be compared
// bit for bit.
#include "core/store.h"

namespace spindlekv {
namespace {

void put(std::vector<uint8_t>* out, const void* data, size_t bytes) {
  const uint8_t* first = static_cast<const uint8_t*>(data);
  out->insert(out->end(), first, first + bytes);
}

}  // namespace

Status Store::snapshot(OpRunner& run, std::vector<uint8_t>* out) const {
  out->clear();
  put(out, &config_.rotate_keys, sizeof(config_.rotate_keys));
  put(out, &config_.reindex, sizeof(config_.reindex));
  put(out, &config_.record_queries, sizeof(config_.record_queries));
  put(out, &insert_, sizeof(insert_));
  put(out, &trim_, sizeof(trim_));
  const size_t row = row_bytes();
  const size_t element = dtype_bytes(config_.dtype);
  for (const Layer& layer : layers_) {
    put(out, &layer.next_position, sizeof(layer.next_position));
    put(out, &layer.contiguous_from, sizeof(layer.contiguous_from));
    const int32_t queries[] = {layer.queries.capacity, layer.queries.count,
                               layer.queries.end_position};
    put(out, queries, sizeof(queries));
    for (const HeadSegments& head : layer.heads) {
      for (const Segment& segment : head.segments) {
        const SkvRun stored = run_of(segment, config_.dtype, config_.head_dim, 0);
        const int32_t numbers[] = {stored.codec,       stored.slots,       stored.rotated,
                                   stored.k_codewords, stored.v_codewords, segment.shape.capacity,
                                   segment.begin};
        put(out, numbers, sizeof(numbers));
        const size_t slots = index(stored.slots);
        const bool raw = stored.codec == SKV_CODEC_RAW;
        struct Part {
          const void* data;
          size_t bytes;
        };
        const Part parts[] = {{stored.k, (raw ? slots : index(stored.k_codewords)) * row},
                              {stored.v, (raw ? slots : index(stored.v_codewords)) * row},
                              {stored.k_ref, raw ? 0 : slots * index(stored.ref_bytes)},
                              {stored.v_ref, raw ? 0 : slots * index(stored.ref_bytes)},
                              {stored.k_magnitude, raw ? 0 : slots * element},
                              {stored.v_magnitude, raw ? 0 : slots * element},
                              {stored.positions, slots * sizeof(int32_t)},
                              {stored.mask, stored.mask == nullptr ? 0 : slots * sizeof(uint16_t)},
                              {stored.beta, stored.beta == nullptr ? 0 : slots * sizeof(float)}};
        for (const Part& part : parts) {
          std::vector<uint8_t> bytes;
          SKV_RETURN_IF_ERROR(
              run.download(static_cast<const uint8_t*>(part.data), part.bytes, &bytes));
          put(out, bytes.data(), bytes.size());
        }
      }
    }
  }
  return ok_status();
}

}  // namespace spindlekv
