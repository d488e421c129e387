// The instruction sets that the CPU backend is compiled for, and the choice between them at run
// time.
//
// Every source under cpu/isa/ is compiled once per instruction set with SKV_ISA set to its name.
// Such a source defines its functions inside `namespace spindlekv::cpu::SKV_ISA` (or an unnamed
// namespace), so that no function compiled for a wide machine can be linked in place of a narrow
// one, and hands them out through a table of function pointers. SKV_DECLARE_ISA_TABLE declares that
// table for the callers.
#pragma once

#include "core/status.h"

namespace spindlekv::cpu {

// kBaseline is what the compiler assumes without flags: SSE2 on x86-64, NEON on AArch64.
// kAvx512Vnni is kAvx512 on a processor that also multiplies int16 pairs in one instruction, kAmx
// that on one with a matrix unit for bf16 and bytes; only the kernels that use those tell them
// apart.
enum class Isa { kBaseline, kAvx2, kAvx512, kAvx512Vnni, kAmx };

// "baseline" ("neon" on AArch64), "avx2", "avx512", "avx512vnni" or "amx".
const char* isa_name(Isa isa);

// The widest instruction set that this build and this processor have; SPINDLEKV_CPU_ISA forces one.
// A process has to ask Linux for the registers of AMX, which choosing it does.
Status choose_isa(Isa* isa);

}  // namespace spindlekv::cpu

#if defined(SKV_HAS_ISA_AVX2) && defined(SKV_HAS_ISA_AVX512)
#define SKV_DECLARE_ISA_TABLE(Table, name)                  \
  namespace baseline {                                      \
  extern const Table name;                                  \
  }                                                         \
  namespace avx2 {                                          \
  extern const Table name;                                  \
  }                                                         \
  namespace avx512 {                                        \
  extern const Table name;                                  \
  }                                                         \
  static inline const Table& name##_for(Isa isa) {          \
    if (isa >= Isa::kAvx512) return avx512::name;           \
    return isa == Isa::kAvx2 ? avx2::name : baseline::name; \
  }
#else
#define SKV_DECLARE_ISA_TABLE(Table, name) \
  namespace baseline {                     \
  extern const Table name;                 \
  }                                        \
  static inline const Table& name##_for(Isa) { return baseline::name; }
#endif
