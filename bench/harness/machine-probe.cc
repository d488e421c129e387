// How fast this machine reads, copies and multiplies when nothing else is asked of it.
//
//   machine-probe <threads> <MiB per thread>
//
// A program of its own, so that its loops are compiled for this very processor. At the start it
// tries each way of reading (2 to 8 streams a thread, with and without software prefetch) and says
// which is fastest; then each line "read", "copy" or "fma" on stdin is answered by {"seconds": s}
// on stdout. Threads sleep in between. read: every thread once through memory of its own. copy: one
// half of it to the other. fma: kFmaRounds rounds of kChains independent f32 multiply-adds a vector
// lane, none of which leaves the registers.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr size_t kLine = 64;
constexpr size_t kBlock = 256;  // bytes of a stream that are read before the next one's turn

using Line = uint64_t __attribute__((vector_size(kLine)));

#if defined(__AVX512F__)
constexpr size_t kVectorBytes = 64;
constexpr int kChains = 24;  // latency 4 x 2 ports, and room below 32 registers
#elif defined(__AVX__)
constexpr size_t kVectorBytes = 32;
constexpr int kChains = 12;  // 16 registers
#else
constexpr size_t kVectorBytes = 16;
constexpr int kChains = 24;
#endif
using Floats = float __attribute__((vector_size(kVectorBytes)));
constexpr int kFmaRounds = 1 << 20;
constexpr double kFlopsPerThread = 2.0 * kFmaRounds * kChains * (kVectorBytes / sizeof(float));

/** Sum over `streams` equal parts read side by side, each `ahead` bytes before they are needed (0:
 * not). */
template <int kStreams>
uint64_t read_streams(const char* memory, size_t bytes, size_t ahead) {
  const size_t part = bytes / kStreams;
  Line sums[4] = {};
  for (size_t at = 0; at < part; at += kBlock) {
    for (int stream = 0; stream < kStreams; ++stream) {
      const char* from = memory + stream * part + at;
      for (size_t line = 0; line < kBlock / kLine; ++line) {
        if (ahead > 0) __builtin_prefetch(from + line * kLine + ahead);
        sums[line] += *reinterpret_cast<const Line*>(from + line * kLine);
      }
    }
  }
  const Line total = sums[0] + sums[1] + sums[2] + sums[3];
  uint64_t sum = 0;
  for (size_t lane = 0; lane < kLine / sizeof(uint64_t); ++lane) sum += total[lane];
  return sum;
}

struct Way {
  int streams;
  size_t ahead;
  uint64_t (*read)(const char*, size_t, size_t);
};

constexpr size_t kAheads[] = {0, 1024, 4096};
constexpr int kTrials = 4;  // of each way; the shortest counts, which other programs disturb least

std::vector<Way> ways() {
  std::vector<Way> all;
  for (const size_t ahead : kAheads) {
    all.push_back({2, ahead, read_streams<2>});
    all.push_back({4, ahead, read_streams<4>});
    all.push_back({8, ahead, read_streams<8>});
  }
  return all;
}

/** Multiplied by nearly one and added to, so that the values stay finite; the sum is what keeps the
 * loop. */
float multiply_add() {
  Floats chain[kChains];
  Floats factor;
  Floats added;
  for (size_t lane = 0; lane < kVectorBytes / sizeof(float); ++lane) {
    factor[lane] = 0.999F;
    added[lane] = 0.001F;
  }
  for (int i = 0; i < kChains; ++i) chain[i] = added * static_cast<float>(i);
  for (int round = 0; round < kFmaRounds; ++round) {
#pragma GCC unroll 32
    for (int i = 0; i < kChains; ++i) chain[i] = chain[i] * factor + added;
  }
  float sum = 0;
  for (const Floats& values : chain) sum += values[0];
  return sum;
}

struct FreeMemory {
  void operator()(char* memory) const { std::free(memory); }
};

/** Threads that each run the same task once when told to, and sleep otherwise. */
class Crew {
 public:
  explicit Crew(int threads, size_t bytes) : bytes_(bytes) {
    for (int i = 0; i < threads; ++i) {
      memory_.emplace_back(static_cast<char*>(std::aligned_alloc(2 << 20, bytes)));
      if (memory_.back() == nullptr) throw std::bad_alloc();
    }
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this, i] { work(i); });
  }

  ~Crew() {
    run(nullptr);
    for (std::thread& thread : threads_) thread.join();
  }

  /** Seconds until the last thread is done; an empty task ends the threads. */
  double run(std::function<void(char*)> task) {
    const auto start = std::chrono::steady_clock::now();
    std::unique_lock lock(mutex_);
    task_ = std::move(task);
    pending_ = static_cast<int>(threads_.size());
    ++turn_;
    wake_.notify_all();
    done_.wait(lock, [this] { return pending_ == 0; });
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  size_t bytes() const { return bytes_; }
  size_t size() const { return threads_.size(); }

 private:
  void work(int index) {
    for (uint64_t seen = 0;; ++seen) {
      std::function<void(char*)> task;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return turn_ > seen; });
        task = task_;
      }
      if (task) task(memory_[index].get());
      {
        const std::lock_guard lock(mutex_);
        if (--pending_ == 0) done_.notify_one();
      }
      if (!task) return;
    }
  }

  size_t bytes_;
  std::vector<std::unique_ptr<char, FreeMemory>> memory_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  std::function<void(char*)> task_;
  uint64_t turn_ = 0;
  int pending_ = 0;
};

std::atomic<uint64_t> kept_sum;  // what keeps the compiler from leaving the loops out

double time_read(Crew& crew, const Way& way) {
  const size_t bytes = crew.bytes();
  return crew.run([&](char* memory) { kept_sum += way.read(memory, bytes, way.ahead); });
}

}  // namespace

int main(int count, char** words) {
  const int threads = count == 3 ? std::atoi(words[1]) : 0;
  const size_t mib = count == 3 ? std::strtoull(words[2], nullptr, 10) : 0;
  if (threads < 1 || mib < 2 || mib % 2 != 0) {
    std::fputs("machine-probe: expected <threads> <even number of MiB>\n", stderr);
    return 2;
  }
  const size_t bytes = mib << 20;
  Crew crew(threads, bytes);
  crew.run(
      [&](char* memory) { std::memset(memory, 1, bytes); });  // else all of it is one page of zeros

  Way best = ways().front();
  double shortest = 1e9;
  for (int round = 0; round < kTrials; ++round) {
    for (const Way& way : ways()) {
      const double seconds = time_read(crew, way);
      if (seconds < shortest) {
        shortest = seconds;
        best = way;
      }
    }
  }
  std::printf("{\"readBytes\": %zu, \"flops\": %.0f, \"streams\": %d, \"prefetch\": %zu}\n",
              bytes * threads, kFlopsPerThread * threads, best.streams, best.ahead);
  std::fflush(stdout);

  for (std::string line; std::getline(std::cin, line);) {
    double seconds = 0;
    if (line == "read") {
      seconds = time_read(crew, best);
    } else if (line == "copy") {
      seconds = crew.run([&](char* memory) { std::memcpy(memory + bytes / 2, memory, bytes / 2); });
    } else if (line == "fma") {
      seconds = crew.run([](char*) { kept_sum += static_cast<uint64_t>(multiply_add()); });
    } else {
      std::fprintf(stderr, "machine-probe: expected read, copy or fma, got %s\n", line.c_str());
      return 2;
    }
    std::printf("{\"seconds\": %.9f}\n", seconds);
    std::fflush(stdout);
  }
  return 0;
}
