# libspindlekv_cuda: cuda/ compiled by nvcc, with the CUDA runtime linked statically so that the
# module needs no toolkit to load, and loads (and says so) without a driver.

# Set before the language is enabled: the default of CMake 3.25 is sm_52, which nvcc 13 rejects.
set(CMAKE_CUDA_ARCHITECTURES "")
foreach(arch IN LISTS SPINDLEKV_CUDA_ARCHITECTURES)
  list(APPEND CMAKE_CUDA_ARCHITECTURES ${arch}-real)
endforeach()
enable_language(CUDA)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.8)
  message(FATAL_ERROR
    "spindlekv: expected nvcc 12.8 or newer (sm_100 and sm_120), got ${CMAKE_CUDA_COMPILER_VERSION}")
endif()

skv_add_backend(spindlekv_cuda)
target_sources(spindlekv_cuda PRIVATE ${SKV_CUDA_SOURCES})
target_link_libraries(spindlekv_cuda PRIVATE skv_core)
set_target_properties(spindlekv_cuda PROPERTIES
  CUDA_VISIBILITY_PRESET hidden
  CUDA_RUNTIME_LIBRARY Static)

# --fmad=false: see SKV_FLOAT_FLAGS. Register spills are warnings, and warnings are errors.
# The language level is a flag because CMake 3.25 does not know that nvcc 13 has C++20.
set(skv_nvcc_flags -std=c++20 --fmad=false -lineinfo --compress-mode=size -Xptxas=-warn-spills
  -Xcompiler=-ffp-contract=off,-Wall,-Wextra)
if(SPINDLEKV_WERROR)
  list(APPEND skv_nvcc_flags -Werror=all-warnings -Xcompiler=-Werror)
endif()
target_compile_options(spindlekv_cuda PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${skv_nvcc_flags}>")
