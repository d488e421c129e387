#include "core/step.h"

#include <cstring>
#include <utility>

namespace spindlekv {
namespace {

// "expected .. for <param>, got .." is about a member of items[i].
void put_in_list(size_t i, Status* status) {
  const char* const end = std::strstr(status->message, ", got ");
  if (end == nullptr) return;
  const char* param = end;
  while (param > status->message && param[-1] != ' ') --param;
  if (param - status->message < 4 || std::strncmp(param - 4, "for ", 4) != 0) return;
  const Status plain = *status;
  const int before = static_cast<int>(param - status->message);
  *status = error_status(static_cast<SkvCode>(plain.code), plain.op, "%.*sitems[%zu].%s", before,
                         plain.message, i, plain.message + before);
  status->native_code = plain.native_code;
}

bool is_same(const SkvAppendKvParams& a, const SkvAppendKvParams& b) {
  return a.dtype == b.dtype && a.src_dtype == b.src_dtype && a.head_dim == b.head_dim &&
         a.rotate == b.rotate && a.rope.cos_sin == b.rope.cos_sin &&
         a.rope.positions == b.rope.positions;
}

}  // namespace

Status Step::run(OpRunner& run, const char* op, bool has_list, std::vector<StepItem>& items) {
  at_ = 0;
  Status status = claim(items);
  if (is_ok(status)) {
    try {
      status = run_all(run, items);
    } catch (...) {  // no host memory
      release(items, true);
      throw;
    }
  }
  release(items, !is_ok(status));
  if (is_ok(status)) return status;
  status.op = op;
  if (has_list && at_ < items.size()) put_in_list(at_, &status);
  return status;
}

// Takes every layer once and checks what can be checked before anything changes.
Status Step::claim(std::vector<StepItem>& items) {
  const StepItem* first = nullptr;
  claimed_ = 0;
  for (at_ = 0; at_ < items.size(); ++at_) {
    const StepItem& item = items[at_];
    Store& store = *item.store;
    SKV_RETURN_IF_ERROR(store.check_layer("step", item.layer));
    Store::Layer& layer = store.layer_at(item.layer);
    if (layer.step_item >= 0) {
      return error_status(SKV_ARGUMENT, "step",
                          "expected every layer of a cache once for layer, got layer %d of the "
                          "cache of items[%d] again",
                          item.layer, layer.step_item);
    }
    layer.step_item = static_cast<int32_t>(at_);
    layer.undo.next_position = layer.next_position;
    ++claimed_;
    if (item.appends) {
      SKV_RETURN_IF_ERROR(store.check_append(layer, item.k, item.v, item.tokens));
    }
    if (!item.attends) continue;
    if (first == nullptr) first = &item;
    SKV_RETURN_IF_ERROR(check_alike(item, *first));
  }
  return ok_status();
}

// attend_batch runs items of one kind.
Status Step::check_alike(const StepItem& item, const StepItem& first) {
  const StoreConfig& config = item.store->config();
  const StoreConfig& other = first.store->config();
  const auto differ = [](const char* what, int32_t expected, int32_t got) {
    return error_status(SKV_ARGUMENT, "step",
                        "expected the %s of the first item (%d) for %s, got %d", what, expected,
                        "layer", got);
  };
  if (config.dtype != other.dtype) return differ("dtype", other.dtype, config.dtype);
  if (config.head_dim != other.head_dim) return differ("headDim", other.head_dim, config.head_dim);
  if (config.group != other.group) return differ("group", other.group, config.group);
  if (item.request.q.dtype != first.request.q.dtype) {
    return error_status(SKV_ARGUMENT, "step",
                        "expected the dtype of the first item's queries (%d) for q, got %d",
                        first.request.q.dtype, item.request.q.dtype);
  }
  return ok_status();
}

Status Step::run_all(OpRunner& run, std::vector<StepItem>& items) {
  SKV_RETURN_IF_ERROR(append(run, items));
  attends_.clear();
  records_.clear();
  for (at_ = 0; at_ < items.size(); ++at_) {
    const StepItem& item = items[at_];
    if (!item.attends) continue;
    Store& store = *item.store;
    Store::Layer& layer = store.layer_at(item.layer);
    SKV_RETURN_IF_ERROR(store.plan_attend(run, layer, item.request, &attends_.emplace_back()));
    SKV_RETURN_IF_ERROR(store.plan_record(run, layer, item.request.q, item.request.queries,
                                          &records_.emplace_back()));
  }
  if (attends_.size() == 1) {
    SKV_RETURN_IF_ERROR(run.attend(attends_.front()));
  } else if (!attends_.empty()) {
    const SkvAttendBatchParams params{static_cast<int32_t>(attends_.size()), 0, attends_.data()};
    SKV_RETURN_IF_ERROR(run.attend_batch(params));
  }
  auto record = records_.begin();
  for (const StepItem& item : items) {
    if (!item.attends) continue;
    Store::Layer& layer = item.store->layer_at(item.layer);
    SKV_RETURN_IF_ERROR(
        item.store->write_record(run, layer, item.request.q, item.request.queries, &*record++));
  }
  return ok_status();
}

Status Step::append(OpRunner& run, std::vector<StepItem>& items) {
  rows_.clear();
  for (at_ = 0; at_ < items.size(); ++at_) {
    const StepItem& item = items[at_];
    if (!item.appends || item.tokens == 0) continue;
    Store& store = *item.store;
    Store::Layer& layer = store.layer_at(item.layer);
    SkvAppendKvParams params{};
    params.dtype = store.config_.dtype;
    params.src_dtype = item.k.dtype;
    params.head_dim = store.config_.head_dim;
    if (store.config_.rotate_keys) {
      params.rotate = 1;
      const int64_t positions = static_cast<int64_t>(layer.next_position) + item.tokens;
      SKV_RETURN_IF_ERROR(store.rope_for(run, positions, &params.rope));
    }
    if (!rows_.empty() && !is_same(params, append_params_)) SKV_RETURN_IF_ERROR(flush(run));
    append_params_ = params;
    SKV_RETURN_IF_ERROR(store.start_append(run, layer, item.k, item.v, item.tokens, &rows_));
  }
  SKV_RETURN_IF_ERROR(flush(run));
  for (at_ = 0; at_ < items.size(); ++at_) {
    const StepItem& item = items[at_];
    if (item.appends) SKV_RETURN_IF_ERROR(item.store->finish_append(run, item.layer));
  }
  return ok_status();
}

Status Step::flush(OpRunner& run) {
  if (rows_.empty()) return ok_status();
  append_params_.n_items = static_cast<int32_t>(rows_.size());
  append_params_.items = rows_.data();
  SKV_RETURN_IF_ERROR(run.append_kv(append_params_));
  rows_.clear();
  return ok_status();
}

void Step::release(std::vector<StepItem>& items, bool is_failed) {
  for (size_t i = 0; i < claimed_; ++i) {
    const StepItem& item = items[i];
    Store::Layer& layer = item.store->layer_at(item.layer);
    layer.step_item = -1;
    if (!item.appends) continue;
    if (is_failed) {
      item.store->undo_append(layer);
    } else {
      item.store->settle_append(layer);
    }
  }
  claimed_ = 0;
  records_.clear();
}

}  // namespace spindlekv
