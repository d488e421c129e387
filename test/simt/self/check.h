// A test registry of forty lines for the SIMT test backend's own tests.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "core/status.h"

namespace spindlekv::simt_test {

struct Test {
  const char* name;
  void (*body)();
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

inline int& failures() {
  static int count = 0;
  return count;
}

struct Registration {
  Registration(const char* name, void (*body)()) { tests().push_back({name, body}); }
};

inline void report(const char* file, int line, const char* what) {
  ++failures();
  std::printf("  %s:%d: expected %s\n", file, line, what);
}

inline bool contains(const Status& status, const char* text) {
  if (std::strstr(status.message, text) != nullptr) return true;
  std::printf("  message was: %s\n", status.message);
  return false;
}

}  // namespace spindlekv::simt_test

// A test whose name is its claim in words.
#define SKV_TEST_JOIN(a, b) a##b
#define SKV_TEST_NAMED(claim, line)                                                     \
  static void SKV_TEST_JOIN(test_, line)();                                             \
  static const ::spindlekv::simt_test::Registration SKV_TEST_JOIN(registration_, line){ \
      claim, SKV_TEST_JOIN(test_, line)};                                               \
  static void SKV_TEST_JOIN(test_, line)()
#define SKV_TEST(claim) SKV_TEST_NAMED(claim, __LINE__)

#define SKV_EXPECT(condition)                                                         \
  do {                                                                                \
    if (!(condition)) ::spindlekv::simt_test::report(__FILE__, __LINE__, #condition); \
  } while (false)
