// The shared memory of one launch: its variables, their poison, and their race checks.
//
// Every variable is allocated to the exact byte, so that a sanitizer sees an overrun, and is used
// by one block after the other.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <vector>

#include "test/simt/race.h"

namespace spindlekv::simt {

class SharedMemory {
 public:
  // False when there is no memory for the dynamic part.
  bool reserve_dynamic(size_t bytes);

  // Fills everything with poison, for the next block.
  void poison();

  // The static variable `key`, made at its first use. Faults when the limits are passed.
  void* static_variable(const void* key, size_t bytes, size_t align);

  // Faults when the launch asked for none.
  void* dynamic();

  // True when all the bytes lie in one variable.
  bool holds(const void* address, size_t bytes) { return find(address, bytes) != nullptr; }

  // Faults when the access races with an earlier one; accesses outside are not looked at.
  void check_race(const void* address, size_t bytes, Access access, const Touch& now);

 private:
  struct FreeDeleter {
    void operator()(void* memory) const { std::free(memory); }
  };
  struct Variable {
    const void* key = nullptr;
    size_t bytes = 0;
    std::unique_ptr<void, FreeDeleter> memory;
    ShadowMemory shadow;
  };

  static bool allocate(Variable& variable, size_t bytes, size_t align);
  Variable* find(const void* address, size_t bytes);

  std::vector<Variable> static_;
  size_t static_bytes_ = 0;
  Variable dynamic_;
};

}  // namespace spindlekv::simt
