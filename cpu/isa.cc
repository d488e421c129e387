// Asks the processor what it has and picks the instruction set of the kernels.
#include "cpu/isa.h"

#include <cstdlib>
#include <cstring>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace spindlekv::cpu {
namespace {

#if defined(SKV_HAS_ISA_AVX2)
bool has_f16c() {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}
#endif

#if defined(SKV_HAS_ISA_AVX512)
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif

bool is_available(Isa isa) {
  switch (isa) {
#if defined(SKV_HAS_ISA_AVX512)
    case Isa::kAvx512Vnni:
      return has_avx512() && __builtin_cpu_supports("avx512vnni");
    case Isa::kAvx512:
      return has_avx512();
#endif
#if defined(SKV_HAS_ISA_AVX2)
    case Isa::kAvx2:
      return has_avx2();
#endif
    case Isa::kBaseline:
      return true;
    default:
      return false;
  }
}

constexpr Isa kWidestFirst[] = {Isa::kAvx512Vnni, Isa::kAvx512, Isa::kAvx2, Isa::kBaseline};

std::string available_names() {
  std::string names;
  for (const Isa isa : kWidestFirst) {
    if (!is_available(isa)) continue;
    if (!names.empty()) names += ", ";
    names += isa_name(isa);
  }
  return names;
}

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kAvx512Vnni:
      return "avx512vnni";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kBaseline:
      break;
  }
#if defined(__aarch64__)
  return "neon";
#else
  return "baseline";
#endif
}

Status choose_isa(Isa* isa) {
  const char* forced = std::getenv("SPINDLEKV_CPU_ISA");
  for (const Isa candidate : kWidestFirst) {
    if (!is_available(candidate)) continue;
    const bool is_forced = forced != nullptr && *forced != '\0';
    // On AArch64 the baseline is NEON, so both names mean it.
    const bool is_named =
        is_forced && (std::strcmp(forced, isa_name(candidate)) == 0 ||
                      (candidate == Isa::kBaseline && std::strcmp(forced, "baseline") == 0));
    if (!is_forced || is_named) {
      *isa = candidate;
      return ok_status();
    }
  }
  return error_status(SKV_ARGUMENT, "open", "expected one of %s for SPINDLEKV_CPU_ISA, got %.40s",
                      available_names().c_str(), forced);
}

}  // namespace spindlekv::cpu
