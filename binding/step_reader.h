// Arguments of a call over layers of caches: caches and tensors by the numbers of their handles
// (binding/handle.h), rows also as Float32Arrays where the device reads host memory. What is wrong
// is noted in `args`, the first of it alone; after that nothing else is read.
#pragma once

#include <napi.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "binding/store.h"
#include "core/step.h"

namespace spindlekv {

// What rows are called in messages, and which part of what is given they are.
struct Place {
  const char* name;
  int32_t item = -1;   // of a list; -1: there is none
  int32_t plane = -1;  // of [planes, heads, tokens, D]; -1: [heads, tokens, D]
  int32_t planes = 0;

  std::string text() const {
    return item < 0 ? name : "items[" + std::to_string(item) + "]." + name;
  }
};

struct RowsShape {
  int32_t heads;
  int32_t tokens;
  int32_t head_dim;

  std::string text(const Place& place) const {
    const std::string planes = place.plane < 0 ? "" : std::to_string(place.planes) + ", ";
    return "[" + planes + std::to_string(heads) + ", " + std::to_string(tokens) + ", " +
           std::to_string(head_dim) + "]";
  }
};

// Rows by the number of a tensor; where there is none, by what was given instead.
struct GivenRows {
  double number;
  napi_value value;
};

// One call's arguments. keeps_alive: what it reads is kept for a job.
class StepReader {
 public:
  StepReader(napi_env env, const Environment* environment, const char* op, bool keeps_alive)
      : args(env, op), handles_(environment->handles), keeps_alive_(keeps_alive) {}

  StoreState* store(double number, int32_t item);
  double number_of(napi_value value, double fallback) const {
    double number = fallback;
    static_cast<void>(napi_get_value_double(args.env(), value, &number));
    return number;
  }
  int32_t count(double number, const Place& place);
  int32_t layer(double number, const StoreState& state, int32_t item);
  float scale(double number);
  RowView rows(const GivenRows& given, const StoreState& state, const Place& place,
               const RowsShape& shape);
  void scores(double number, int32_t mode, const StoreState& state, const Place& place,
              AttendRequest* request);
  void require_same_dtype(const AttendRequest& request, const Place& place);
  // Of all caches; there is none before the first.
  DeviceState* device() const { return device_; }
  // The caches, each once; kept only for a job.
  const std::vector<std::shared_ptr<StoreState>>& stores() const { return stores_; }
  // Pages of the caches may have come or gone.
  void report_pools() const {
    if (pool_ != nullptr) pool_->report();
    for (PoolState* pool : other_pools_) pool->report();
  }

  Arguments args;

 private:
  RowView tensor_rows(TensorState* tensor, const StoreState& state, const Place& place,
                      const RowsShape& shape);
  RowView array_rows(napi_value array, const StoreState& state, const Place& place,
                     const RowsShape& shape);
  bool is_usable(TensorState* tensor, const StoreState& state, const Place& place);

  const HandleTable& handles_;
  bool keeps_alive_;
  DeviceState* device_ = nullptr;
  std::vector<std::shared_ptr<StoreState>> stores_;
  PoolState* pool_ = nullptr;  // of the first cache: mostly the only one
  std::vector<PoolState*> other_pools_;
};

}  // namespace spindlekv
