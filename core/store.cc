#include "core/store.h"

#include <algorithm>

namespace spindlekv {
namespace {

constexpr const char* kAppend = "append";
constexpr const char* kAttend = "attend";

}  // namespace

Status SharedRopeTable::reach(OpRunner& run, int64_t positions, SkvRope* rope) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (positions > positions_) {
    // Doubling keeps the number of rebuilds logarithmic in the context length.
    const int64_t rows = std::max<int64_t>({positions, 2 * positions_, 512});
    std::vector<float> angles;
    SKV_RETURN_IF_ERROR(make_rope_table(spec_, static_cast<int32_t>(rows), &angles));
    MemoryBlock table;
    SKV_RETURN_IF_ERROR(run.allocate(angles.size() * sizeof(float), &table));
    SKV_RETURN_IF_ERROR(run.upload(static_cast<float*>(table.data()), angles));
    SKV_RETURN_IF_ERROR(run.synchronize());  // `angles` goes when this block ends
    tables_.push_back(std::move(table));
    positions_ = rows;
  }
  *rope = SkvRope{static_cast<const float*>(tables_.back().data()),
                  static_cast<int32_t>(positions_), spec_.n_rot, spec_.style, 0};
  return ok_status();
}

Store::Store(const StoreConfig& config, std::shared_ptr<PagePool> pool,
             std::shared_ptr<SharedRopeTable> rope)
    : config_(config),
      pool_(std::move(pool)),
      rope_(std::move(rope)),
      layers_(index(config.layers)) {
  for (Layer& layer : layers_) layer.heads.resize(index(config.kv_heads));
}

Status Store::check_layer(const char* op, int32_t layer) const {
  if (layer >= 0 && layer < config_.layers) return ok_status();
  return error_status(SKV_ARGUMENT, op, "expected a layer in [0, %d) for layer, got %d",
                      config_.layers, layer);
}

const HeadSegments& Store::head(int32_t layer, int32_t kv_head) const {
  return layers_[index(layer)].heads[index(kv_head)];
}

Status Store::new_segment(const SegmentShape& shape, Segment* segment) const {
  segment->shape = shape;
  segment->layout = layout_of(shape, config_.dtype, config_.head_dim);
  segment->slots = 0;
  segment->begin = 0;
  return pool_->allocate(segment->layout.bytes, &segment->extent);
}

Status Store::copy_segment(OpRunner& run, const Segment& source, Segment* copy) const {
  *copy = source;
  SKV_RETURN_IF_ERROR(pool_->allocate(source.layout.bytes, &copy->extent));
  return run.copy(copy->extent->data(), source.extent->data(), source.layout.bytes,
                  SKV_COPY_ON_DEVICE);
}

Status Store::rope_for(OpRunner& run, const Layer& layer, SkvRope* rope) const {
  *rope = SkvRope{};
  if (!config_.has_rope) return ok_status();
  return rope_->reach(run, layer.next_position, rope);
}

Status Store::append(OpRunner& run, int32_t layer_index, const RowView& k, const RowView& v,
                     int32_t tokens) {
  SKV_RETURN_IF_ERROR(check_layer(kAppend, layer_index));
  if (tokens < 0) {
    return error_status(SKV_ARGUMENT, kAppend, "expected 0 or more for tokens, got %d", tokens);
  }
  if (k.dtype != v.dtype) {
    return error_status(SKV_ARGUMENT, kAppend, "expected the dtype of keys (%d) for values, got %d",
                        k.dtype, v.dtype);
  }
  Layer& layer = layer_at(layer_index);
  if (tokens > INT32_MAX - layer.next_position) {
    return error_status(SKV_ARGUMENT, kAppend,
                        "expected positions below 2^31 for tokens, got %d after position %d",
                        tokens, layer.next_position);
  }
  if (tokens == 0) return ok_status();
  if (insert_.interval == 0 && trim_.recent < 0) return append_rows(run, layer, k, v, tokens, 2);

  // Policies rewrite segments around the append: whatever fails, all of it is undone.
  std::vector<HeadSegments> before = layer.heads;
  const int32_t position_before = layer.next_position;
  const Status status = append_with_policies(run, layer_index, k, v, tokens);
  if (!is_ok(status)) {
    layer.heads.swap(before);
    layer.next_position = position_before;
    layer.tables_stale = true;
  }
  return status;
}

