#include "core/store.h"

#include <algorithm>
#include <utility>

namespace spindlekv {

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

Status Store::rope_for(OpRunner& run, int64_t positions, SkvRope* rope) {
  *rope = SkvRope{};
  if (!config_.has_rope) return ok_status();
  if (rope_view_.cos_sin == nullptr || positions > rope_view_.positions) {
    SKV_RETURN_IF_ERROR(rope_->reach(run, positions, &rope_view_));
  }
  *rope = rope_view_;
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

Status Store::plan_attend(OpRunner& run, Layer& layer, const AttendRequest& request,
                          SkvAttendParams* params) {
  constexpr const char* kAttend = "attend";
  // Queries have consecutive positions: those of tokens appended in a row.
  const int32_t row = layer.next_position - layer.contiguous_from;
  if (request.queries < 0 || request.queries > row) {
    return error_status(SKV_ARGUMENT, kAttend,
                        "expected at most the %d tokens appended in a row for queries, got %d", row,
                        request.queries);
  }
  refresh_tables(layer);
  *params = SkvAttendParams{};
  params->dtype = config_.dtype;
  params->q_dtype = request.q.dtype;
  params->head_dim = config_.head_dim;
  params->kv_heads = config_.kv_heads;
  params->group = config_.group;
  params->queries = request.queries;
  params->q = request.q.data;
  params->out = request.out.data;
  params->q_stride_head = request.q.stride_head;
  params->q_stride_token = request.q.stride_token;
  params->out_stride_head = request.out.stride_head;
  params->out_stride_token = request.out.stride_token;
  params->scale = request.scale;
  params->causal = 1;
  params->query_position = layer.next_position - request.queries;
  params->rope_query_position = params->query_position;
  params->n_runs = static_cast<int32_t>(layer.runs.size());
  params->runs = layer.runs.data();
  params->heads = layer.head_table.data();
  params->score_sum = request.score_sum;
  params->score_stride = request.score_stride;
  params->score_mode = request.score_mode;
  if (request.score_mode != SKV_SCORE_NONE) {
    int32_t most = 0;
    for (const SkvHead& head : layer.head_table) most = std::max(most, head.slots);
    if (request.score_slots < most) {
      return error_status(SKV_ARGUMENT, kAttend,
                          "expected at least %d entries on the last axis for sum, got %lld", most,
                          static_cast<long long>(request.score_slots));
    }
    if (most == 0) params->score_mode = SKV_SCORE_NONE;  // nothing to add to
  }
  SKV_RETURN_IF_ERROR(rope_for(run, layer.next_position, &params->rope));
  if (!config_.reindex) return ok_status();
  const int32_t slots = layer.head_table.front().slots;
  for (const SkvHead& head : layer.head_table) {
    if (head.slots != slots) {
      return error_status(SKV_UNSUPPORTED, kAttend,
                          "expected equally long heads for re-indexed positions, got %d and %d "
                          "slots",
                          slots, head.slots);
    }
  }
  params->reindex = 1;
  params->rope_query_position = slots - request.queries;
  if (params->rope_query_position < 0) {
    return error_status(SKV_UNSUPPORTED, kAttend,
                        "expected no more than the %d kept slots for queries under re-indexed "
                        "positions, got %d",
                        slots, request.queries);
  }
  return ok_status();
}

Status Store::key_stats(OpRunner& run, int32_t layer_index, SkvKeyStatsParams params) {
  SKV_RETURN_IF_ERROR(check_layer("key_stats", layer_index));
  Layer& layer = layer_at(layer_index);
  refresh_tables(layer);
  params.dtype = config_.dtype;
  params.head_dim = config_.head_dim;
  params.kv_heads = config_.kv_heads;
  params.reindex = config_.reindex ? 1 : 0;
  params.n_runs = static_cast<int32_t>(layer.runs.size());
  params.runs = layer.runs.data();
  params.heads = layer.head_table.data();
  // The table is for the cosines alone.
  if (params.cos_to_mean != nullptr) {
    SKV_RETURN_IF_ERROR(rope_for(run, layer.next_position, &params.rope));
  }
  return run.key_stats(params);
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
    parts.add(head, config_.dtype, config_.head_dim);
  }
  return parts;
}

}  // namespace spindlekv
