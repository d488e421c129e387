// Warp operations: values against plain loops, and the mistakes they allow.
#include <cstdint>

#include "cuda/common/convert.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/mma.cuh"
#include "test/simt/self/check.h"

namespace spindlekv::cuda {
namespace {

using simt_test::contains;

// --- shuffles ----------------------------------------------------------------------------------

template <typename T>
struct ShuffleParams {
  T* out;  // [4, 32]: index, up, down, xor
  int width;
  int distance;
};

template <typename T>
__global__ void shuffle_kernel(const ShuffleParams<T> params) {
  const int lane = static_cast<int>(threadIdx.x);
  const T value = static_cast<T>(lane * 3 + 1);
  const int n = params.distance;
  params.out[lane] = __shfl_sync(kAllLanes, value, n, params.width);
  params.out[32 + lane] = __shfl_up_sync(kAllLanes, value, n, params.width);
  params.out[64 + lane] = __shfl_down_sync(kAllLanes, value, n, params.width);
  params.out[96 + lane] = __shfl_xor_sync(kAllLanes, value, n, params.width);
}

// The lane that a shuffle reads, from the CUDA programming guide's words.
int shuffled_lane(int kind, int lane, int width, int n) {
  const int first = lane / width * width;
  if (kind == 0) return first + n % width;
  if (kind == 1) return lane - n >= first ? lane - n : lane;
  if (kind == 2) return lane + n < first + width ? lane + n : lane;
  return (lane ^ n) < first + width ? lane ^ n : lane;
}

template <typename T>
void expect_shuffles() {
  for (const int width : {2, 8, 32}) {
    for (const int distance : {0, 1, 3, 16}) {
      T out[128];
      SKV_EXPECT(is_ok(launch<shuffle_kernel<T>>("shuffle", Grid{}, dim3(32), 0, nullptr,
                                                 ShuffleParams<T>{out, width, distance})));
      for (int i = 0; i < 128; ++i) {
        const int lane = shuffled_lane(i / 32, i % 32, width, distance);
        SKV_EXPECT(out[i] == static_cast<T>(lane * 3 + 1));
      }
    }
  }
}

SKV_TEST("shuffles read the lane the programming guide names, for every type and width") {
  expect_shuffles<int>();
  expect_shuffles<unsigned>();
  expect_shuffles<float>();
  expect_shuffles<long long>();
  expect_shuffles<double>();
}

// --- votes, matches, reductions ----------------------------------------------------------------

struct VoteParams {
  unsigned* out;  // [threads, 7]
};

__global__ void vote_kernel(const VoteParams params) {
  const unsigned thread = threadIdx.x;
  unsigned* out = params.out + thread * 7;
  out[0] = __ballot_sync(kAllLanes, thread % 3 == 0);
  out[1] = static_cast<unsigned>(__any_sync(kAllLanes, thread == 40));
  out[2] = static_cast<unsigned>(__all_sync(kAllLanes, thread < 32));
  out[3] = __match_any_sync(kAllLanes, thread % 4);
  out[4] = __reduce_add_sync(kAllLanes, thread);
  out[5] = __reduce_max_sync(kAllLanes, thread);
  out[6] = static_cast<unsigned>(__syncthreads_count(thread % 5 == 0));
}

SKV_TEST("votes, matches and reductions cover exactly their own warp") {
  unsigned out[64 * 7];
  SKV_EXPECT(is_ok(launch<vote_kernel>("vote", Grid{}, dim3(64), 0, nullptr, VoteParams{out})));
  for (unsigned thread = 0; thread < 64; ++thread) {
    const unsigned first = thread / 32 * 32;
    unsigned thirds = 0;
    unsigned equal = 0;
    unsigned sum = 0;
    for (unsigned lane = 0; lane < 32; ++lane) {
      thirds |= ((first + lane) % 3 == 0 ? 1u : 0u) << lane;
      equal |= ((first + lane) % 4 == thread % 4 ? 1u : 0u) << lane;
      sum += first + lane;
    }
    const unsigned* row = out + thread * 7;
    SKV_EXPECT(row[0] == thirds && row[1] == (first == 32 ? 1u : 0u));
    SKV_EXPECT(row[2] == (first == 0 ? 1u : 0u) && row[3] == equal);
    SKV_EXPECT(row[4] == sum && row[5] == first + 31 && row[6] == 13);
  }
}

__global__ void halves_kernel(const VoteParams params) {
  const unsigned lane = threadIdx.x;
  const unsigned mask = lane < 16 ? 0x0000ffffu : 0xffff0000u;
  // The halves go round a different number of times.
  unsigned value = lane;
  for (unsigned round = 0; round < (lane < 16 ? 3u : 5u); ++round) {
    value = __shfl_sync(mask, value, static_cast<int>(lane / 16 * 16 + (lane + 1) % 16));
  }
  params.out[lane] = value;
}

SKV_TEST("two halves of a warp may run apart under masks of their own") {
  unsigned out[32];
  SKV_EXPECT(is_ok(launch<halves_kernel>("halves", Grid{}, dim3(32), 0, nullptr, VoteParams{out})));
  for (unsigned lane = 0; lane < 32; ++lane) {
    SKV_EXPECT(out[lane] == lane / 16 * 16 + (lane + (lane < 16 ? 3u : 5u)) % 16);
  }
}

// --- mistakes ----------------------------------------------------------------------------------

struct MistakeParams {
  int kind;
  unsigned* out;
};

__global__ void mistake_kernel(const MistakeParams params) {
  const unsigned lane = threadIdx.x;
  unsigned value = lane;
  if (params.kind == 0) {
    if (lane < 8) {
      value = __shfl_sync(kAllLanes, value, 0);
    } else {
      value = __shfl_sync(kAllLanes, value, 1);
    }
  } else if (params.kind == 1) {
    if (lane != 5) value = __ballot_sync(kAllLanes, 1);
  } else if (params.kind == 2) {
    if (lane < 16) value = __shfl_sync(0xffffu, value, 20);
  } else if (params.kind == 3) {
    value = __ballot_sync(0xffu, 1);
  } else if (params.kind == 4) {
    if (lane < 16) {
      __syncthreads();
    } else {
      __syncwarp();
    }
  }
  params.out[lane] = value;
}

SKV_TEST("mistakes with masks and divergence are named") {
  unsigned out[32];
  const char* expected[] = {"divergent warp operation", "waits in __ballot_sync",
                            "reads lane 20, which mask 0000ffff does not name",
                            "mask 000000ff does not name the calling lane", "deadlocks"};
  for (int kind = 0; kind < 5; ++kind) {
    const Status status =
        launch<mistake_kernel>("mistake", Grid{}, dim3(32), 0, nullptr, MistakeParams{kind, out});
    SKV_EXPECT(contains(status, expected[kind]));
  }
  const Status status =
      launch<mistake_kernel>("mistake", Grid{}, dim3(20), 0, nullptr, MistakeParams{1, out});
  SKV_EXPECT(contains(status, "names lanes that the block does not have (000fffff)"));
}

// --- tensor-core products ----------------------------------------------------------------------

struct MmaParams {
  const float* a;  // [16, 16]
  const float* b;  // [16, 8]
  float* d;        // [16, 8]
};

// A is read row by row, B (stored [k][n]) through the transposing load.
template <typename Elem>
__global__ void mma_kernel(const MmaParams params) {
  SKV_SHARED(a, Elem[16][16]);
  SKV_SHARED(b, Elem[16][8]);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 256; i += 32) a[i / 16][i % 16] = from_float<Elem>(params.a[i]);
  for (int i = lane; i < 128; i += 32) b[i / 8][i % 8] = from_float<Elem>(params.b[i]);
  __syncwarp();
  uint32_t a_fragment[4];
  uint32_t b_fragment[4];
  ldmatrix_x4(a_fragment, &a[lane % 16][lane / 16 * 8]);
  ldmatrix_x4_transposed(b_fragment, &b[lane % 16][0]);
  const uint32_t b_used[2] = {b_fragment[0], b_fragment[1]};
  float d[4] = {0.5f, 0.5f, 0.5f, 0.5f};
  mma_m16n8k16<Elem>(d, a_fragment, b_used);
  for (int part = 0; part < 4; ++part) {
    params.d[(lane / 4 + part / 2 * 8) * 8 + lane % 4 * 2 + part % 2] = d[part];
  }
}

template <typename Elem>
void expect_product() {
  float a[256];
  float b[128];
  float d[128];
  // Small integers: exact in both formats, so the product is exact whatever the order of the sum.
  for (int i = 0; i < 256; ++i) a[i] = static_cast<float>(i * 7 % 13 - 6);
  for (int i = 0; i < 128; ++i) b[i] = static_cast<float>(i * 5 % 11 - 5);
  SKV_EXPECT(
      is_ok(launch<mma_kernel<Elem>>("mma", Grid{}, dim3(32), 0, nullptr, MmaParams{a, b, d})));
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      float sum = 0.5f;
      for (int k = 0; k < 16; ++k) sum += a[row * 16 + k] * b[k * 8 + column];
      SKV_EXPECT(d[row * 8 + column] == sum);
    }
  }
}