Status Store::append_with_policies(OpRunner& run, int32_t layer_index, const RowView& k,
                                   const RowView& v, int32_t tokens) {
  Layer& layer = layer_at(layer_index);
  if (trim_.recent >= 0) {
    // Room is made for what comes, before it comes (StreamingLLM's evict_for_space): the queries of
    // a chunk longer than `recent` still see their own chunk.
    const TrimPolicy room{trim_.sinks, std::max(0, trim_.recent - tokens)};
    SKV_RETURN_IF_ERROR(trim(run, layer_index, room));
  }
  // One owner more than without policies: the copy that append goes back to when something fails.
  SKV_RETURN_IF_ERROR(append_rows(run, layer, k, v, tokens, 3));
  if (insert_.interval == 0) return ok_status();
  const HeadSegments& first = layer.heads.front();
  int32_t raw_tail = 0;
  for (size_t s = first.segments.size(); s-- > 0;) {
    if (first.segments[s].shape.codec != SKV_CODEC_RAW) break;
    raw_tail += first.segments[s].slots;
  }
  const int32_t behind = raw_tail - insert_.recent;
  if (behind < insert_.interval) return ok_status();
  return insert(run, layer_index, behind, insert_);
}

Status Store::append_rows(OpRunner& run, Layer& layer, const RowView& k, const RowView& v,
                          int32_t tokens, int32_t own_references) {
  // Everything is allocated and computed aside; the segments change only at the end.
  struct Growth {
    bool replace_tail = false;
    Segment tail;  // the open segment after filling
    int32_t tail_fill = 0;
    std::vector<Segment> pages;
  };
  std::vector<Growth> growths(index(config_.kv_heads));
  std::vector<SkvAppendItem> items;
  const size_t source_element = dtype_bytes(k.dtype);
  for (int32_t h = 0; h < config_.kv_heads; ++h) {
    HeadSegments& head = layer.heads[index(h)];
    Growth& growth = growths[index(h)];
    int32_t done = 0;
    const auto add_item = [&](const Segment& segment, int32_t slot, int32_t count) {
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
      item.tokens = count;
      item.first_position = layer.next_position + done;
      item.dst = run_of(segment, config_.dtype, config_.head_dim, 0);
      item.dst_slot = slot;
      items.push_back(item);
      done += count;
    };
    if (!head.segments.empty()) {
      const Segment& last = head.segments.back();
      const int32_t room = last.shape.capacity - last.end();
      if (last.open && room > 0 && last.rotated == static_cast<int32_t>(config_.rotate_keys)) {
        growth.tail = last;
        if (last.extent.use_count() > own_references) {  // more means that a fork shares the page
          SKV_RETURN_IF_ERROR(copy_segment(run, last, &growth.tail));
        }
        growth.replace_tail = true;
        growth.tail_fill = std::min(room, tokens);
        add_item(growth.tail, growth.tail.slots, growth.tail_fill);
      }
    }
    while (done < tokens) {
      Segment page;
      page.rotated = config_.rotate_keys ? 1 : 0;
      page.open = true;
      SKV_RETURN_IF_ERROR(new_segment(SegmentShape{SKV_CODEC_RAW, config_.page_slots}, &page));
      page.slots = std::min(config_.page_slots, tokens - done);
      add_item(page, 0, page.slots);
      growth.pages.push_back(std::move(page));
    }
    head.segments.reserve(head.segments.size() + growth.pages.size());
  }

  SkvAppendKvParams params{};
  params.dtype = config_.dtype;
  params.src_dtype = k.dtype;
  params.head_dim = config_.head_dim;
  params.n_items = static_cast<int32_t>(items.size());
  params.items = items.data();
  params.rotate = config_.rotate_keys ? 1 : 0;
  if (config_.rotate_keys) {
    SKV_RETURN_IF_ERROR(
        rope_->reach(run, static_cast<int64_t>(layer.next_position) + tokens, &params.rope));
  }
  SKV_RETURN_IF_ERROR(run.append_kv(params));

  for (int32_t h = 0; h < config_.kv_heads; ++h) {
    HeadSegments& head = layer.heads[index(h)];
    Growth& growth = growths[index(h)];
    if (growth.replace_tail) {
      growth.tail.slots += growth.tail_fill;
      if (growth.tail.extent != head.segments.back().extent || !growth.pages.empty()) {
        layer.tables_stale = true;
      } else if (!layer.tables_stale) {
        SkvHead& entry = layer.head_table[index(h)];
        entry.slots += growth.tail_fill;
        layer.runs[index(entry.first_run + entry.n_runs - 1)].slots += growth.tail_fill;
      }
      head.segments.back() = growth.tail;
    }
    if (!growth.pages.empty()) layer.tables_stale = true;
    for (Segment& page : growth.pages) head.segments.push_back(std::move(page));
  }
  layer.next_position += tokens;
  return ok_status();
}

