// Runs the SIMT test backend's own tests: `spindlekv_simt_test [part of a name]`.
#include "test/simt/self/check.h"

int main(int count, char** arguments) {
  using namespace spindlekv::simt_test;
  int ran = 0;
  int failed = 0;
  for (const Test& test : tests()) {
    if (count > 1 && std::strstr(test.name, arguments[1]) == nullptr) continue;
    const int before = failures();
    test.body();
    const bool is_good = failures() == before;
    std::printf("%s - %s\n", is_good ? "ok" : "not ok", test.name);
    ++ran;
    failed += is_good ? 0 : 1;
  }
  std::printf("%d tests, %d failed\n", ran, failed);
  return failed == 0 && ran > 0 ? 0 : 1;
}
