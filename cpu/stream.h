// Copies that go past the caches.
//
// A plain store first reads the line it writes to, so a copy larger than the caches moves three
// bytes for each one copied. Streaming stores move two, but what they write must be fetched again
// by whoever reads it soon: they are for results larger than a core's cache.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace spindlekv::cpu {

// Ops that write more than this stream their rows: the size of a large core's second-level cache.
inline constexpr int64_t kStreamBytes = int64_t{4} << 20;

// Both sides 16-byte aligned, `bytes` a multiple of 16.
static inline void stream_copy(void* out, const void* in, int64_t bytes) {
#if defined(__SSE2__)
  const auto* const from = static_cast<const __m128i*>(in);
  auto* const to = static_cast<__m128i*>(out);
  const int64_t lanes = bytes / 16;
  int64_t i = 0;
  for (; i + 4 <= lanes; i += 4) {
    const __m128i a = _mm_loadu_si128(from + i);
    const __m128i b = _mm_loadu_si128(from + i + 1);
    const __m128i c = _mm_loadu_si128(from + i + 2);
    const __m128i d = _mm_loadu_si128(from + i + 3);
    _mm_stream_si128(to + i, a);
    _mm_stream_si128(to + i + 1, b);
    _mm_stream_si128(to + i + 2, c);
    _mm_stream_si128(to + i + 3, d);
  }
  for (; i < lanes; ++i) _mm_stream_si128(to + i, _mm_loadu_si128(from + i));
#else
  std::memcpy(out, in, static_cast<size_t>(bytes));
#endif
}

// True if rows of that many bytes may be streamed to `out`.
static inline bool can_stream(const void* out, int64_t row_bytes) {
  return row_bytes % 16 == 0 && reinterpret_cast<uintptr_t>(out) % 16 == 0;
}

// After the last streaming store of a task, before another thread may read.
static inline void finish_stream() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace spindlekv::cpu
