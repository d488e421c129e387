// The integer form of a problem's codewords, for the filter (cpu/isa/similarity_filter.h).
//
// Memory-bound: reads each codeword once. Nothing to do where the filter does not pay.
#include <algorithm>
#include <cstdint>

#include "cpu/build_codebook.h"

namespace spindlekv::cpu {

void quantise_codeword(const CodebookCall& call, const CodebookWork& work, int64_t c) {
  if (!call.filter.pays) return;
  const int32_t head_dim = call.params.head_dim;
  work.codeword_slacks[c] =
      call.filter.quantise_row(work.codewords + c * head_dim, head_dim, kUnitExponent,
                               work.codewords_quantised + c * head_dim);
}

CodewordList list_codewords(const CodebookCall& call, const CodebookWork& work) {
  CodewordList list{
      .values = work.codewords, .count = *work.problem->count, .head_dim = call.params.head_dim};
  if (!call.filter.pays) return list;
  const int32_t* const slacks = work.codeword_slacks;
  if (std::find(slacks, slacks + list.count, kNoSlack) != slacks + list.count) return list;
  list.quantised = work.codewords_quantised;
  list.slack = *std::max_element(slacks, slacks + list.count);
  return list;
}

}  // namespace spindlekv::cpu
