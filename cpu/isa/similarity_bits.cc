// Bit rows and degrees of a similarity graph: what the greedy cover does in its inner loops.
//
// Integers only. The loops over 32 or 64 lanes are written for the compiler to vectorise.
#include "cpu/isa/similarity.h"
#include "cpu/isa/similarity_parts.h"

namespace spindlekv::cpu::SKV_ISA {

int32_t common_bits(const uint64_t* a, const uint64_t* b, int64_t words) {
  int32_t count = 0;
  for (int64_t w = 0; w < words; ++w) count += __builtin_popcountll(a[w] & b[w]);
  return count;
}

void subtract_common(const uint64_t* a, const uint64_t* b, int64_t words, int32_t* degree) {
  // Above this many bits in a word, all 64 degrees are updated at once instead of one by one.
  constexpr int kSparseBits = 8;
  for (int64_t w = 0; w < words; ++w) {
    uint64_t common = a[w] & b[w];
    if (common == 0) continue;
    int32_t* const block = degree + w * kPanelRows;
    if (__builtin_popcountll(common) <= kSparseBits) {
      for (; common != 0; common &= common - 1) --block[__builtin_ctzll(common)];
      continue;
    }
    for (int half = 0; half < 2; ++half) {
      const uint32_t bits = static_cast<uint32_t>(common >> (32 * half));
      for (uint32_t lane = 0; lane < 32; ++lane) {
        block[32 * half + lane] -= static_cast<int32_t>((bits >> lane) & 1u);
      }
    }
  }
}

int64_t first_largest(const int32_t* values, int64_t count) {
  int32_t largest = values[0];
  for (int64_t i = 0; i < count; ++i) largest = values[i] > largest ? values[i] : largest;
  for (int64_t base = 0; base < count; base += kPanelRows) {
    int32_t hits = 0;
    for (int i = 0; i < kPanelRows; ++i) hits += values[base + i] == largest;
    if (hits == 0) continue;
    int64_t i = base;
    while (values[i] != largest) ++i;
    return i;
  }
  return 0;
}

}  // namespace spindlekv::cpu::SKV_ISA
