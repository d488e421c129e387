// Adding tokens to a layer in parts that can be taken back, so that a step over many layers and
// caches (core/step.h) changes all of them or none.
#include <algorithm>
#include <utility>

#include "core/store.h"

namespace spindlekv {
namespace {

constexpr const char* kAppend = "append";

// The part of a slab that a segment which fills at once may take: larger ones leave gaps.
constexpr size_t kSegmentsPerSlab = 8;

}  // namespace

Status Store::check_append(const Layer& layer, const RowView& k, const RowView& v,
                           int32_t tokens) const {
  if (tokens < 0) {
    return error_status(SKV_ARGUMENT, kAppend, "expected 0 or more for tokens, got %d", tokens);
  }
  if (k.dtype != v.dtype) {
    return error_status(SKV_ARGUMENT, kAppend, "expected the dtype of keys (%d) for values, got %d",
                        k.dtype, v.dtype);
  }
  if (tokens > INT32_MAX - layer.next_position) {
    return error_status(SKV_ARGUMENT, kAppend,
                        "expected positions below 2^31 for tokens, got %d after position %d",
                        tokens, layer.next_position);
  }
  return ok_status();
}

Status Store::skip(int32_t layer_index, int32_t tokens) {
  SKV_RETURN_IF_ERROR(check_layer("skip", layer_index));
  Layer& layer = layer_at(layer_index);
  if (tokens < 0 || tokens > INT32_MAX - layer.next_position) {
    return error_status(SKV_ARGUMENT, "skip",
                        "expected positions below 2^31 for tokens, got %d after position %d",
                        tokens, layer.next_position);
  }
  if (tokens == 0) return ok_status();
  layer.next_position += tokens;
  layer.contiguous_from = layer.next_position;
  return ok_status();
}

Status Store::start_append(OpRunner& run, Layer& layer, const RowView& k, const RowView& v,
                           int32_t tokens, std::vector<SkvAppendItem>* items) {
  layer.undo.next_position = layer.next_position;
  if (tokens == 0) return ok_status();
  if (trim_.recent >= 0) {
    // Room is made for what comes, before it comes (StreamingLLM's evict_for_space): the queries of
    // a chunk longer than `recent` still see their own chunk.
    const TrimPolicy room{trim_.sinks, std::max(0, trim_.recent - tokens)};
    const bool has_surplus = std::any_of(
        layer.heads.begin(), layer.heads.end(),
        [&](const HeadSegments& head) { return head.slots() > room.sinks + room.recent; });
    if (has_surplus) {
      std::vector<HeadSegments> kept(layer.heads.size());
      for (size_t h = 0; h < kept.size(); ++h) {
        SKV_RETURN_IF_ERROR(trimmed(run, layer.heads[h], room, &kept[h]));
      }
      layer.undo.before_trim = std::exchange(layer.heads, std::move(kept));
      layer.tables_stale = true;
    }
  }
  return grow(run, layer, k, v, tokens, items);
}

// Pages that fill at once are one segment: attention reads long runs, and plans few of them. Not
// where slots leave from the front, for only whole segments go back to the pool.
int32_t Store::pages_at_once() const {
  if (trim_.recent >= 0 || insert_.interval > 0) return 1;
  const SegmentShape page{SKV_CODEC_RAW, config_.page_slots};
  const size_t bytes = layout_of(page, config_.dtype, config_.head_dim).bytes;
  const size_t pages = pool_->slab_bytes() / kSegmentsPerSlab / bytes;
  return static_cast<int32_t>(std::clamp<size_t>(pages, 1, index(INT32_MAX / config_.page_slots)));
}

Status Store::grow(OpRunner& run, Layer& layer, const RowView& k, const RowView& v, int32_t tokens,
                   std::vector<SkvAppendItem>* items) {
  // What is to be taken back holds the pages too.
  const int32_t own_references = layer.undo.before_trim.empty() ? 1 : 2;
  const size_t source_element = dtype_bytes(k.dtype);
  for (int32_t h = 0; h < config_.kv_heads; ++h) {
    HeadSegments& head = layer.heads[index(h)];
    Growth& growth = layer.undo.growths.emplace_back();
    growth.segments = head.segments.size();
    int32_t done = 0;
    const auto fill = [&](Segment& segment) {
      SkvAppendItem item{};
      const auto source = [&](const RowView& rows) {
        return static_cast<const std::byte*>(rows.data) +
               static_cast<size_t>(h * rows.stride_head + done * rows.stride_token) *
                   source_element;
      };
      item.k = source(k);
      item.v = source(v);
      item.k_stride_token = k.stride_token;
      item.v_stride_token = v.stride_token;
      item.tokens = std::min(segment.shape.capacity - segment.end(), tokens - done);
      item.first_position = layer.next_position + done;
      item.dst = run_of(segment, config_.dtype, config_.head_dim, 0);
      item.dst_slot = segment.slots;
      items->push_back(item);
      segment.slots += item.tokens;
      done += item.tokens;
    };
    if (!head.segments.empty()) {
      Segment& tail = head.segments.back();
      growth.tail_slots = tail.slots;
      const bool has_room = tail.open && tail.end() < tail.shape.capacity &&
                            tail.rotated == static_cast<int32_t>(config_.rotate_keys);
      const bool is_shared = has_room && tail.extent.use_count() > own_references;
      // A page that a fork shares is left alone once half of it is filled: it stays one run for all
      // its sharers, which attend_batch reads once. A shorter one is copied, so that forks of forks
      // do not leave a page behind for every few tokens.
      if (is_shared && 2 * tail.end() < tail.shape.capacity) {
        Segment copy;
        SKV_RETURN_IF_ERROR(copy_segment(run, tail, &copy));
        growth.tail = std::exchange(tail, std::move(copy));
        layer.tables_stale = true;
        fill(tail);
      } else if (has_room && !is_shared) {
        fill(tail);
        if (!layer.tables_stale) {
          SkvHead& entry = layer.head_table[index(h)];
          entry.slots += done;
          layer.runs[index(entry.first_run + entry.n_runs - 1)].slots += done;
        }
      }
    }
    while (done < tokens) {
      Segment page;
      page.rotated = config_.rotate_keys ? 1 : 0;
      page.open = true;
      const int32_t pages = std::clamp((tokens - done) / config_.page_slots, 1, pages_at_once());
      SKV_RETURN_IF_ERROR(
          new_segment(SegmentShape{SKV_CODEC_RAW, pages * config_.page_slots}, &page));
      layer.tables_stale = true;
      head.segments.push_back(std::move(page));
      fill(head.segments.back());
    }
  }
  layer.next_position += tokens;
  return ok_status();
}

Status Store::finish_append(OpRunner& run, int32_t layer_index) {
  if (insert_.interval == 0) return ok_status();
  Layer& layer = layer_at(layer_index);
  if (layer.undo.growths.empty()) return ok_status();  // nothing was appended
  const HeadSegments& first = layer.heads.front();
  int32_t raw_tail = 0;
  for (size_t s = first.segments.size(); s-- > 0;) {
    if (first.segments[s].shape.codec != SKV_CODEC_RAW) break;
    raw_tail += first.segments[s].slots;
  }
  const int32_t behind = raw_tail - insert_.recent;
  if (behind < insert_.interval) return ok_status();
  layer.undo.before_insert = layer.heads;
  return insert(run, layer_index, behind, insert_);
}

void Store::undo_append(Layer& layer) {
  Undo& undo = layer.undo;
  if (!undo.before_insert.empty()) layer.heads.swap(undo.before_insert);
  for (size_t h = 0; h < undo.growths.size(); ++h) {
    Growth& growth = undo.growths[h];
    std::vector<Segment>& segments = layer.heads[h].segments;
    segments.erase(segments.begin() + static_cast<std::ptrdiff_t>(growth.segments), segments.end());
    if (growth.tail.extent != nullptr) segments.back() = std::move(growth.tail);
    if (!segments.empty()) segments.back().slots = growth.tail_slots;
  }
  if (!undo.before_trim.empty()) layer.heads.swap(undo.before_trim);
  layer.next_position = undo.next_position;
  layer.tables_stale = true;
  settle_append(layer);
}

void Store::settle_append(Layer& layer) {
  layer.undo.growths.clear();
  layer.undo.before_trim.clear();
  layer.undo.before_insert.clear();
}

}  // namespace spindlekv
