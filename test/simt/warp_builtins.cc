// Votes of the SIMT test backend. See warp_builtins.h.
#include "test/simt/warp_builtins.h"

namespace spindlekv::simt {
namespace {

void resolve_ballot(WarpCall& call) {
  unsigned votes = 0;
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    if (call.has(lane) && *static_cast<const int*>(call.input[lane]) != 0) votes |= 1u << lane;
  }
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    if (call.has(lane)) *static_cast<unsigned*>(call.output[lane]) = votes;
  }
}

}  // namespace

unsigned ballot(const char* name, unsigned mask, int predicate, Site site) {
  unsigned votes = 0;
  warp_rendezvous(name, mask, &predicate, &votes, resolve_ballot, site);
  return votes;
}

}  // namespace spindlekv::simt
