# Every source file of the native build, listed by hand nowhere else.
# Rewritten by `node scripts/check-sources.mjs --fix`.

# linked into every module
set(SKV_CORE_SOURCES
  core/append.cc
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
  core/insert.cc
  core/loader.cc
  core/memory.cc
  core/page_pool.cc
  core/query_log.cc
  core/rope_table.cc
  core/segment.cc
  core/snapshot.cc
  core/step.cc
  core/store.cc
)

# the CPU backend, compiled once
set(SKV_CPU_SOURCES
  cpu/append_kv.cc
  cpu/attend.cc
  cpu/attend_batch.cc
  cpu/attend_plan.cc
  cpu/backend.cc
  cpu/build_codebook.cc
  cpu/build_codebook_codewords.cc
  cpu/build_codebook_cover.cc
  cpu/build_codebook_emit.cc
  cpu/build_codebook_graph.cc
  cpu/build_codebook_refine.cc
  cpu/build_codebook_rows.cc
  cpu/compact.cc
  cpu/device.cc
  cpu/isa.cc
  cpu/nearest_codeword.cc
  cpu/pool_scores.cc
  cpu/reduce_by_label.cc
  cpu/reduce_group.cc
  cpu/rope.cc
  cpu/select_cut.cc
  cpu/select_topk.cc
  cpu/similarity_search.cc
  cpu/slot_tile.cc
  cpu/thread_pool.cc
  cpu/window_scores.cc
)

# the CPU backend, compiled once per instruction set
set(SKV_CPU_ISA_SOURCES
  cpu/isa/attend_block.cc
  cpu/isa/attend_merge.cc
  cpu/isa/attend_stream.cc
  cpu/isa/row_kernels.cc
  cpu/isa/score_rows.cc
  cpu/isa/select_rows.cc
  cpu/isa/similarity.cc
  cpu/isa/similarity_bits.cc
  cpu/isa/similarity_filter.cc
  cpu/isa/similarity_rows.cc
  cpu/isa/window_scores.cc
)

# the CUDA backend, by nvcc, and by the host compiler for tests
set(SKV_CUDA_SOURCES
  cuda/append_kv/append_kv.cu
  cuda/attend/attend.cu
  cuda/attend/plan.cu
  cuda/attend_batch/attend_batch.cu
  cuda/backend.cu
  cuda/build_codebook/build_codebook.cu
  cuda/common/device.cu
  cuda/common/staging.cu
  cuda/common/status.cu
  cuda/compact/compact.cu
  cuda/nearest_codeword/nearest_codeword.cu
  cuda/pool_scores/pool_scores.cu
  cuda/reduce_by_label/reduce_by_label.cu
  cuda/reduce_group/reduce_group.cu
  cuda/rope/rope.cu
  cuda/select_topk/select_topk.cu
  cuda/window_scores/window_scores.cu
)

# the CUDA execution model on the host, for tests
set(SKV_SIMT_SOURCES
  test/simt/async_copy.cc
  test/simt/block.cc
  test/simt/fiber.cc
  test/simt/race.cc
  test/simt/race_hooks.cc
  test/simt/random.cc
  test/simt/runtime.cc
  test/simt/shared_memory.cc
  test/simt/warp_builtins.cc
)

# the Node-API addon
set(SKV_BINDING_SOURCES
  binding/addon.cc
  binding/args.cc
  binding/attend_by_numbers.cc
  binding/convert.cc
  binding/device.cc
  binding/draft.cc
  binding/environment.cc
  binding/errors.cc
  binding/export.cc
  binding/job.cc
  binding/ops/append_kv.cc
  binding/ops/attend.cc
  binding/ops/attend_arguments.cc
  binding/ops/attend_batch.cc
  binding/ops/build_codebook.cc
  binding/ops/compact.cc
  binding/ops/nearest_codeword.cc
  binding/ops/pool_scores.cc
  binding/ops/reduce_by_label.cc
  binding/ops/reduce_group.cc
  binding/ops/rope.cc
  binding/ops/runs.cc
  binding/ops/select_topk.cc
  binding/ops/window_scores.cc
  binding/pool.cc
  binding/rope_options.cc
  binding/store.cc
  binding/store_stats.cc
  binding/store_step.cc
  binding/tensor.cc
  binding/tensor_copy.cc
)
