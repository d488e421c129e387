# One compilation of a source file per instruction set.
#
# skv_add_isa_variants(<target> <sources...>) adds an OBJECT library per instruction set to
# <target>. Each sees SKV_ISA=<name> (baseline, avx2, avx512), which the sources use as the name of
# the namespace that keeps the variants apart; the choice between them is made at run time, by code
# that sees SKV_HAS_ISA_<NAME>=1 for every variant that was compiled in.
#
# Call it after the target's other objects were added: where an inline function of the standard
# library is emitted in several objects, the linker keeps the first, and that one must run on every
# processor. So plain objects come first, then baseline, then the wider sets.

set(SKV_ISA_NAMES baseline)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$" AND NOT "${NODE_ARCH}" MATCHES "arm")
  list(APPEND SKV_ISA_NAMES avx2 avx512)
endif()
set(SKV_ISA_FLAGS_baseline "")
set(SKV_ISA_FLAGS_avx2 -mavx2 -mfma -mf16c)
set(SKV_ISA_FLAGS_avx512 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mf16c)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC's own AVX-512 header starts from an undefined vector on purpose (GCC bug 105593).
  list(APPEND SKV_ISA_FLAGS_avx512 -Wno-maybe-uninitialized -Wno-uninitialized)
endif()

# skv_define_isa_names(<target>): tells the dispatching code which variants exist.
function(skv_define_isa_names target)
  foreach(isa IN LISTS SKV_ISA_NAMES)
    string(TOUPPER ${isa} upper)
    target_compile_definitions(${target} PRIVATE SKV_HAS_ISA_${upper}=1)
  endforeach()
endfunction()

function(skv_add_isa_variants target)
  foreach(isa IN LISTS SKV_ISA_NAMES)
    set(variant ${target}_${isa})
    add_library(${variant} OBJECT ${ARGN})
    skv_configure(${variant})
    skv_define_isa_names(${variant})
    target_compile_options(${variant} PRIVATE ${SKV_ISA_FLAGS_${isa}})
    target_compile_definitions(${variant} PRIVATE SKV_ISA=${isa})
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:${variant}>)
  endforeach()
endfunction()
