# Finds the include directory of a CUDA toolkit without needing its compiler.
if(NOT SPINDLEKV_CUDA_INCLUDE)
  unset(skv_found_cuda_include CACHE)
  find_path(skv_found_cuda_include cuda_fp16.h
    HINTS ENV CUDA_HOME ENV CUDA_PATH
    PATHS /usr/local/cuda /opt/cuda /usr/lib/cuda /usr
    PATH_SUFFIXES include targets/x86_64-linux/include targets/sbsa-linux/include)
  if(NOT skv_found_cuda_include)
    message(FATAL_ERROR
      "spindlekv: SPINDLEKV_SIMT expected cuda_fp16.h of a CUDA toolkit, found none; set CUDA_HOME "
      "or SPINDLEKV_CUDA_INCLUDE")
  endif()
  set(SPINDLEKV_CUDA_INCLUDE "${skv_found_cuda_include}")
endif()
