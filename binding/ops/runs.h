// Stored slots and RoPE tables in JavaScript's form -> the structs of core/types.h.
#pragma once

#include <cstdint>
#include <vector>

#include "binding/args.h"
#include "core/types.h"

namespace spindlekv {

// What the K and V of one call agree on; taken from the first run that is read. head_dim stays 0
// while only references and magnitudes have been seen.
struct KvShape {
  int32_t dtype = -1;
  int32_t head_dim = 0;
};

enum class RunUse {
  kRead,    // slots are read: `slots`, or as many as there are positions
  kMoved,   // like kRead, but codewords may be left out: references move, codewords stay
  kFilled,  // slots are written from some slot on: `slots` is not read
};

// Checks that every tensor of the run has room for its slots.
SkvRun read_run(const ObjectReader& reader, RunUse use, KvShape* shape);
// Fails unless a run that is filled has room for `count` slots from `first` on.
void require_room(const ObjectReader& reader, int64_t first, int64_t count);

// `heads`: a list of runs for every KV head, flattened.
struct HeadLists {
  std::vector<SkvRun> runs;
  std::vector<SkvHead> heads;
  int64_t most_slots = 0;
};
HeadLists read_heads(const ObjectReader& reader, const char* name, KvShape* shape);

// `rope`: { table, style }, or nothing.
SkvRope read_rope(const ObjectReader& reader, const char* name);

}  // namespace spindlekv
