// Blocks, atomics, conversions, launch checks and the runtime's memory and fault injection.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

#include "cuda/common/convert.cuh"
#include "cuda/common/device.h"
#include "cuda/common/launch.h"
#include "cuda/common/workspace.h"
#include "test/simt/random.h"
#include "test/simt/self/check.h"

namespace spindlekv::cuda {
namespace {

using simt_test::contains;

// --- order of blocks ---------------------------------------------------------------------------

struct OrderParams {
  int* ticket;  // [1]
  int* order;   // [blocks] the ticket that each block drew
};

__global__ void order_kernel(const OrderParams params) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  if (threadIdx.x == 0) params.order[block] = atomicAdd(params.ticket, 1);
}

SKV_TEST("every block runs once, in an order that is not the ascending one") {
  constexpr int kBlocks = 3 * 5 * 7;
  int ticket = 0;
  std::vector<int> order(kBlocks, -1);
  SKV_EXPECT(is_ok(launch<order_kernel>("order", Grid{3, 5, 7}, dim3(8), 0, nullptr,
                                        OrderParams{&ticket, order.data()})));
  SKV_EXPECT(ticket == kBlocks);
  std::vector<int> seen(kBlocks, 0);
  bool is_ascending = true;
  for (int block = 0; block < kBlocks; ++block) {
    ++seen[static_cast<size_t>(order[static_cast<size_t>(block)])];
    is_ascending = is_ascending && order[static_cast<size_t>(block)] == block;
  }
  for (const int times : seen) SKV_EXPECT(times == 1);
  SKV_EXPECT(!is_ascending);
}

SKV_TEST("the random block order is a permutation for every count") {
  for (uint64_t count = 1; count <= 200; ++count) {
    simt::Random random(count);
    simt::RandomOrder order(count, random);
    std::vector<int> seen(count, 0);
    for (uint64_t step = 0; step < count; ++step) ++seen[order.next()];
    for (const int times : seen) SKV_EXPECT(times == 1);
  }
}

// --- atomics -----------------------------------------------------------------------------------

struct AtomicParams {
  int* sum;
  float* float_sum;
  unsigned long long* wide;
  int* largest;
  unsigned* bits;
  unsigned* wrapped;
  int* by_cas;
  int* last_block;
};

__global__ void atomic_kernel(const AtomicParams params) {
  const int index = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(params.sum, index);
  atomicAdd(params.float_sum, 0.5f);
  atomicAdd(params.wide, 1ull << 33);
  atomicMax(params.largest, index);
  atomicOr(params.bits, 1u << (index % 20));
  atomicInc(params.wrapped, 9u);
  int seen = *params.by_cas;
  for (;;) {
    const int found = atomicCAS(params.by_cas, seen, seen + 2);
    if (found == seen) break;
    seen = found;
  }
  SKV_SHARED(ticket, int);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) ticket = atomicAdd(params.last_block, 1);
  __syncthreads();
  if (ticket == static_cast<int>(gridDim.x) - 1 && threadIdx.x == 0) *params.last_block = -1;
}

SKV_TEST("atomics of all kinds add up over threads and blocks") {
  constexpr int kTotal = 6 * 64;
  int sum = 0, largest = -1, by_cas = 0, last_block = 0;
  float float_sum = 0.0f;
  unsigned long long wide = 0;
  unsigned bits = 0, wrapped = 0;
  const AtomicParams params{&sum,  &float_sum, &wide,   &largest,
                            &bits, &wrapped,   &by_cas, &last_block};
  SKV_EXPECT(is_ok(launch<atomic_kernel>("atomic", Grid{6}, dim3(64), 0, nullptr, params)));
  SKV_EXPECT(sum == kTotal * (kTotal - 1) / 2 && float_sum == 0.5f * kTotal);
  SKV_EXPECT(wide == static_cast<unsigned long long>(kTotal) << 33 && largest == kTotal - 1);
  SKV_EXPECT(bits == (1u << 20) - 1 && wrapped == kTotal % 10 && by_cas == 2 * kTotal);
  SKV_EXPECT(last_block == -1);
}

// --- conversions -------------------------------------------------------------------------------

struct ConvertParams {
  const uint16_t* in;  // every bit pattern
  uint16_t* out;
  float* as_float;
};

template <typename Elem>
__global__ void convert_kernel(const ConvertParams params) {
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * 8;
  float values[8];
  load8(reinterpret_cast<const Elem*>(params.in) + at, values);
  store8(params.as_float + at, values);
  store8(reinterpret_cast<Elem*>(params.out) + at, values);
}

