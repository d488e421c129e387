// The queries that a store records for its scorers, and the scores made from them.
#include <algorithm>

#include "core/store.h"

namespace spindlekv {

Status Store::plan_record(OpRunner& run, const Layer& layer, const RowView& q, int32_t queries,
                          RecordPlan* plan) const {
  *plan = RecordPlan{};
  const QueryLog& old = layer.queries;
  const int32_t window = config_.record_queries;
  if (window == 0 || queries == 0 || (old.is_paused && queries < 2)) return ok_status();
  const bool goes_on = old.capacity == window && old.dtype == q.dtype &&
                       old.end_position == layer.next_position - queries;
  const int32_t capacity = 2 * window;
  plan->taken = std::min(queries, window);
  plan->kept = goes_on ? std::min(old.count, window - plan->taken) : 0;
  const bool needs_rows = !goes_on || !old.rows || old.rows.use_count() > 1;
  plan->moves = needs_rows || old.first + old.count + plan->taken > capacity;
  plan->source = old.rows;
  plan->source_first = old.first + old.count - plan->kept;
  QueryLog& log = plan->log;
  log.rows = old.rows;
  if (needs_rows) {
    const size_t heads = index(config_.kv_heads) * index(config_.group);
    const size_t row = dtype_bytes(q.dtype) * index(config_.head_dim);
    log.rows = std::make_shared<MemoryBlock>();
    SKV_RETURN_IF_ERROR(run.allocate(heads * index(capacity) * row, log.rows.get()));
  }
  log.first = plan->moves ? 0 : plan->source_first;
  log.count = plan->kept + plan->taken;
  log.capacity = window;
  log.dtype = q.dtype;
  log.end_position = layer.next_position;
  return ok_status();
}

Status Store::write_record(OpRunner& run, Layer& layer, const RowView& q, int32_t queries,
                           RecordPlan* plan) const {
  QueryLog& log = plan->log;
  if (log.capacity == 0) return ok_status();
  const int32_t heads = config_.kv_heads * config_.group;
  const size_t element = dtype_bytes(q.dtype);
  const size_t row = element * index(config_.head_dim);
  const auto rows_of = [&](const std::shared_ptr<MemoryBlock>& block, int32_t head,
                           int32_t at_row) {
    return static_cast<std::byte*>(block->data()) +
           (index(head) * 2 * index(log.capacity) + index(at_row)) * row;
  };
  for (int32_t h = 0; h < heads; ++h) {
    if (plan->moves && plan->kept > 0) {
      // Regions of one buffer do not overlap: kept <= capacity rows move from the upper half to
      // row 0, unless they already start low, and then `moves` is false.
      SKV_RETURN_IF_ERROR(run.copy(rows_of(log.rows, h, 0),
                                   rows_of(plan->source, h, plan->source_first),
                                   index(plan->kept) * row, SKV_COPY_ON_DEVICE));
    }
    const std::byte* from =
        static_cast<const std::byte*>(q.data) +
        static_cast<size_t>(h * q.stride_head + (queries - plan->taken) * q.stride_token) * element;
    std::byte* to = rows_of(log.rows, h, log.first + plan->kept);
    if (q.stride_token == config_.head_dim) {
      SKV_RETURN_IF_ERROR(run.copy(to, from, index(plan->taken) * row, SKV_COPY_ON_DEVICE));
      continue;
    }
    for (int32_t t = 0; t < plan->taken; ++t) {
      SKV_RETURN_IF_ERROR(run.copy(to + index(t) * row,
                                   from + static_cast<size_t>(t * q.stride_token) * element, row,
                                   SKV_COPY_ON_DEVICE));
    }
  }
  layer.queries = std::move(log);
  return ok_status();
}

Status Store::check_recorded(const char* op, const Layer& layer, int32_t count) {
  const QueryLog& log = layer.queries;
  if (count >= 1 && count <= log.count && log.end_position == layer.next_position) {
    return ok_status();
  }
  return error_status(SKV_MISSING_INPUT, op,
                      "expected the queries of the last %d tokens, got %d recorded up to position "
                      "%d of %d",
                      count, log.count, log.end_position, layer.next_position);
}

Status Store::read_queries(OpRunner& run, int32_t layer_index, int32_t query_head, int32_t count,
                           int32_t* dtype, std::vector<uint8_t>* rows) const {
  const Layer& layer = layers_[index(layer_index)];
  SKV_RETURN_IF_ERROR(check_recorded("queries", layer, count));
  const QueryLog& log = layer.queries;
  const size_t row = dtype_bytes(log.dtype) * index(config_.head_dim);
  const size_t first =
      index(query_head) * 2 * index(log.capacity) + index(log.first + log.count - count);
  *dtype = log.dtype;
  return run.download(static_cast<const uint8_t*>(log.rows->data()) + first * row,
                      index(count) * row, rows);
}

Status Store::window_scores(OpRunner& run, int32_t layer_index, int32_t window,
                            SkvWindowScoresParams params) {
  SKV_RETURN_IF_ERROR(check_layer("window_scores", layer_index));
  Layer& layer = layer_at(layer_index);
  const QueryLog& log = layer.queries;
  SKV_RETURN_IF_ERROR(check_recorded("window_scores", layer, window));
  refresh_tables(layer);
  const size_t row = dtype_bytes(log.dtype) * index(config_.head_dim);
  params.dtype = config_.dtype;
  params.q_dtype = log.dtype;
  params.head_dim = config_.head_dim;
  params.kv_heads = config_.kv_heads;
  params.group = config_.group;
  params.queries = window;
  params.q =
      static_cast<const std::byte*>(log.rows->data()) + index(log.first + log.count - window) * row;
  params.q_stride_head = static_cast<int64_t>(2) * log.capacity * config_.head_dim;
  params.q_stride_token = config_.head_dim;
  params.query_position = layer.next_position - window;
  params.rope_query_position =
      config_.reindex ? layer.head_table.front().slots - window : params.query_position;
  params.reindex = config_.reindex ? 1 : 0;
  params.n_runs = static_cast<int32_t>(layer.runs.size());
  params.runs = layer.runs.data();
  params.heads = layer.head_table.data();
  SKV_RETURN_IF_ERROR(rope_for(run, layer.next_position, &params.rope));
  return run.window_scores(params);
}

void Store::set_record_queries(int32_t rows) {
  config_.record_queries = rows;
  if (rows > 0) return;
  for (Layer& layer : layers_) layer.queries = QueryLog{};
}

void Store::release_queries() {
  for (Layer& layer : layers_) {
    layer.queries = QueryLog{};
    layer.queries.is_paused = true;
  }
}

int32_t Store::recorded_queries(int32_t layer) const {
  const Layer& entry = layers_[index(layer)];
  return entry.queries.end_position == entry.next_position ? entry.queries.count : 0;
}

int64_t Store::recorded_query_bytes() const {
  int64_t total = 0;
  for (const Layer& layer : layers_) {
    if (layer.queries.rows) total += static_cast<int64_t>(layer.queries.rows->bytes());
  }
  return total;
}

}  // namespace spindlekv
