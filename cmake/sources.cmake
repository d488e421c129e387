# Every source file of the native build, listed by hand nowhere else.
# Rewritten by `node scripts/check-sources.mjs --fix`.

# linked into every module
set(SKV_CORE_SOURCES
)

# the CPU backend, compiled once
set(SKV_CPU_SOURCES
)

# the CPU backend, compiled once per instruction set
set(SKV_CPU_ISA_SOURCES
)

# the CUDA backend, by nvcc, and by the host compiler for tests
set(SKV_CUDA_SOURCES
)

# the CUDA execution model on the host, for tests
set(SKV_SIMT_SOURCES
  test/simt/fiber.cc
)

# the Node-API addon
set(SKV_BINDING_SOURCES
)
