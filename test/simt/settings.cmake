# skv_configure_simt(<target>): compiles kernels with the host compiler on the execution model of
# test/simt/. Expects SPINDLEKV_CUDA_INCLUDE (cmake/toolkit.cmake).
function(skv_configure_simt target)
  target_compile_definitions(${target} PRIVATE SKV_SIMT=1)
  # The execution model's cuda_runtime.h stands in for the toolkit's.
  target_include_directories(${target} BEFORE PRIVATE "${PROJECT_SOURCE_DIR}/test/simt/include")
  target_include_directories(${target} SYSTEM PRIVATE "${SPINDLEKV_CUDA_INCLUDE}")
  target_compile_options(${target} PRIVATE
    -fno-strict-aliasing    # kernels read and write 16 bytes at a time through casts, as nvcc allows
    -Wno-unknown-pragmas    # unroll
    -march=native)          # inline fmaf; the library never leaves the machine it was built on
endfunction()