void Store::refresh_tables(Layer& layer) const {
  if (!layer.tables_stale) return;
  layer.runs.clear();
  layer.head_table.clear();
  for (const HeadSegments& head : layer.heads) {
    SkvHead entry{static_cast<int32_t>(layer.runs.size()), 0, 0, 0};
    for (const Segment& segment : head.segments) {
      if (segment.slots == 0) continue;
      layer.runs.push_back(run_of(segment, config_.dtype, config_.head_dim, entry.slots));
      entry.slots += segment.slots;
      ++entry.n_runs;
    }
    layer.head_table.push_back(entry);
  }
  layer.tables_stale = false;
}

Status Store::attend(OpRunner& run, int32_t layer_index, const AttendRequest& request) {
  SKV_RETURN_IF_ERROR(check_layer(kAttend, layer_index));
  Layer& layer = layer_at(layer_index);
  if (request.queries < 0 || request.queries > layer.next_position) {
    return error_status(SKV_ARGUMENT, kAttend,
                        "expected at most the %d appended tokens for queries, got %d",
                        layer.next_position, request.queries);
  }
  refresh_tables(layer);
  SkvAttendParams params{};
  params.dtype = config_.dtype;
  params.q_dtype = request.q.dtype;
  params.head_dim = config_.head_dim;
  params.kv_heads = config_.kv_heads;
  params.group = config_.group;
  params.queries = request.queries;
  params.q = request.q.data;
  params.out = request.out.data;
  params.q_stride_head = request.q.stride_head;
  params.q_stride_token = request.q.stride_token;
  params.out_stride_head = request.out.stride_head;
  params.out_stride_token = request.out.stride_token;
  params.scale = request.scale;
  params.causal = 1;
  params.query_position = layer.next_position - request.queries;
  params.rope_query_position = params.query_position;
  params.n_runs = static_cast<int32_t>(layer.runs.size());
  params.runs = layer.runs.data();
  params.heads = layer.head_table.data();
  params.score_sum = request.score_sum;
  params.score_stride = request.score_stride;
  params.score_mode = request.score_mode;
  SKV_RETURN_IF_ERROR(rope_for(run, layer, &params.rope));
  if (config_.reindex) {
    const int32_t slots = layer.head_table.front().slots;
    for (const SkvHead& head : layer.head_table) {
      if (head.slots != slots) {
        return error_status(SKV_UNSUPPORTED, kAttend,
                            "expected equally long heads for re-indexed positions, got %d and %d "
                            "slots",
                            slots, head.slots);
      }
    }
    params.reindex = 1;
    params.rope_query_position = slots - request.queries;
    if (params.rope_query_position < 0) {
      return error_status(SKV_UNSUPPORTED, kAttend,
                          "expected no more than the %d kept slots for queries under re-indexed "
                          "positions, got %d",
                          slots, request.queries);
    }
  }
  SKV_RETURN_IF_ERROR(run.attend(params));
  return record(run, layer, request.q, request.queries);
}

