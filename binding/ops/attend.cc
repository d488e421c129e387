#include "binding/ops/attend_arguments.h"
#include "binding/ops/op.h"
#include "binding/ops/register.h"

namespace spindlekv {
namespace {

struct AttendCall : AttendArguments {
  static constexpr char kName[] = "attend";
  static Status check(const SkvAttendParams& params) { return check_attend(params); }
  static Status run(OpRunner& run, const SkvAttendParams& params) { return run.attend(params); }
};

}  // namespace

void register_attend(Napi::Env env, Napi::Object exports) { register_op<AttendCall>(env, exports); }

}  // namespace spindlekv
