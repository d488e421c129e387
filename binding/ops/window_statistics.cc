#include "binding/ops/window_statistics.h"

#include "binding/ops/op.h"

namespace spindlekv {

void read_window_statistics(const ObjectReader& reader, const WindowSizes& sizes,
                            SkvWindowScoresParams* params) {
  ScoreRows rows{sizes.query_heads, sizes.slots};
  params->sum = rows.read(reader, "sum");
  params->sum_sq = rows.read(reader, "sumSq");
  params->max = rows.read(reader, "max");
  params->stride = rows.stride;

  const TensorRule list = {.dtypes = dtype_bit(SKV_F32), .rank = 1, .is_contiguous = true};
  const TensorState* entropy = reader.tensor_or_null("entropy", list);
  reader.require_axis("entropy", entropy, 0, sizes.query_heads);
  const TensorState* lse = reader.tensor_or_null(
      "lse", {.dtypes = dtype_bit(SKV_F32), .rank = 2, .is_contiguous = true});
  reader.require_axis("lse", lse, 0, sizes.query_heads);
  reader.require_axis("lse", lse, 1, sizes.queries);
  params->entropy = pointer_of<float>(entropy);
  params->lse = pointer_of<float>(lse);
  params->nonfinite = read_counter(reader, "nonfinite");

  const TensorState* weights = reader.tensor_or_null("queryWeights", list);
  reader.require_axis("queryWeights", weights, 0, sizes.queries);
  params->query_weights = pointer_of<const float>(weights);
  params->entropy_context = reader.flag_or("entropyContext", false) ? 1 : 0;
}

}  // namespace spindlekv
