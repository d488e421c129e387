// Raw slots of a head as one matrix: needed where ops take plain rows (codebooks).
#include <numeric>

#include "core/store.h"

namespace spindlekv {

Status Store::gather_raw(OpRunner& run, const HeadSegments& head, int32_t first_segment,
                         SkvRun* run_out, MemoryBlock* block) const {
  std::vector<const Segment*> sources;
  int32_t slots = 0;
  int32_t longest = 0;
  for (size_t s = index(first_segment); s < head.segments.size(); ++s) {
    const Segment& segment = head.segments[s];
    if (segment.slots == 0) continue;
    if (segment.shape.codec != SKV_CODEC_RAW || segment.rotated != 0) {
      return error_status(SKV_UNSUPPORTED, "gather_raw",
                          "expected raw slots with keys before RoPE, got %s",
                          segment.rotated != 0 ? "keys after RoPE" : "encoded slots");
    }
    sources.push_back(&segment);
    slots += segment.slots;
    longest = segment.slots > longest ? segment.slots : longest;
  }
  if (sources.size() == 1) {  // contiguous already: no copy
    *run_out = run_of(*sources.front(), config_.dtype, config_.head_dim, 0);
    return ok_status();
  }
  const SegmentLayout layout =
      layout_of(SegmentShape{SKV_CODEC_RAW, slots}, config_.dtype, config_.head_dim);
  const size_t indices_at = (layout.bytes + 255) / 256 * 256;
  SKV_RETURN_IF_ERROR(run.allocate(indices_at + index(longest) * sizeof(int32_t), block));
  std::byte* first = static_cast<std::byte*>(block->data());
  SkvRun all{};
  all.codec = SKV_CODEC_RAW;
  all.slots = slots;
  all.k = first + layout.k;
  all.v = first + layout.v;
  all.positions = reinterpret_cast<int32_t*>(first + layout.positions);
  *run_out = all;
  if (slots == 0) return ok_status();

  std::vector<int32_t> each(index(longest));
  std::iota(each.begin(), each.end(), 0);
  int32_t* indices = reinterpret_cast<int32_t*>(first + indices_at);
  SKV_RETURN_IF_ERROR(run.upload(indices, each));
  std::vector<SkvCompactItem> items;
  int32_t base = 0;
  for (const Segment* segment : sources) {
    SkvCompactItem item{};
    item.src = run_of(*segment, config_.dtype, config_.head_dim, 0);
    item.dst = all;
    item.indices = indices;
    item.count = segment->slots;
    item.dst_slot = base;
    base += segment->slots;
    items.push_back(item);
  }
  const SkvCompactParams params{config_.dtype, config_.head_dim, static_cast<int32_t>(items.size()),
                                0, items.data()};
  return run.compact(params);
}

}  // namespace spindlekv