// The value of a 16-bit float with `mantissa` mantissa bits, by its definition.
double value_of(unsigned bits, int mantissa) {
  const int exponent_bits = 15 - mantissa;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = static_cast<int>(bits >> mantissa) & ((1 << exponent_bits) - 1);
  const double fraction = (bits & ((1u << mantissa) - 1u)) / std::ldexp(1.0, mantissa);
  const double sign = (bits & 0x8000u) != 0 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1) return fraction == 0.0 ? sign * INFINITY : NAN;
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias);
  return sign * std::ldexp(1.0 + fraction, exponent - bias);
}

template <typename Elem>
void expect_conversions(int mantissa) {
  alignas(16) static uint16_t in[65536];
  alignas(16) static uint16_t out[65536];
  alignas(16) static float as_float[65536];
  for (unsigned bits = 0; bits < 65536; ++bits) in[bits] = static_cast<uint16_t>(bits);
  SKV_EXPECT(is_ok(launch<convert_kernel<Elem>>("convert", Grid{64}, dim3(128), 0, nullptr,
                                                ConvertParams{in, out, as_float})));
  int wrong = 0;
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const double expected = value_of(bits, mantissa);
    const bool is_nan = expected != expected;
    wrong += is_nan ? (as_float[bits] != as_float[bits] ? 0 : 1)
                    : (double{as_float[bits]} == expected && out[bits] == bits ? 0 : 1);
  }
  SKV_EXPECT(wrong == 0);
}

SKV_TEST("all 65536 values of f16 and bf16 survive load8 and store8") {
  expect_conversions<f16>(10);
  expect_conversions<bf16>(7);
}

__global__ void round_kernel(const ConvertParams params) {
  const int64_t at = threadIdx.x;
  const float value = params.as_float[at];
  params.out[2 * at] = __half_as_ushort(from_float<f16>(value));
  params.out[2 * at + 1] = __bfloat16_as_ushort(from_float<bf16>(value));
}

SKV_TEST("conversions round to nearest even and overflow to infinity") {
  float in[4] = {1.0f + 0x1p-11f, 1.0f + 3 * 0x1p-11f, 65520.0f, 3.4e38f};
  uint16_t out[8];
  SKV_EXPECT(is_ok(
      launch<round_kernel>("round", Grid{}, dim3(4), 0, nullptr, ConvertParams{nullptr, out, in})));
  SKV_EXPECT(out[0] == 0x3c00 && out[2] == 0x3c02 && out[4] == 0x7c00 && out[6] == 0x7c00);
  SKV_EXPECT(out[1] == 0x3f80 && out[5] == 0x4780 && out[7] == 0x7f80);
}

SKV_TEST("a misaligned vector access is an error") {
  alignas(16) uint16_t in[16] = {};
  alignas(16) uint16_t out[16];
  alignas(16) float as_float[16];
  const Status status = launch<convert_kernel<f16>>("convert", Grid{}, dim3(1), 0, nullptr,
                                                    ConvertParams{in + 1, out, as_float});
  SKV_EXPECT(contains(status, "not aligned to 16 bytes"));
}

// --- launch checks -----------------------------------------------------------------------------

SKV_TEST("launch shapes are checked, and an empty grid launches nothing") {
  const OrderParams params{nullptr, nullptr};
  const auto shaped = [&](Grid grid, dim3 block) {
    return launch<order_kernel>("order", grid, block, 0, nullptr, params);
  };
  SKV_EXPECT(is_ok(shaped(Grid{0}, dim3(8))));
  SKV_EXPECT(contains(shaped(Grid{1, 65536}, dim3(8)), "got 1 x 65536 x 1"));
  SKV_EXPECT(contains(shaped(Grid{int64_t{1} << 31}, dim3(8)), "got 2147483648 x 1 x 1"));
  SKV_EXPECT(contains(shaped(Grid{-1}, dim3(8)), "got -1 x 1 x 1"));
  SKV_EXPECT(contains(shaped(Grid{1}, dim3(32, 33)), "got 1056"));
}

// --- workspace and runtime ---------------------------------------------------------------------

