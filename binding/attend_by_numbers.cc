// attend of raw slots with its arguments in one array of numbers: the short way of what
// binding/ops/attend.cc reads from an object, which takes ten times as long as entering native
// code. Anything out of the ordinary is left to the long way, which also has the words for what is
// wrong.
#include <algorithm>
#include <cmath>

#include "binding/args.h"
#include "binding/callback.h"
#include "binding/tensor.h"
#include "core/check/checker.h"

namespace spindlekv {
namespace {

// What is kept from call to call.
struct Scratch {
  std::vector<SkvRun> runs;
  std::vector<SkvHead> heads;
};

// Takes numbers one by one; false once something is not as it should be.
class NumberReader {
 public:
  NumberReader(const HandleTable& handles, const double* numbers, size_t count)
      : handles_(handles), next_(numbers), end_(numbers + count) {}

  bool ok() const { return ok_; }
  bool require(bool holds) {
    ok_ = ok_ && holds;
    return ok_;
  }
  double number() {
    if (!require(next_ < end_)) return 0;
    return *next_++;
  }
  int32_t integer(int32_t least) {
    const double value = number();
    if (!require(value >= least && value <= INT32_MAX && value == std::trunc(value))) return least;
    return static_cast<int32_t>(value);
  }
  // A live tensor on the device of the others; nullptr when something is wrong.
  const TensorState* tensor(uint32_t dtypes, int64_t rank) {
    const auto* found =
        static_cast<const TensorState*>(handles_.find(number(), HandleTraits<TensorState>::kKind));
    if (!require(found != nullptr && found->storage != nullptr && found->rank() == rank &&
                 (dtype_bit(found->dtype) & dtypes) != 0)) {
      return nullptr;
    }
    if (device_ == nullptr) device_ = found->device.get();
    return require(found->device.get() == device_) ? found : nullptr;
  }
  const TensorState* tensor_or_null(uint32_t dtypes, int64_t rank) {
    if (next_ == end_ || *next_ != kNoHandle) return tensor(dtypes, rank);
    ++next_;
    return nullptr;
  }
  // Contiguous, with at least `slots` entries; *data stays NULL where nothing is given.
  template <typename T>
  void list(uint32_t dtypes, int32_t slots, T** data) {
    const TensorState* const found = tensor_or_null(dtypes, 1);
    if (found == nullptr || !require(found->is_contiguous() && found->shape[0] >= slots)) return;
    *data = static_cast<T*>(found->data());
  }
  DeviceState* device() const { return device_; }

