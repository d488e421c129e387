// The race checker: every pair of accesses that nothing orders, whatever the results look like.
// This file alone is compiled with -fsanitize=thread; the checker sees no other. Which of the two
// accesses is reported depends on the order of the run.
#include "cuda/common/async_copy.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/mma.cuh"
#include "cuda/common/reduce.cuh"
#include "test/simt/self/check.h"

namespace spindlekv::cuda {
namespace {

using simt_test::contains;

constexpr int kThreads = 64;

enum class Case {
  kBarrier,
  kNoBarrier,
  kReadThenWrite,
  kSameValue,
  kWarpBarrier,
  kShuffleOnly,
  kOtherWarp,
  kAtomics,
  kAtomicAndRead,
  kAtomicThenBarrier,
  kNeighbourBytes,
  kAsyncCopy,
  kAsyncCopyTooEarly,
  kLdmatrix,
  kLdmatrixNoBarrier,
};

struct Params {
  const float* in;
  float* out;
};

// Every case leaves a value that depends on nothing it races for, so only the checker can tell.
template <Case kCase>
__global__ void access_kernel(const Params params) {
  SKV_SHARED(tile, float[kThreads * 4]);
  SKV_SHARED(bytes, unsigned char[kThreads]);
  SKV_SHARED(count, int);
  const int thread = static_cast<int>(threadIdx.x);
  float kept = 0.0f;
  if constexpr (kCase == Case::kBarrier || kCase == Case::kNoBarrier) {
    tile[thread] = 1.0f;
    if constexpr (kCase == Case::kBarrier) __syncthreads();
    kept = tile[(thread + 1) % kThreads];
  } else if constexpr (kCase == Case::kReadThenWrite) {
    kept = tile[(thread + 1) % kThreads];
    tile[thread] = 1.0f;
  } else if constexpr (kCase == Case::kSameValue) {
    tile[7] = 1.0f;
  } else if constexpr (kCase == Case::kWarpBarrier || kCase == Case::kShuffleOnly) {
    tile[thread] = 1.0f;
    if constexpr (kCase == Case::kWarpBarrier) __syncwarp();
    if constexpr (kCase == Case::kShuffleOnly) kept = warp_sum(kept);
    kept += tile[thread ^ 1];
  } else if constexpr (kCase == Case::kOtherWarp) {
    tile[thread] = 1.0f;
    __syncwarp();
    kept = tile[thread ^ 32];
  } else if constexpr (kCase == Case::kAtomics || kCase == Case::kAtomicAndRead ||
                       kCase == Case::kAtomicThenBarrier) {
    if (thread == 0) count = 0;
    __syncthreads();
    atomicAdd(&count, 1);
    if constexpr (kCase == Case::kAtomicThenBarrier) __syncthreads();
    if constexpr (kCase != Case::kAtomics) kept = static_cast<float>(count);
  } else if constexpr (kCase == Case::kNeighbourBytes) {
    bytes[thread] = 1;
    kept = bytes[thread];
  } else if constexpr (kCase == Case::kAsyncCopy || kCase == Case::kAsyncCopyTooEarly) {
    if constexpr (kCase == Case::kAsyncCopyTooEarly) {
      kept = tile[(thread * 4 + 4) % (kThreads * 4)];
    }
    copy_async_16(tile + thread * 4, params.in + thread * 4);
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    kept += tile[(thread * 4 + 4) % (kThreads * 4)];
  } else {
    tile[thread % 32 * 4] = 1.0f;
    if constexpr (kCase == Case::kLdmatrix) __syncwarp();
    uint32_t registers[4];
    ldmatrix_x4(registers, tile + (thread + 1) % 32 * 4);
    kept = static_cast<float>(registers[0]);
  }
  params.out[thread] = kept;
}

template <Case kCase>
Status run(int threads) {
  alignas(16) static float in[kThreads * 4];
  float out[kThreads];
  return launch<access_kernel<kCase>>("access", Grid{2}, dim3(static_cast<unsigned>(threads)), 0,
                                      nullptr, Params{in, out});
}

template <Case kCase>
void expect_clean(int threads = kThreads) {
  const Status status = run<kCase>(threads);
  SKV_EXPECT(is_ok(status) || contains(status, "nothing"));
}

template <Case kCase>
void expect_race(int threads, const char* how) {
  const Status status = run<kCase>(threads);
  SKV_EXPECT(contains(status, "race on shared memory"));
  SKV_EXPECT(contains(status, how));
}

SKV_TEST("races: what a block barrier orders, and what it does not") {
  expect_clean<Case::kBarrier>();
  expect_race<Case::kNoBarrier>(kThreads, "another");
  expect_race<Case::kReadThenWrite>(kThreads, "of 4 bytes");
  expect_race<Case::kSameValue>(kThreads, "of 4 bytes");
  expect_clean<Case::kNeighbourBytes>();
}

SKV_TEST("races: __syncwarp orders the lanes of a warp, shuffles and other warps it does not") {
  expect_clean<Case::kWarpBarrier>();
  expect_race<Case::kShuffleOnly>(32, "another lane");
  expect_race<Case::kOtherWarp>(kThreads, "another warp");
}

SKV_TEST("races: atomics are ordered among themselves, not with plain accesses") {
  expect_clean<Case::kAtomics>();
  expect_race<Case::kAtomicAndRead>(kThreads, "another");
  expect_clean<Case::kAtomicThenBarrier>();
}

SKV_TEST("races: async copies write from issue on, ldmatrix reads as the lane that gave the row") {
  expect_clean<Case::kAsyncCopy>();
  expect_race<Case::kAsyncCopyTooEarly>(kThreads, "unordered");
  expect_clean<Case::kLdmatrix>(32);
  expect_race<Case::kLdmatrixNoBarrier>(32, "another lane");
}

}  // namespace
}  // namespace spindlekv::cuda