SKV_TEST("a workspace layout measures what it hands out, in aligned pieces") {
  alignas(256) static std::byte memory[1024];
  const auto lay_out = [](WorkspaceLayout& layout, float** first, int** second, char** none) {
    *first = layout.take<float>(65);
    *none = layout.take<char>(0);
    *second = layout.take<int>(1);
  };
  float* first = nullptr;
  int* second = nullptr;
  char* none = nullptr;
  WorkspaceLayout measured;
  lay_out(measured, &first, &second, &none);
  SKV_EXPECT(measured.bytes() == 768 && first == nullptr && second == nullptr);
  WorkspaceLayout layout(memory);
  lay_out(layout, &first, &second, &none);
  SKV_EXPECT(static_cast<void*>(first) == memory && static_cast<void*>(second) == memory + 512);
  SKV_EXPECT(none == nullptr);
}

SKV_TEST("device memory is counted, poisoned and limited") {
  size_t before = 0, after = 0, total = 0;
  SKV_EXPECT(cudaMemGetInfo(&before, &total) == cudaSuccess);
  void* memory = nullptr;
  SKV_EXPECT(cudaMalloc(&memory, 1000) == cudaSuccess);
  SKV_EXPECT(static_cast<unsigned char*>(memory)[999] == 0xff);
  SKV_EXPECT(reinterpret_cast<uintptr_t>(memory) % 256 == 0);
  SKV_EXPECT(cudaMemGetInfo(&after, &total) == cudaSuccess && before - after == 1000);
  SKV_EXPECT(cudaFree(memory) == cudaSuccess);
  SKV_EXPECT(cudaFree(&before) == cudaErrorInvalidValue);
  setenv("SPINDLEKV_SIMT_MEMORY", "4096", 1);
  const Status status = status_from_cuda("allocate", cudaMalloc(&memory, 5000));
  SKV_EXPECT(status.code == SKV_OUT_OF_MEMORY && memory == nullptr);
  unsetenv("SPINDLEKV_SIMT_MEMORY");
  cudaGetLastError();
}

#if defined(__SANITIZE_ADDRESS__)
struct OverrunParams {
  float* device;
  int count;
  int kind;
};

__global__ void overrun_kernel(const OverrunParams params) {
  SKV_SHARED(fixed, float[8]);
  SKV_DYNAMIC_SHARED(dynamic, float);
  const int past = params.count;
  fixed[0] = dynamic[0] = 0.0f;
  if (params.kind == 0) params.device[past] = 1.0f;
  if (params.kind == 1) fixed[past] = 1.0f;
  if (params.kind == 2) dynamic[past] = 1.0f;
}

SKV_TEST("AddressSanitizer sees one element past device, static and dynamic shared memory") {
  std::fflush(stdout);
  for (int kind = 0; kind < 4; ++kind) {
    const pid_t child = fork();
    if (child == 0) {
      std::freopen("/dev/null", "w", stderr);
      void* memory = nullptr;
      cudaMalloc(&memory, 8 * sizeof(float));
      const OverrunParams params{static_cast<float*>(memory), 8, kind};
      const Status status =
          launch<overrun_kernel>("overrun", Grid{}, dim3(1), 8 * sizeof(float), nullptr, params);
      _exit(is_ok(status) ? 0 : 7);
    }
    int result = 0;
    SKV_EXPECT(waitpid(child, &result, 0) == child);
    const bool is_clean = WIFEXITED(result) && WEXITSTATUS(result) == 0;
    SKV_EXPECT(is_clean == (kind == 3));
    SKV_EXPECT(!WIFEXITED(result) || WEXITSTATUS(result) != 7);
  }
}
#endif

// In a child process, because a lost device stays lost.
SKV_TEST("after an illegal address every call says which op lost the device") {
  std::fflush(stdout);
  const int failures_before = simt_test::failures();
  const pid_t child = fork();
  if (child == 0) {
    setenv("SPINDLEKV_SIMT_FAIL_LAUNCH", "2", 1);
    int ticket = 0;
    std::vector<int> order(4);
    const auto run = [&](const char* op) {
      return launch<order_kernel>(op, Grid{4}, dim3(1), 0, nullptr,
                                  OrderParams{&ticket, order.data()});
    };
    SKV_EXPECT(is_ok(run("first")));
    SKV_EXPECT(run("second").code == SKV_CUDA);
    const Status third = run("third");
    SKV_EXPECT(third.code == SKV_DEVICE_LOST && contains(third, "second"));
    SKV_EXPECT(check_device_alive("fourth").code == SKV_DEVICE_LOST);
    SKV_EXPECT(ticket == 4);
    std::fflush(stdout);
    _exit(simt_test::failures() == failures_before ? 0 : 1);
  }
  int result = 1;
  SKV_EXPECT(waitpid(child, &result, 0) == child && result == 0);
}

}  // namespace
}  // namespace spindlekv::cuda
