// Warp matrix products on tensor cores: D[16 x 8] += A[16 x 16] B[16 x 8], f32 accumulation.
//
// Fragments (PTX ISA, mma.m16n8k16; g = lane / 4, t = lane % 4; each 32-bit register holds two
// neighbouring 16-bit elements, the lower index in the lower half):
//   a[0] = A[g][2t..]  a[1] = A[g+8][2t..]  a[2] = A[g][2t+8..]  a[3] = A[g+8][2t+8..]
//   b[0] = B[2t..][g]  b[1] = B[2t+8..][g]
//   d[0], d[1] = D[g][2t], D[g][2t+1]       d[2], d[3] = D[g+8][2t], D[g+8][2t+1]
// The order of the sum inside one product is the hardware's own, so results of these functions must
// not feed a decision that core/canonical.h makes exact. All 32 lanes call together.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "cuda/common/convert.cuh"
#include "cuda/common/reduce.cuh"

namespace spindlekv::cuda {

#if defined(SKV_SIMT)

namespace detail {

struct MmaOperand {
  uint32_t a[4];
  uint32_t b[2];
  float* d;
};

template <typename Elem>
inline float packed_element(uint32_t packed, int half) {
  const auto bits = static_cast<uint16_t>(packed >> (16 * half));
  return to_float(std::bit_cast<Elem>(bits));
}

template <typename Elem>
inline void resolve_mma(simt::WarpCall& call) {
  float a[16][16];
  float b[16][8];
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const auto* operand = static_cast<const MmaOperand*>(call.input[lane]);
    const int group = lane / 4;
    const int column = lane % 4 * 2;
    for (int half = 0; half < 2; ++half) {
      for (int part = 0; part < 4; ++part) {
        a[group + part % 2 * 8][column + part / 2 * 8 + half] =
            packed_element<Elem>(operand->a[part], half);
      }
      for (int part = 0; part < 2; ++part) {
        b[column + part * 8 + half][group] = packed_element<Elem>(operand->b[part], half);
      }
    }
  }
  for (int lane = 0; lane < kWarpSize; ++lane) {
    float* d = static_cast<const MmaOperand*>(call.input[lane])->d;
    for (int part = 0; part < 4; ++part) {
      const int row = lane / 4 + part / 2 * 8;
      const int column = lane % 4 * 2 + part % 2;
      double sum = d[part];
      for (int k = 0; k < 16; ++k) sum += double{a[row][k]} * double{b[k][column]};
      d[part] = static_cast<float>(sum);
    }
  }
}

struct LdmatrixOperand {
  const void* row;
  uint32_t* registers;
};

template <bool kTransposed>
inline void resolve_ldmatrix_x4(simt::WarpCall& call) {
  uint16_t element[4][8][8];
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const auto* operand = static_cast<const LdmatrixOperand*>(call.input[lane]);
    simt::copy_unseen(element[lane / 8][lane % 8], operand->row, 16);
  }
  for (int lane = 0; lane < kWarpSize; ++lane) {
    uint32_t* registers = static_cast<const LdmatrixOperand*>(call.input[lane])->registers;
    const int row = lane / 4;
    const int column = lane % 4 * 2;
    for (int matrix = 0; matrix < 4; ++matrix) {
      const auto& m = element[matrix];
      const uint32_t low = kTransposed ? m[column][row] : m[row][column];
      const uint32_t high = kTransposed ? m[column + 1][row] : m[row][column + 1];
      registers[matrix] = low | (high << 16);
    }
  }
}

template <bool kTransposed>
inline void ldmatrix_x4(uint32_t (&registers)[4], const void* row) {
  simt::check_aligned(row, 16, "ldmatrix row");
  if (!simt::is_shared(row, 16)) simt::fault("ldmatrix: the row is not in shared memory");
  simt::note_access(row, 16, simt::Access::kRead, __builtin_return_address(0));
  const LdmatrixOperand operand{row, registers};
  simt::warp_rendezvous(kTransposed ? "ldmatrix.trans" : "ldmatrix", kAllLanes, &operand, nullptr,
                        resolve_ldmatrix_x4<kTransposed>, {__FILE__, __LINE__});
}

}  // namespace detail

template <typename Elem>
inline void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const detail::MmaOperand operand{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}, d};
  simt::warp_rendezvous("mma.sync", kAllLanes, &operand, nullptr, detail::resolve_mma<Elem>,
                        {__FILE__, __LINE__});
}

inline void ldmatrix_x4(uint32_t (&registers)[4], const void* row) {
  detail::ldmatrix_x4<false>(registers, row);
}

inline void ldmatrix_x4_transposed(uint32_t (&registers)[4], const void* row) {
  detail::ldmatrix_x4<true>(registers, row);
}

#else

// d += A B for one 16 x 8 tile; Elem is f16 or bf16.
template <typename Elem>
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2]) {
  if constexpr (std::is_same_v<Elem, f16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    static_assert(std::is_same_v<Elem, bf16>);
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
}

// Four 8 x 8 tiles of 16-bit elements from shared memory: lane i gives the address of row i % 8 of
// tile i / 8 (16 bytes, aligned); register m of lane i gets elements [i / 4][2 (i % 4) + {0, 1}] of
// tile m.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&registers)[4], const void* row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
               : "r"(address)
               : "memory");
}

// As ldmatrix_x4 with each tile transposed: elements [2 (i % 4) + {0, 1}][i / 4].
__device__ __forceinline__ void ldmatrix_x4_transposed(uint32_t (&registers)[4], const void* row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
               : "r"(address)
               : "memory");
}

#endif

}  // namespace spindlekv::cuda
