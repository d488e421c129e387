// The matrix unit of x86-64 (AMX): eight registers of 16 rows of 64 bytes, products of bf16 pairs
// summed in f32, and products of fours of bytes summed in int32.
//
// As assembly, so that sources need not be compiled once more for processors that have it. All
// tiles have their full size, whatever they are used for.
#pragma once

#include <cstdint>

namespace spindlekv::cpu::SKV_ISA {

inline constexpr int kUnitRows = 16;   // of a tile
inline constexpr int kUnitBytes = 64;  // of a row: 16 floats, 16 pairs of bf16 or 64 bytes
inline constexpr int kUnitTileBytes = kUnitRows * kUnitBytes;

// The calling thread's unit is configured while one of these lives.
class TileUnit {
 public:
  TileUnit() {
    alignas(64) Config config = {};
    config.palette = 1;
    for (int i = 0; i < 8; ++i) {
      config.row_bytes[i] = kUnitBytes;
      config.rows[i] = kUnitRows;
    }
    asm volatile("ldtilecfg %0" : : "m"(config));
  }
  ~TileUnit() { asm volatile("tilerelease" : :); }
  TileUnit(const TileUnit&) = delete;
  TileUnit& operator=(const TileUnit&) = delete;

 private:
  struct Config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  };
};

template <int kTile>
static inline void tile_zero() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
}
// Rows `stride` bytes apart.
template <int kTile>
static inline void tile_load(const void* from, int64_t stride = kUnitBytes) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(kTile) : "memory");
}
template <int kTile>
static inline void tile_store(void* to, int64_t stride = kUnitBytes) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(kTile) : "memory");
}
// sum[m][n] += sum_j of both elements of a[m]'s pair j times those of b[j]'s pair n.
template <int kSum, int kA, int kB>
static inline void tile_dot() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kA), "i"(kB));
}
// sum[m][n] += sum_k of the four products of a[m]'s bytes 4 k + i with b[k]'s bytes 4 n + i.
template <int kSum, int kA, int kB>
static inline void tile_dot_bytes() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kA), "i"(kB));
}

}  // namespace spindlekv::cpu::SKV_ISA
