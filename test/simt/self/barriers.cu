// Barriers, async copies and poison: the mistakes that the backend exists to catch.
#include "cuda/common/async_copy.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/reduce.cuh"
#include "test/simt/self/check.h"

namespace spindlekv::cuda {
namespace {

using simt_test::contains;

constexpr int kThreads = 96;
constexpr int kRounds = 4;

struct Params {
  const float* in;
  float* out;
};

std::vector<float> counting(int count) {
  std::vector<float> values(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) values[static_cast<size_t>(i)] = static_cast<float>(i);
  return values;
}

// --- reverse a block through shared memory, once ----------------------------------------------

template <bool kHasBarrier>
__global__ void reverse_kernel(const Params params) {
  SKV_SHARED(tile, float[kThreads]);
  const int thread = static_cast<int>(threadIdx.x);
  tile[thread] = params.in[thread];
  if constexpr (kHasBarrier) __syncthreads();
  params.out[thread] = tile[kThreads - 1 - thread];
}

template <bool kHasBarrier>
bool reverses() {
  const std::vector<float> in = counting(kThreads);
  std::vector<float> out(kThreads);
  SKV_EXPECT(is_ok(launch<reverse_kernel<kHasBarrier>>("reverse", Grid{}, dim3(kThreads), 0,
                                                       nullptr, Params{in.data(), out.data()})));
  for (int i = 0; i < kThreads; ++i) {
    if (out[static_cast<size_t>(i)] != static_cast<float>(kThreads - 1 - i)) return false;
  }
  return true;
}

SKV_TEST("a block barrier orders shared memory, and deleting it shows") {
  SKV_EXPECT(reverses<true>());
  SKV_EXPECT(!reverses<false>());
}

// --- one buffer reused round after round: the barrier at the end of the loop -------------------

template <bool kHasSecondBarrier>
__global__ void rounds_kernel(const Params params) {
  SKV_SHARED(tile, float[kThreads]);
  const int thread = static_cast<int>(threadIdx.x);
  float sum = 0.0f;
  for (int round = 0; round < kRounds; ++round) {
    tile[thread] = params.in[round * kThreads + thread];
    __syncthreads();
    sum += tile[(thread + 1) % kThreads];
    if constexpr (kHasSecondBarrier) __syncthreads();
  }
  params.out[thread] = sum;
}

template <bool kHasSecondBarrier>
bool sums_rounds() {
  const std::vector<float> in = counting(kThreads * kRounds);
  std::vector<float> out(kThreads);
  SKV_EXPECT(is_ok(launch<rounds_kernel<kHasSecondBarrier>>(
      "rounds", Grid{}, dim3(kThreads), 0, nullptr, Params{in.data(), out.data()})));
  for (int i = 0; i < kThreads; ++i) {
    float sum = 0.0f;
    for (int round = 0; round < kRounds; ++round) {
      sum += static_cast<float>(round * kThreads + (i + 1) % kThreads);
    }
    if (out[static_cast<size_t>(i)] != sum) return false;
  }
  return true;
}

SKV_TEST("the barrier before a buffer is reused cannot be deleted unseen") {
  SKV_EXPECT(sums_rounds<true>());
  SKV_EXPECT(!sums_rounds<false>());
}

// --- warp-level exchange through shared memory -------------------------------------------------

template <bool kHasSync>
__global__ void warp_exchange_kernel(const Params params) {
  SKV_SHARED(tile, float[kThreads]);
  const int thread = static_cast<int>(threadIdx.x);
  tile[thread] = params.in[thread];
  if constexpr (kHasSync) __syncwarp();
  params.out[thread] = tile[thread ^ 1];
}

template <bool kHasSync>
bool exchanges() {
  const std::vector<float> in = counting(kThreads);
  std::vector<float> out(kThreads);
  SKV_EXPECT(is_ok(launch<warp_exchange_kernel<kHasSync>>("exchange", Grid{}, dim3(kThreads), 0,
                                                          nullptr, Params{in.data(), out.data()})));
  for (int i = 0; i < kThreads; ++i) {
    if (out[static_cast<size_t>(i)] != static_cast<float>(i ^ 1)) return false;
  }
  return true;
}

SKV_TEST("lanes do not run in step: deleting a warp barrier shows") {
  SKV_EXPECT(exchanges<true>());
  SKV_EXPECT(!exchanges<false>());
}

// --- divergence --------------------------------------------------------------------------------

__global__ void divergent_barrier_kernel(const Params params) {
  if (threadIdx.x < 32) {
    params.out[threadIdx.x] = 1.0f;
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void early_exit_kernel(const Params params) {
  if (threadIdx.x == 40) return;
  __syncthreads();
  params.out[threadIdx.x] = 1.0f;
}

SKV_TEST("threads meeting at different barriers are named with both lines") {
  std::vector<float> out(kThreads);
  const Status status = launch<divergent_barrier_kernel>("divergent", Grid{}, dim3(kThreads), 0,
                                                         nullptr, Params{nullptr, out.data()});
  SKV_EXPECT(status.code == SKV_CUDA);
  SKV_EXPECT(contains(status, "divergent barrier"));
  SKV_EXPECT(contains(status, "test/simt/self/barriers.cu:"));
}

SKV_TEST("a thread that ends before a barrier is an error, not a hang") {
  std::vector<float> out(kThreads);
  const Status status = launch<early_exit_kernel>("exit", Grid{}, dim3(kThreads), 0, nullptr,
                                                  Params{nullptr, out.data()});
  SKV_EXPECT(status.code == SKV_CUDA);
  SKV_EXPECT(contains(status, "deadlocks"));
  SKV_EXPECT(contains(status, "1 threads have ended"));
}

SKV_TEST("the launch after a faulting one is unharmed") { SKV_EXPECT(reverses<true>()); }

// --- async copies ------------------------------------------------------------------------------

enum class Mistake { kNone, kNoWait, kWaitsTooLittle, kNoBarrier, kIssuedTooEarly };

// Two buffers; round r + 1 is fetched while round r is read.
template <Mistake kMistake>
__global__ void pipeline_kernel(const Params params) {
  SKV_SHARED(tile, float[2][kThreads * 4]);
  const int thread = static_cast<int>(threadIdx.x);
  const auto fetch = [&](int round) {
    if (round < kRounds) {
      copy_async_16(&tile[round % 2][thread * 4], params.in + (round * kThreads + thread) * 4);
    }
    copy_async_commit();
  };
  fetch(0);
  float sum = 0.0f;
  for (int round = 0; round < kRounds; ++round) {
    if constexpr (kMistake != Mistake::kIssuedTooEarly) {
      if (round > 0) __syncthreads();  // the buffer of round - 1 has been read by all
    }
    fetch(round + 1);
    if constexpr (kMistake == Mistake::kWaitsTooLittle) {
      copy_async_wait<2>();
    } else if constexpr (kMistake != Mistake::kNoWait) {
      copy_async_wait<1>();
    }
    if constexpr (kMistake != Mistake::kNoBarrier) __syncthreads();
    sum += tile[round % 2][(thread * 4 + 7) % (kThreads * 4)];
  }
  if constexpr (kMistake != Mistake::kNoWait) copy_async_wait<0>();
  params.out[thread] = sum;
}

template <Mistake kMistake>
Status run_pipeline(bool* is_right) {
  alignas(16) static float in[kRounds * kThreads * 4];
  for (int i = 0; i < kRounds * kThreads * 4; ++i) in[i] = static_cast<float>(i);
  std::vector<float> out(kThreads, -1.0f);
  const Status status = launch<pipeline_kernel<kMistake>>("pipeline", Grid{}, dim3(kThreads), 0,
                                                          nullptr, Params{in, out.data()});
  *is_right = true;
  for (int i = 0; i < kThreads; ++i) {
    float sum = 0.0f;
    for (int round = 0; round < kRounds; ++round) {
      sum += in[round * kThreads * 4 + (i * 4 + 7) % (kThreads * 4)];
    }
    *is_right = *is_right && out[static_cast<size_t>(i)] == sum;
  }
  return status;
}

SKV_TEST("a double-buffered pipeline of async copies gives the right sums") {
  bool is_right = false;
  SKV_EXPECT(is_ok(run_pipeline<Mistake::kNone>(&is_right)));
  SKV_EXPECT(is_right);
}

SKV_TEST("async copies without a wait are an error") {
  bool is_right = false;
  const Status status = run_pipeline<Mistake::kNoWait>(&is_right);
  SKV_EXPECT(contains(status, "async copies not waited for"));
  SKV_EXPECT(!is_right);
}

SKV_TEST("waiting for one group too few gives a wrong result") {
  bool is_right = true;
  SKV_EXPECT(is_ok(run_pipeline<Mistake::kWaitsTooLittle>(&is_right)));
  SKV_EXPECT(!is_right);
}

SKV_TEST("a wait without a barrier gives a wrong result") {
  bool is_right = true;
  SKV_EXPECT(is_ok(run_pipeline<Mistake::kNoBarrier>(&is_right)));
  SKV_EXPECT(!is_right);
}

SKV_TEST("fetching into a buffer that is still being read gives a wrong result") {
  bool is_right = true;
  SKV_EXPECT(is_ok(run_pipeline<Mistake::kIssuedTooEarly>(&is_right)));
  SKV_EXPECT(!is_right);
}

__global__ void async_fault_kernel(const Params params) {
  SKV_SHARED(tile, float[8]);
  const int kind = static_cast<int>(params.in[0]);
  if (kind == 0) copy_async_16(tile + 1, params.in);
  if (kind == 1) copy_async_16(tile, params.in + 1);
  if (kind == 2) copy_async_16(params.out, params.in);
  if (kind == 3) copy_async_16_or_zero(tile + 4, params.in, false);
  copy_async_commit();
  copy_async_wait<0>();
  params.out[0] = tile[4];
}

SKV_TEST("async copies check alignment and shared memory, and can fill with zeros") {
  alignas(16) float in[8] = {};
  alignas(16) float out[4] = {1.0f};
  const char* expected[] = {"destination", "source", "not in shared memory"};
  for (int kind = 0; kind < 4; ++kind) {
    in[0] = static_cast<float>(kind);
    const Status status =
        launch<async_fault_kernel>("fault", Grid{}, dim3(1), 0, nullptr, Params{in, out});
    if (kind < 3) SKV_EXPECT(contains(status, expected[kind]));
    if (kind == 3) SKV_EXPECT(is_ok(status) && out[0] == 0.0f);
  }
}

// --- poison ------------------------------------------------------------------------------------

__global__ void stale_kernel(const Params params) {
  SKV_SHARED(fixed, float[4]);
  SKV_DYNAMIC_SHARED(dynamic, float);
  const bool is_poisoned = fixed[2] != fixed[2] && dynamic[3] != dynamic[3];
  params.out[blockIdx.x] = is_poisoned ? 1.0f : 0.0f;
  fixed[2] = 0.0f;
  dynamic[3] = 0.0f;
}

SKV_TEST("shared memory is poisoned for every block") {
  std::vector<float> out(5);
  SKV_EXPECT(is_ok(
      launch<stale_kernel>("stale", Grid{5}, dim3(1), 16, nullptr, Params{nullptr, out.data()})));
  for (const float value : out) SKV_EXPECT(value == 1.0f);
}

__global__ void greedy_kernel(const Params params) {
  SKV_SHARED(tile, float[13 * 1024]);
  tile[0] = 0.0f;
  params.out[0] = tile[0];
}

SKV_TEST("shared memory over the limits is refused") {
  float out[1];
  const Params params{nullptr, out};
  SKV_EXPECT(contains(launch<greedy_kernel>("greedy", Grid{}, dim3(1), 0, nullptr, params),
                      "shared memory: 53248 static"));
  SKV_EXPECT(contains(launch<stale_kernel>("stale", Grid{}, dim3(1), 100 << 10, nullptr, params),
                      "102400 bytes of dynamic shared memory"));
  SKV_EXPECT(contains(launch<stale_kernel>("stale", Grid{}, dim3(1), 0, nullptr, params),
                      "asked for 0 bytes"));
}

}  // namespace
}  // namespace spindlekv::cuda
