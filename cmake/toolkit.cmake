# Finds the include directory of a CUDA toolkit without needing its compiler.
if(NOT SPINDLEKV_CUDA_INCLUDE)
  unset(skv_found_cuda_include CACHE)
  find_program(skv_nvcc nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES bin)
  get_filename_component(skv_nvcc_real "${skv_nvcc}" REALPATH)
  get_filename_component(skv_nvcc_bin "${skv_nvcc_real}" DIRECTORY)
  find_path(skv_found_cuda_include cuda_fp16.h
    HINTS ENV CUDA_HOME ENV CUDA_PATH "${skv_nvcc_bin}/.."
    PATHS /usr/local/cuda /opt/cuda /usr/lib/cuda /usr
    PATH_SUFFIXES include targets/x86_64-linux/include targets/sbsa-linux/include)
  if(NOT skv_found_cuda_include)
    message(FATAL_ERROR
      "spindlekv: SPINDLEKV_SIMT expected cuda_fp16.h of a CUDA toolkit, found none; set CUDA_HOME "
      "or SPINDLEKV_CUDA_INCLUDE")
  endif()
  set(SPINDLEKV_CUDA_INCLUDE "${skv_found_cuda_include}")
endif()
