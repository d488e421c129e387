// Seeds of the SIMT test backend. See random.h.
#include "test/simt/random.h"

#include <atomic>
#include <cstdlib>

namespace spindlekv::simt {

uint64_t launch_seed() {
  static std::atomic<uint64_t> launches{0};
  static const uint64_t process_seed = [] {
    const char* text = std::getenv("SPINDLEKV_SIMT_SEED");
    return text == nullptr ? uint64_t{1} : std::strtoull(text, nullptr, 10);
  }();
  return process_seed * 0x2545f4914f6cdd1dull + launches.fetch_add(1);
}

}  // namespace spindlekv::simt
