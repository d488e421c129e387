# skv_configure_simt(<target>): compiles kernels with the host compiler on the execution model of
# test/simt/. Expects SPINDLEKV_CUDA_INCLUDE (cmake/toolkit.cmake).
option(SPINDLEKV_SIMT_RACES "Check the SIMT backend's shared memory for races (slower)" OFF)

function(skv_configure_simt target)
  target_compile_definitions(${target} PRIVATE SKV_SIMT=1)
  # The execution model's cuda_runtime.h stands in for the toolkit's.
  target_include_directories(${target} BEFORE PRIVATE "${PROJECT_SOURCE_DIR}/test/simt/include")
  target_include_directories(${target} SYSTEM PRIVATE "${SPINDLEKV_CUDA_INCLUDE}")
  target_compile_options(${target} PRIVATE
    -fno-strict-aliasing    # kernels read and write 16 bytes at a time through casts, as nvcc allows
    -Wno-unknown-pragmas    # unroll
    -march=native)          # inline fmaf; the library never leaves the machine it was built on
  target_link_libraries(${target} PRIVATE ${CMAKE_DL_LIBS})
  # Not the backend's own tests: they hold races on purpose, and one file of them is checked anyway.
  get_target_property(type ${target} TYPE)
  if(SPINDLEKV_SIMT_RACES AND NOT SPINDLEKV_SANITIZE AND NOT type STREQUAL EXECUTABLE)
    # The compiler's half of the sanitizer, on kernels only: test/simt/race_hooks.cc is its run time.
    target_compile_options(${target} PRIVATE -fsanitize=thread -g1)
    list(TRANSFORM SKV_SIMT_SOURCES PREPEND "${PROJECT_SOURCE_DIR}/" OUTPUT_VARIABLE skv_model)
    set_source_files_properties(${skv_model} PROPERTIES COMPILE_OPTIONS -fno-sanitize=thread)
  endif()
endfunction()
