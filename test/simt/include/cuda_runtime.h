// Stands in for the toolkit's cuda_runtime.h when cuda/ is built for the SIMT test backend.
//
// The runtime API (types and declarations) is the toolkit's own cuda_runtime_api.h, implemented by
// test/simt/runtime.cc; what the CUDA compiler itself would supply follows from device_builtins.h.
#pragma once

#if !defined(SKV_SIMT)
#error "this header is for the SIMT test backend: define SKV_SIMT"
#endif

#include <cuda_runtime_api.h>
#include <vector_functions.h>

#include "test/simt/device_builtins.h"
#include "test/simt/launch_kernel.h"
