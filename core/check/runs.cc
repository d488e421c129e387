#include "core/check/runs.h"

#include <algorithm>

namespace spindlekv {

void check_codec(Checker* check, const SkvRun& run) {
  const bool known = run.codec == SKV_CODEC_RAW || run.codec == SKV_CODEC_CODEBOOK;
  check->require(known, "codec", "0 (raw) or 1 (codebook)", run.codec);
  if (run.codec != SKV_CODEC_CODEBOOK) return;
  check->require(run.ref_bytes == 2 || run.ref_bytes == 4, "ref_bytes", "2 or 4", run.ref_bytes);
}

void check_run_pointers(Checker* check, const SkvRun& run, int64_t slots, size_t element_bytes,
                        bool with_codewords) {
  if (slots <= 0) return;
  check->aligned("positions", run.positions, sizeof(int32_t));
  if (run.mask != nullptr) check->aligned("mask", run.mask, sizeof(uint16_t));
  if (run.beta != nullptr) check->aligned("beta", run.beta, sizeof(float));
  if (run.codec == SKV_CODEC_RAW) {
    check->aligned("k", run.k, kRowAlignment);
    check->aligned("v", run.v, kRowAlignment);
    return;
  }
  check->aligned("k_ref", run.k_ref, static_cast<size_t>(run.ref_bytes));
  check->aligned("v_ref", run.v_ref, static_cast<size_t>(run.ref_bytes));
  check->aligned("k_magnitude", run.k_magnitude, element_bytes);
  check->aligned("v_magnitude", run.v_magnitude, element_bytes);
  if (!with_codewords) return;
  const int64_t most = run.ref_bytes == 2 ? kMaxShortReference : INT32_MAX;
  check->range("k_codewords", run.k_codewords, 1, most);
  check->range("v_codewords", run.v_codewords, 1, most);
  check->aligned("k", run.k, kRowAlignment);
  check->aligned("v", run.v, kRowAlignment);
}

void check_heads(Checker* check, const HeadRules& rules, int64_t* most_slots) {
  *most_slots = 0;
  check->at_least("n_runs", rules.n_runs, 0);
  check->present("heads", rules.heads);
  if (rules.n_runs > 0) check->present("runs", rules.runs);
  for (int32_t h = 0; check->ok() && h < rules.kv_heads; ++h) {
    const SkvHead& head = rules.heads[h];
    check->enter("heads", h);
    check->range("first_run", head.first_run, 0, rules.n_runs);
    check->range("n_runs", head.n_runs, 0, static_cast<int64_t>(rules.n_runs) - head.first_run);
    int64_t slots = 0;
    for (int32_t r = 0; check->ok() && r < head.n_runs; ++r) {
      const SkvRun& run = rules.runs[head.first_run + r];
      check->enter("heads", h, r);
      check_codec(check, run);
      if (!check->ok()) return;
      check->at_least("slots", run.slots, 0);
      check->require(run.slot_base == slots, "slot_base", "the number of slots before the run",
                     run.slot_base);
      check->flag("rotated", run.rotated);
      check->require(rules.reindex == 0 || run.rotated == 0, "rotated",
                     "keys before RoPE (reindex turns them by their slot)", "rotated keys");
      check_run_pointers(check, run, run.slots, dtype_bytes(rules.dtype), true);
      slots += std::max(run.slots, 0);
    }
    check->enter("heads", h);
    check->require(head.slots == slots, "slots", "the sum of its runs' slots", head.slots);
    if (rules.reindex != 0 && rules.rope->cos_sin != nullptr) {
      check->range("slots", slots, 0, rules.rope->positions);
    }
    *most_slots = std::max(*most_slots, slots);
  }
  check->leave();
}

}  // namespace spindlekv
