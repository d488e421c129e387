// Seeded random order for the SIMT test backend.
//
// SPINDLEKV_SIMT_SEED sets the seed (default 1). Every launch of a process draws its own stream
// from it, so a repeated launch sees another order and a repeated process sees the same ones.
#pragma once

#include <cstddef>
#include <cstdint>

namespace spindlekv::simt {

// The seed of the next launch.
uint64_t launch_seed();

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t next() {  // splitmix64
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }

  // Uniform in [0, n), n < 2^32.
  size_t below(size_t n) { return static_cast<size_t>(((next() >> 32) * n) >> 32); }

 private:
  uint64_t state_;
};

// A random permutation of [0, count) without a table: an affine step over the next power of two,
// skipping what lies outside. Good enough to mix blocks; memory-free for grids of millions.
class RandomOrder {
 public:
  RandomOrder(uint64_t count, Random& random) : count_(count) {
    while (size_ < count) size_ *= 2;
    multiplier_ = random.next() * 8 + 5;  // 5 modulo 8: full period over any power of two
    offset_ = random.next() | 1u;
    at_ = random.next() & (size_ - 1);
  }

  // The next element; call it `count` times.
  uint64_t next() {
    do {
      at_ = (at_ * multiplier_ + offset_) & (size_ - 1);
    } while (at_ >= count_);
    return at_;
  }

 private:
  uint64_t count_;
  uint64_t size_ = 1;
  uint64_t multiplier_ = 1;
  uint64_t offset_ = 1;
  uint64_t at_ = 0;
};

}  // namespace spindlekv::simt