void drop_front(HeadSegments* head, size_t first_segment, int32_t count) {
  for (size_t s = first_segment; s < head->segments.size() && count > 0; ++s) {
    Segment& segment = head->segments[s];
    const int32_t dropped = std::min(segment.slots, count);
    segment.begin += dropped;
    segment.slots -= dropped;
    count -= dropped;
  }
  std::erase_if(head->segments, [](const Segment& segment) { return segment.slots == 0; });
}

Status Store::trimmed(OpRunner& run, const HeadSegments& head, const TrimPolicy& policy,
                      HeadSegments* result) const {
  *result = head;
  const int32_t surplus = head.slots() - policy.sinks - policy.recent;
  if (surplus <= 0) return ok_status();
  if (policy.sinks == 0) {
    drop_front(result, 0, surplus);
    return ok_status();
  }
  // Sinks get a segment of their own once; from then on it is the first one and stays whole.
  if (head.segments.front().slots != policy.sinks) {
    std::vector<int32_t> positions(index(policy.sinks));
    for (int32_t i = 0; i < policy.sinks; ++i) positions[index(i)] = i;
    MemoryBlock indices;
    SKV_RETURN_IF_ERROR(run.allocate(positions.size() * sizeof(int32_t), &indices));
    SKV_RETURN_IF_ERROR(run.upload(static_cast<int32_t*>(indices.data()), positions));
    Segment sinks;
    sinks.rotated = head.segments.front().rotated;
    SKV_RETURN_IF_ERROR(new_segment(SegmentShape{SKV_CODEC_RAW, policy.sinks}, &sinks));
    std::vector<SkvCompactItem> items;
    int32_t copied = 0;
    for (const Segment& segment : head.segments) {
      if (copied == policy.sinks) break;
      if (segment.shape.codec != SKV_CODEC_RAW || segment.rotated != sinks.rotated) {
        return error_status(SKV_UNSUPPORTED, "trim",
                            "expected raw slots stored alike for the first %d slots, got another "
                            "codec or key storage",
                            policy.sinks);
      }
      SkvCompactItem item{};
      item.src = run_of(segment, config_.dtype, config_.head_dim, 0);
      item.dst = run_of(sinks, config_.dtype, config_.head_dim, 0);
      item.indices = static_cast<const int32_t*>(indices.data());
      item.count = std::min(segment.slots, policy.sinks - copied);
      item.dst_slot = copied;
      copied += item.count;
      items.push_back(item);
    }
    SkvCompactParams params{config_.dtype, config_.head_dim, static_cast<int32_t>(items.size()), 0,
                            items.data()};
    SKV_RETURN_IF_ERROR(run.compact(params));
    SKV_RETURN_IF_ERROR(run.synchronize());  // `indices` goes when this block ends
    sinks.slots = policy.sinks;
    drop_front(result, 0, policy.sinks);
    result->segments.insert(result->segments.begin(), sinks);
  }
  drop_front(result, 1, surplus);
  return ok_status();
}

Status Store::trim(OpRunner& run, int32_t layer_index, const TrimPolicy& policy) {
  SKV_RETURN_IF_ERROR(check_layer("trim", layer_index));
  Layer& layer = layer_at(layer_index);
  std::vector<HeadSegments> heads(layer.heads.size());
  for (size_t h = 0; h < heads.size(); ++h) {
    SKV_RETURN_IF_ERROR(trimmed(run, layer.heads[h], policy, &heads[h]));
  }
  layer.heads = std::move(heads);
  layer.tables_stale = true;
  return ok_status();
}

std::shared_ptr<Store> Store::fork() const {
  auto copy = std::make_shared<Store>(*this);
  for (Layer& layer : copy->layers_) layer.tables_stale = true;
  return copy;
}

void Store::set_policies(const InsertPolicy& insert, const TrimPolicy& trim) {
  insert_ = insert;
  trim_ = trim;
}

void Store::set_key_storage(bool rotate_keys, bool reindex) {
  config_.rotate_keys = rotate_keys;
  config_.reindex = reindex;
}

ByteParts Store::bytes(int32_t layer) const {
  ByteParts parts;
  for (const HeadSegments& head : layers_[index(layer)].heads) {
    for (const Segment& segment : head.segments)
      parts.add(segment, config_.dtype, config_.head_dim);
  }
  return parts;
}

}  // namespace spindlekv
