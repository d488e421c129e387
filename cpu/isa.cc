// Asks the processor what it has and picks the instruction set of the kernels.
#include "cpu/isa.h"

#include <cstdlib>
#include <cstring>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
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

#if defined(SKV_HAS_ISA_AVX512)
bool has_vnni() { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }

#if defined(__linux__)
// The processor multiplies tiles of bf16 and of bytes, the system saves their registers, and lets
// this process use them: all its threads from then on, for the rest of its life.
bool has_amx() {
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24, kAmxInt8 = 1u << 25;
  constexpr unsigned kAmx = kAmxBf16 | kAmxTile | kAmxInt8;
  constexpr unsigned kTileState = 3u << 17;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  unsigned eax, ebx, ecx, edx;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  if ((edx & kAmx) != kAmx) return false;
  unsigned low, high;
  asm("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & kTileState) == kTileState &&
         syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#else
bool has_amx() { return false; }
#endif
#endif

bool is_available(Isa isa) {
  switch (isa) {
#if defined(SKV_HAS_ISA_AVX512)
    case Isa::kAmx:
      return has_vnni() && has_amx();
    case Isa::kAvx512Vnni:
      return has_vnni();
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

constexpr Isa kWidestFirst[] = {Isa::kAmx, Isa::kAvx512Vnni, Isa::kAvx512, Isa::kAvx2,
                                Isa::kBaseline};

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
    case Isa::kAmx:
      return "amx";
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
  const bool is_forced = forced != nullptr && *forced != '\0';
  for (const Isa candidate : kWidestFirst) {
    // On AArch64 the baseline is NEON, so both names mean it.
    const bool is_named =
        is_forced && (std::strcmp(forced, isa_name(candidate)) == 0 ||
                      (candidate == Isa::kBaseline && std::strcmp(forced, "baseline") == 0));
    // Asked only of those that may be taken: asking for AMX is a system call with an effect.
    if ((!is_forced || is_named) && is_available(candidate)) {
      *isa = candidate;
      return ok_status();
    }
  }
  return error_status(SKV_ARGUMENT, "open", "expected one of %s for SPINDLEKV_CPU_ISA, got %.40s",
                      available_names().c_str(), forced);
}

}  // namespace spindlekv::cpu
