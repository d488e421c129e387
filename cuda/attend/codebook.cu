// Starting the kernels of codebook runs (codebook.h): which for which dtype and head dim.
#include "cuda/attend/codebook.h"

#include "cuda/attend/codebook_products.cuh"
#include "cuda/attend/codebook_turned.cuh"
#include "cuda/attend/codebook_values.cuh"
#include "cuda/attend/params.h"

namespace spindlekv::cuda {
namespace {

template <typename Turned>
Status launch_rows(const AttendArgs& args, const CodebookTotals& totals, cudaStream_t stream) {
  return launch<codebook_turned_kernel<Turned>>("attend", {totals.turned_blocks},
                                                dim3(kTurnedThreads), sizeof(TurnedShared<Turned>),
                                                stream, args);
}

template <typename Traits>
Status launch_turned(const AttendArgs& args, const CodebookTotals& totals, cudaStream_t stream) {
  using Elem = typename Traits::Elem;
  if (totals.turned_blocks == 0) return ok_status();
  if constexpr (Traits::kMaxDim <= kMostTurnedDim && !std::is_same_v<Elem, float>) {
    const auto launch_of =
        totals.turned_pitch == 4   ? launch_rows<TurnedTraits<Elem, Traits::kMaxDim, 4>>
        : totals.turned_pitch == 8 ? launch_rows<TurnedTraits<Elem, Traits::kMaxDim, 8>>
                                   : launch_rows<TurnedTraits<Elem, Traits::kMaxDim, 16>>;
    return launch_of(args, totals, stream);
  }
  return error_status(SKV_INTERNAL, "attend",
                      "expected no codebook to turn of f32 or head_dim over %d, got %d blocks",
                      kMostTurnedDim, static_cast<int>(totals.turned_blocks));
}

template <typename Traits>
Status launch_codebooks(const AttendArgs& args, const CodebookTotals& totals, cudaStream_t stream) {
  SKV_RETURN_IF_ERROR(launch<codebook_products_kernel<Traits>>(
      "attend", {totals.product_blocks}, dim3(kProductThreads), sizeof(ProductShared<Traits>),
      stream, args));
  SKV_RETURN_IF_ERROR(launch<codebook_gather_kernel<typename Traits::Elem>>(
      "attend", {totals.gather_blocks}, dim3(kProductThreads), 0, stream, args));
  SKV_RETURN_IF_ERROR(launch_turned<Traits>(args, totals, stream));
  return launch<codebook_values_kernel<Traits>>(
      "attend", {totals.value_blocks}, dim3(kValueThreads), sizeof(ValueShared), stream, args);
}

struct CodebookEntry {
  int32_t dtype;
  int32_t max_head_dim;
  Status (*launch)(const AttendArgs&, const CodebookTotals&, cudaStream_t);
};

template <typename Elem, int kLanes>
constexpr CodebookEntry entry() {
  using Traits = CodebookTraits<Elem, kLanes>;
  return {kDTypeOf<Elem>, Traits::kMaxDim, launch_codebooks<Traits>};
}

// Smallest head dim first within a dtype.
constexpr CodebookEntry kTable[] = {
    entry<float, 8>(), entry<float, 16>(), entry<float, 32>(), entry<f16, 8>(),   entry<f16, 16>(),
    entry<f16, 32>(),  entry<bf16, 8>(),   entry<bf16, 16>(),  entry<bf16, 32>(),
};

}  // namespace

Status attend_codebooks(const AttendArgs& args, int32_t dtype, const CodebookTotals& totals,
                        cudaStream_t stream) {
  if (args.n_codebooks == 0) return ok_status();
  for (const CodebookEntry& candidate : kTable) {
    if (candidate.dtype == dtype && args.head_dim <= candidate.max_head_dim) {
      return candidate.launch(args, totals, stream);
    }
  }
  return error_status(SKV_UNSUPPORTED, "attend",
                      "expected codebook runs of f32, f16 or bf16 and head_dim <= %d, got dtype "
                      "%d, head_dim %d",
                      kMostCodebookDim, dtype, args.head_dim);
}

}  // namespace spindlekv::cuda
