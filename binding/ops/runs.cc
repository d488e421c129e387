#include "binding/ops/runs.h"

#include <algorithm>

#include "binding/ops/op.h"
#include "core/check/checker.h"

namespace spindlekv {
namespace {

constexpr TensorRule kRows = {.dtypes = kFloatDtypes, .rank = 2, .is_contiguous = true};

TensorRule list_of(uint32_t dtypes) { return {.dtypes = dtypes, .rank = 1, .is_contiguous = true}; }

// K or V rows, or codewords, of the dtype and width of the call.
const TensorState* read_rows(const ObjectReader& reader, const char* name, KvShape* shape) {
  const TensorState* rows = reader.tensor(name, kRows);
  if (rows == nullptr) return nullptr;
  if (shape->dtype < 0) shape->dtype = rows->dtype;
  if (shape->head_dim == 0) shape->head_dim = size_of(reader, name, rows, 1);
  if (rows->dtype != shape->dtype) {
    reader.fail(name, std::string("dtype ") + dtype_name(shape->dtype), dtype_name(rows->dtype));
  }
  reader.require_axis(name, rows, 1, shape->head_dim);
  return rows;
}

const TensorState* read_magnitudes(const ObjectReader& reader, const char* name, KvShape* shape) {
  const uint32_t dtypes = shape->dtype < 0 ? kFloatDtypes : dtype_bit(shape->dtype);
  const TensorState* magnitudes = reader.tensor(name, list_of(dtypes));
  if (magnitudes != nullptr) shape->dtype = magnitudes->dtype;
  return magnitudes;
}

// References of keys and values have one width.
const TensorState* read_references(const ObjectReader& reader, const char* name, SkvRun* run) {
  const TensorState* refs = reader.tensor(name, list_of(dtype_bit(SKV_U16) | dtype_bit(SKV_I32)));
  if (refs == nullptr) return nullptr;
  const auto bytes = static_cast<int32_t>(dtype_bytes(refs->dtype));
  if (run->ref_bytes != 0 && run->ref_bytes != bytes) {
    reader.fail(name, "the dtype of kRef", dtype_name(refs->dtype));
  }
  run->ref_bytes = bytes;
  return refs;
}

}  // namespace

SkvRun read_run(const ObjectReader& reader, RunUse use, KvShape* shape) {
  SkvRun run{};
  run.codec = reader.choice("codec", {"raw", "codebook"});
  const bool is_codebook = run.codec == SKV_CODEC_CODEBOOK;
  const bool has_rows = !(is_codebook && use != RunUse::kRead) || reader.has("k");
  run.rotated = reader.flag_or("rotated", false) ? 1 : 0;

  const TensorState* positions = reader.tensor("positions", list_of(dtype_bit(SKV_I32)));
  const int32_t capacity = size_of(reader, "positions", positions, 0);
  run.slots = use == RunUse::kFilled ? 0 : reader.integer_or("slots", 0, capacity, capacity);
  // What is filled is checked against the slots that are written, by require_room.
  const int64_t needed = run.slots;

  const TensorState* k = has_rows ? read_rows(reader, "k", shape) : nullptr;
  const TensorState* v = has_rows ? read_rows(reader, "v", shape) : nullptr;
  const TensorState* mask = reader.tensor_or_null("mask", list_of(dtype_bit(SKV_U16)));
  const TensorState* beta = reader.tensor_or_null("beta", list_of(dtype_bit(SKV_F32)));
  reader.require_axis_at_least("mask", mask, 0, needed);
  reader.require_axis_at_least("beta", beta, 0, needed);
  if (is_codebook) {
    const TensorState* k_ref = read_references(reader, "kRef", &run);
    const TensorState* v_ref = read_references(reader, "vRef", &run);
    const TensorState* k_magnitude = read_magnitudes(reader, "kMagnitude", shape);
    const TensorState* v_magnitude = read_magnitudes(reader, "vMagnitude", shape);
    reader.require_axis_at_least("kRef", k_ref, 0, needed);
    reader.require_axis_at_least("vRef", v_ref, 0, needed);
    reader.require_axis_at_least("kMagnitude", k_magnitude, 0, needed);
    reader.require_axis_at_least("vMagnitude", v_magnitude, 0, needed);
    run.k_codewords = size_of(reader, "k", k, 0);
    run.v_codewords = size_of(reader, "v", v, 0);
    run.k_ref = pointer_of<void>(k_ref);
    run.v_ref = pointer_of<void>(v_ref);
    run.k_magnitude = pointer_of<void>(k_magnitude);
    run.v_magnitude = pointer_of<void>(v_magnitude);
  } else {
    reader.require_axis_at_least("k", k, 0, needed);
    reader.require_axis_at_least("v", v, 0, needed);
  }
  run.k = pointer_of<void>(k);
  run.v = pointer_of<void>(v);
  run.positions = pointer_of<int32_t>(positions);
  run.mask = pointer_of<uint16_t>(mask);
  run.beta = pointer_of<float>(beta);
  return run;
}

void require_room(const ObjectReader& reader, int64_t first, int64_t count) {
  if (count <= 0) return;
  const bool is_codebook = reader.choice("codec", {"raw", "codebook"}) == SKV_CODEC_CODEBOOK;
  const int64_t end = first + count;
  const auto require = [&](const char* name) {
    reader.require_axis_at_least(name, reader.tensor_or_null(name, {}), 0, end);
  };
  if (!is_codebook) {
    require("k");
    require("v");
  }
  require("kRef");
  require("vRef");
  require("kMagnitude");
  require("vMagnitude");
  require("positions");
  require("mask");
  require("beta");
}

HeadLists read_heads(const ObjectReader& reader, const char* name, KvShape* shape) {
  HeadLists lists;
  for (const std::vector<ObjectReader>& runs : reader.object_lists(name)) {
    SkvHead head{};
    head.first_run = static_cast<int32_t>(lists.runs.size());
    head.n_runs = static_cast<int32_t>(runs.size());
    int64_t slots = 0;
    for (const ObjectReader& item : runs) {
      SkvRun run = read_run(item, RunUse::kRead, shape);
      run.slot_base = static_cast<int32_t>(slots);
      slots += run.slots;
      if (slots > INT32_MAX) reader.fail(name, "fewer than 2^31 slots", std::to_string(slots));
      lists.runs.push_back(run);
    }
    head.slots = static_cast<int32_t>(slots);
    lists.heads.push_back(head);
    lists.most_slots = std::max(lists.most_slots, slots);
  }
  if (lists.heads.empty()) reader.fail(name, "at least one KV head", "none");
  return lists;
}

SkvRope read_rope(const ObjectReader& reader, const char* name) {
  SkvRope rope{};
  if (!reader.has(name)) return rope;
  const ObjectReader options = reader.object(name);
  const TensorState* table =
      options.tensor("table", {.dtypes = dtype_bit(SKV_F32), .rank = 3, .is_contiguous = true});
  options.require_axis("table", table, 2, 2);
  rope.cos_sin = pointer_of<const float>(table);
  rope.positions = size_of(options, "table", table, 0);
  rope.n_rot = 2 * size_of(options, "table", table, 1);
  rope.style = options.choice("style", {"norm", "neox"});
  if (table != nullptr && rope.cos_sin == nullptr) {
    options.fail("table", "at least one position", "an empty table");
  }
  return rope;
}

}  // namespace spindlekv
