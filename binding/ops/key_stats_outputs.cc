#include "binding/ops/key_stats_outputs.h"

#include "binding/ops/op.h"

namespace spindlekv {

void read_key_stats_outputs(const ObjectReader& reader, int64_t slots, SkvKeyStatsParams* params) {
  ScoreRows rows{params->kv_heads, slots};
  params->k_norm = rows.read(reader, "kNorm");
  params->cos_to_mean = rows.read(reader, "cosToMean");
  params->v_norm = rows.read(reader, "vNorm");
  params->v_l1 = rows.read(reader, "vL1");
  params->stride = rows.stride;
  params->nonfinite = read_counter(reader, "nonfinite");
}

}  // namespace spindlekv
