#include <vector>

#include "binding/ops/attend_arguments.h"
#include "binding/ops/op.h"
#include "binding/ops/register.h"

namespace spindlekv {
namespace {

struct AttendBatchCall {
  static constexpr char kName[] = "attendBatch";
  SkvAttendBatchParams params{};
  std::vector<SkvAttendParams> items;
  std::vector<HeadLists> lists;  // what the items point into

  void read(const ObjectReader& reader);
  static Status check(const SkvAttendBatchParams& params) { return check_attend_batch(params); }
  static Status run(OpRunner& run, const SkvAttendBatchParams& params) {
    return run.attend_batch(params);
  }
};

void AttendBatchCall::read(const ObjectReader& reader) {
  int32_t dtype = -1;
  for (const ObjectReader& object : reader.objects("items")) {
    AttendArguments item;
    item.read(object);
    if (dtype < 0 && !item.lists.runs.empty()) dtype = item.params.dtype;
    items.push_back(item.params);
    lists.push_back(std::move(item.lists));
  }
  // K and V of an item without a run are of whatever dtype those of the others are.
  for (SkvAttendParams& item : items) {
    if (item.n_runs == 0 && dtype >= 0) item.dtype = dtype;
  }
  params.n_items = static_cast<int32_t>(items.size());
  params.items = items.data();
}

}  // namespace

void register_attend_batch(Napi::Env env, Napi::Object exports) {
  register_op<AttendBatchCall>(env, exports);
}

}  // namespace spindlekv
