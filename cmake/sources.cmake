# Every source file of the native build, listed by hand nowhere else.
# Rewritten by `node scripts/check-sources.mjs --fix`.

# linked into every module
set(SKV_CORE_SOURCES
  core/check/append_kv.cc
  core/check/attend.cc
  core/check/build_codebook.cc
  core/check/checker.cc
  core/check/compact.cc
  core/check/nearest_codeword.cc
  core/check/pool_scores.cc
  core/check/reduce_by_label.cc
  core/check/reduce_group.cc
  core/check/rope.cc
  core/check/runs.cc
  core/check/select_topk.cc
  core/check/window_scores.cc
  core/draft.cc
  core/encode.cc
  core/gather.cc
  core/memory.cc
  core/page_pool.cc
  core/rope_table.cc
  core/segment.cc
  core/store.cc
)

# the CPU backend, compiled once
set(SKV_CPU_SOURCES
  cpu/backend.cc
  cpu/device.cc
  cpu/isa.cc
  cpu/thread_pool.cc
)

# the CPU backend, compiled once per instruction set
set(SKV_CPU_ISA_SOURCES
  cpu/isa/similarity.cc
  cpu/isa/similarity_bits.cc
  cpu/isa/similarity_rows.cc
)

# the CUDA backend, by nvcc, and by the host compiler for tests
set(SKV_CUDA_SOURCES
  cuda/common/status.cu
)

# the CUDA execution model on the host, for tests
set(SKV_SIMT_SOURCES
  test/simt/async_copy.cc
  test/simt/block.cc
  test/simt/fiber.cc
  test/simt/random.cc
  test/simt/runtime.cc
  test/simt/warp_builtins.cc
)

# the Node-API addon
set(SKV_BINDING_SOURCES
)