SKV_TEST("mma and ldmatrix agree with a plain matrix product") {
  expect_product<f16>();
  expect_product<bf16>();
}

// --- reductions of cuda/common/reduce.cuh ------------------------------------------------------

constexpr int kBlock = 256;

struct ReduceParams {
  const float* in;
  float* sum;
  float* max;
  int* best;
  int* before;
  int* total;
};

__global__ void reduce_kernel(const ReduceParams params) {
  const int thread = static_cast<int>(threadIdx.x);
  const float value = params.in[thread];
  params.sum[thread] = block_sum<kBlock>(value);
  params.max[thread] = block_max<kBlock>(value, -INFINITY);
  params.best[thread] = block_best<kBlock>(Candidate{canonical::score_key(value), thread}).index;
  const ScanResult<int> scan = block_exclusive_sum<kBlock>(thread % 7);
  params.before[thread] = scan.before;
  params.total[thread] = scan.total;
}

SKV_TEST("block reductions: fixed tree, ties to the smaller index, NaN last") {
  float in[kBlock];
  for (int i = 0; i < kBlock; ++i) in[i] = 0.1f * static_cast<float>(i * 37 % 64);
  in[3] = NAN;
  float sum[kBlock];
  float max[kBlock];
  int best[kBlock];
  int before[kBlock];
  int total[kBlock];
  const ReduceParams params{in, sum, max, best, before, total};
  SKV_EXPECT(is_ok(launch<reduce_kernel>("reduce", Grid{}, dim3(kBlock), 0, nullptr, params)));
  SKV_EXPECT(sum[0] != sum[0] && max[9] == 0.1f * 63.0f);
  int expected_best = 0;
  while (in[expected_best] != 0.1f * 63.0f) ++expected_best;
  int running = 0;
  for (int i = 0; i < kBlock; ++i) {
    SKV_EXPECT(best[i] == expected_best && before[i] == running);
    running += i % 7;
  }
  SKV_EXPECT(total[17] == running);

  in[3] = 1.0f;
  SKV_EXPECT(is_ok(launch<reduce_kernel>("reduce", Grid{}, dim3(kBlock), 0, nullptr, params)));
  const auto halving_sum_32 = [](float* x) {
    for (int n = 16; n >= 1; n /= 2) {
      for (int i = 0; i < n; ++i) x[i] = x[i] + x[i + n];
    }
    return x[0];
  };
  float warps[32] = {};
  for (int warp = 0; warp < kBlock / 32; ++warp) {
    float lanes[32];
    for (int lane = 0; lane < 32; ++lane) lanes[lane] = in[warp * 32 + lane];
    warps[warp] = halving_sum_32(lanes);
  }
  const float expected_sum = halving_sum_32(warps);
  for (int i = 0; i < kBlock; ++i) SKV_EXPECT(sum[i] == expected_sum);
}

}  // namespace
}  // namespace spindlekv::cuda