 private:
  const HandleTable& handles_;
  const double* next_;
  const double* end_;
  DeviceState* device_ = nullptr;
  bool ok_ = true;
};

bool is_shape(const TensorState& tensor, const std::vector<int64_t>& shape) {
  return tensor.shape == shape && (shape.back() <= 1 || tensor.strides.back() == 1);
}

// k, v, positions, slots, rotated, mask, beta
SkvRun read_run(NumberReader* reader, int32_t head_dim, int32_t* dtype) {
  SkvRun run{};
  run.codec = SKV_CODEC_RAW;
  const uint32_t dtypes = *dtype < 0 ? kFloatDtypes : dtype_bit(*dtype);
  const TensorState* const k = reader->tensor(dtypes, 2);
  const TensorState* const v = reader->tensor(k == nullptr ? dtypes : dtype_bit(k->dtype), 2);
  const TensorState* const positions = reader->tensor(dtype_bit(SKV_I32), 1);
  if (!reader->ok()) return run;
  *dtype = k->dtype;
  const int64_t capacity = positions->shape[0];
  const int32_t slots = reader->integer(-1);  // -1: as many as there are positions
  reader->require(capacity <= INT32_MAX && slots <= capacity);
  run.slots = slots < 0 ? static_cast<int32_t>(capacity) : slots;
  run.rotated = reader->integer(0);
  reader->list(dtype_bit(SKV_U16), run.slots, &run.mask);
  reader->list(dtype_bit(SKV_F32), run.slots, &run.beta);
  for (const TensorState* rows : {k, v}) {
    reader->require(rows->is_contiguous() && rows->shape[1] == head_dim &&
                    rows->shape[0] >= run.slots);
  }
  reader->require(positions->is_contiguous());
  run.k = k->data();
  run.v = v->data();
  run.positions = static_cast<int32_t*>(positions->data());
  return run;
}

// table, style
SkvRope read_rope(NumberReader* reader) {
  SkvRope rope{};
  const TensorState* const table = reader->tensor_or_null(dtype_bit(SKV_F32), 3);
  rope.style = reader->integer(0);
  if (table == nullptr) return rope;
  const std::vector<int64_t>& shape = table->shape;
  reader->require(table->is_contiguous() && shape[0] > 0 && shape[0] <= INT32_MAX && shape[1] > 0 &&
                  shape[1] <= kMaxHeadDim && shape[2] == 2);
  if (!reader->ok()) return rope;
  rope.cos_sin = static_cast<const float*>(table->data());
  rope.positions = static_cast<int32_t>(shape[0]);
  rope.n_rot = static_cast<int32_t>(2 * shape[1]);
  return rope;
}

// Sums of scores and their mode. They need room for the longest head, which only the runs tell.
bool set_scores(const TensorState* sum, int32_t mode, int32_t query_heads, int32_t most_slots,
                SkvAttendParams* params) {
  if (sum == nullptr) return mode == SKV_SCORE_NONE;
  const int32_t rows = mode == SKV_SCORE_QUERY_HEAD ? query_heads : params->kv_heads;
  if (!is_shape(*sum, {rows, sum->shape[1]}) || sum->shape[1] < most_slots) return false;
  params->score_sum = static_cast<float*>(sum->data());
  params->score_stride = sum->strides[0];
  // No slots, nothing to add.
  params->score_mode = params->score_sum == nullptr ? SKV_SCORE_NONE : mode;
  return true;
}

// q, out, heads, scale, causal, query position, rope query position, reindex, rope table, style,
// lse, sums of scores, their mode (SkvScoreMode); then of each head the number of runs and the
// runs. Numbers that are left out are -1, the scale NaN.
bool read_params(NumberReader* reader, Scratch* scratch, SkvAttendParams* params) {
  const TensorState* const q = reader->tensor(kFloatDtypes, 3);
  if (q == nullptr) return false;
  const TensorState* const out = reader->tensor(dtype_bit(q->dtype), 3);
  if (out == nullptr || !is_shape(*q, q->shape) || !is_shape(*out, q->shape)) return false;
  for (const int64_t size : q->shape) reader->require(size <= INT32_MAX);
  const int32_t query_heads = static_cast<int32_t>(q->shape[0]);
  params->q_dtype = q->dtype;
  params->queries = static_cast<int32_t>(q->shape[1]);
  params->head_dim = static_cast<int32_t>(q->shape[2]);
  params->kv_heads = reader->integer(1);
  params->group = query_heads / params->kv_heads;
  reader->require(params->group * params->kv_heads == query_heads);
  params->scale = static_cast<float>(reader->number());
  if (std::isnan(params->scale)) {
    params->scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(params->head_dim)));
  }
  params->causal = reader->integer(0);
  params->query_position = reader->integer(0);
  params->rope_query_position = reader->integer(0);
  params->reindex = reader->integer(0);
  params->rope = read_rope(reader);
  if (const TensorState* const lse = reader->tensor_or_null(dtype_bit(SKV_F32), 2)) {
    reader->require(lse->is_contiguous() && is_shape(*lse, {query_heads, params->queries}));
    params->lse = static_cast<float*>(lse->data());
  }
  const TensorState* const score_sum = reader->tensor_or_null(dtype_bit(SKV_F32), 2);
  const int32_t score_mode = reader->integer(SKV_SCORE_NONE);
  int32_t most_slots = 0;
  scratch->runs.clear();
  scratch->heads.clear();
  int32_t dtype = -1;
  for (int32_t h = 0; reader->ok() && h < params->kv_heads; ++h) {
    SkvHead head{static_cast<int32_t>(scratch->runs.size()), reader->integer(0), 0, 0};
    for (int32_t r = 0; reader->ok() && r < head.n_runs; ++r) {
      SkvRun run = read_run(reader, params->head_dim, &dtype);
      run.slot_base = head.slots;
      if (!reader->require(run.slots <= INT32_MAX - head.slots)) break;
      head.slots += run.slots;
      scratch->runs.push_back(run);
    }
    scratch->heads.push_back(head);
    most_slots = std::max(most_slots, head.slots);
  }
  if (!reader->ok() || !set_scores(score_sum, score_mode, query_heads, most_slots, params)) {
    return false;
  }
  params->dtype = dtype < 0 ? q->dtype : dtype;
  params->q = q->data();
  params->out = out->data();
  params->q_stride_head = q->strides[0];
  params->q_stride_token = q->strides[1];
  params->out_stride_head = out->strides[0];
  params->out_stride_token = out->strides[1];
  params->n_runs = static_cast<int32_t>(scratch->runs.size());
  params->runs = scratch->runs.data();
  params->heads = scratch->heads.data();
  return true;
}

// (numbers, count) => whether the call was taken
napi_value attend_by_numbers(const QuickCall& call) {
  napi_value result = nullptr;
  napi_typedarray_type type = napi_int8_array;
  size_t length = 0;
  void* numbers = nullptr;
  double count = 0;
  napi_get_typedarray_info(call.env, call.arguments[0], &type, &length, &numbers, nullptr, nullptr);
  napi_get_value_double(call.env, call.arguments[1], &count);
  bool is_taken = type == napi_float64_array && count <= static_cast<double>(length);
  if (is_taken) {
    NumberReader reader(call.environment->handles, static_cast<const double*>(numbers),
                        static_cast<size_t>(count));
    Scratch& scratch = call.environment->scratch<Scratch>(Environment::kAttendScratch);
    SkvAttendParams params{};
    is_taken = read_params(&reader, &scratch, &params) && reader.device()->is_usable() &&
               reader.device()->recording() == nullptr;
    if (is_taken) {
      DeviceState& device = *reader.device();
      const Status status = device.note(device.runner().attend(params));
      is_taken = status.code != SKV_ARGUMENT;
      if (is_taken && !is_ok(status)) throw_device_status(call.env, &device, status);
    }
  }
  napi_get_boolean(call.env, is_taken, &result);
  return result;
}

}  // namespace

void register_attend_by_numbers(Napi::Env env, Napi::Object exports) {
  export_quick<attend_by_numbers>(env, exports, "attendByNumbers");
}

}  // namespace spindlekv
