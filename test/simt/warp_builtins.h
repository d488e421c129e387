// Warp-level builtins of the SIMT test backend: every one is a rendezvous of the lanes in its mask.
//
// Each lane passes the address of its operands; the last lane to arrive computes the results of all
// lanes (see warp_rendezvous), so no lane can overtake another.
#pragma once

#include <type_traits>

#include "test/simt/block.h"

namespace spindlekv::simt {

template <typename T>
struct ShuffleOperand {
  T value;
  int source;  // lane to read; -1: keep the own value
};

template <typename T>
void resolve_shuffle(WarpCall& call) {
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    if (!call.has(lane)) continue;
    const auto* own = static_cast<const ShuffleOperand<T>*>(call.input[lane]);
    const int source = own->source < 0 ? lane : own->source;
    if (!call.has(source)) {
      fault("%s: lane %d reads lane %d, which mask %08x does not name", call.name, lane, source,
            call.mask);
    }
    *static_cast<T*>(call.output[lane]) =
        static_cast<const ShuffleOperand<T>*>(call.input[source])->value;
  }
}

template <typename T>
T shuffle(const char* name, unsigned mask, T value, int source, Site site) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
  const ShuffleOperand<T> operand{value, source};
  T result{};
  warp_rendezvous(name, mask, &operand, &result, resolve_shuffle<T>, site);
  return result;
}

inline void check_width(int width) {
  if (width < 1 || width > kWarpLanes || (width & (width - 1)) != 0) {
    fault("shuffle width: expected a power of two up to 32, got %d", width);
  }
}

unsigned ballot(const char* name, unsigned mask, int predicate, Site site);

template <typename T, typename Combine>
void resolve_reduce(WarpCall& call) {
  T total{};
  bool is_first = true;
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    if (!call.has(lane)) continue;
    const T value = *static_cast<const T*>(call.input[lane]);
    total = is_first ? value : Combine{}(total, value);
    is_first = false;
  }
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    if (call.has(lane)) *static_cast<T*>(call.output[lane]) = total;
  }
}

template <typename T>
void resolve_match_any(WarpCall& call) {
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    if (!call.has(lane)) continue;
    unsigned equal = 0;
    for (int other = 0; other < kWarpLanes; ++other) {
      if (call.has(other) &&
          *static_cast<const T*>(call.input[other]) == *static_cast<const T*>(call.input[lane])) {
        equal |= 1u << other;
      }
    }
    *static_cast<unsigned*>(call.output[lane]) = equal;
  }
}

struct CombineSum {
  template <typename T>
  T operator()(T a, T b) const {
    return static_cast<T>(a + b);
  }
};
struct CombineMin {
  template <typename T>
  T operator()(T a, T b) const {
    return b < a ? b : a;
  }
};
struct CombineMax {
  template <typename T>
  T operator()(T a, T b) const {
    return a < b ? b : a;
  }
};
struct CombineAnd {
  template <typename T>
  T operator()(T a, T b) const {
    return a & b;
  }
};
struct CombineOr {
  template <typename T>
  T operator()(T a, T b) const {
    return a | b;
  }
};
struct CombineXor {
  template <typename T>
  T operator()(T a, T b) const {
    return a ^ b;
  }
};

}  // namespace spindlekv::simt

#define SKV_SIMT_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncwarp(unsigned mask = 0xffffffffu, SKV_SIMT_SITE) {
  ::spindlekv::simt::warp_rendezvous("__syncwarp", mask, nullptr, nullptr, nullptr, {file, line});
}

template <typename T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, SKV_SIMT_SITE) {
  ::spindlekv::simt::check_width(width);
  const int segment = ::spindlekv::simt::current_lane() & ~(width - 1);
  return ::spindlekv::simt::shuffle("__shfl_sync", mask, value, segment + (source & (width - 1)),
                                    {file, line});
}
template <typename T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, SKV_SIMT_SITE) {
  ::spindlekv::simt::check_width(width);
  const int lane = ::spindlekv::simt::current_lane();
  const int source = lane - static_cast<int>(delta);
  const bool is_inside = source >= (lane & ~(width - 1));
  return ::spindlekv::simt::shuffle("__shfl_up_sync", mask, value, is_inside ? source : -1,
                                    {file, line});
}
template <typename T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, SKV_SIMT_SITE) {
  ::spindlekv::simt::check_width(width);
  const int lane = ::spindlekv::simt::current_lane();
  const int source = lane + static_cast<int>(delta);
  const bool is_inside = source < (lane & ~(width - 1)) + width;
  return ::spindlekv::simt::shuffle("__shfl_down_sync", mask, value, is_inside ? source : -1,
                                    {file, line});
}
template <typename T>
inline T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, SKV_SIMT_SITE) {
  ::spindlekv::simt::check_width(width);
  const int lane = ::spindlekv::simt::current_lane();
  const int source = lane ^ lane_mask;
  // Lanes may read from earlier segments, not from later ones.
  const bool is_inside = source < (lane & ~(width - 1)) + width;
  return ::spindlekv::simt::shuffle("__shfl_xor_sync", mask, value, is_inside ? source : -1,
                                    {file, line});
}

inline unsigned __ballot_sync(unsigned mask, int predicate, SKV_SIMT_SITE) {
  return ::spindlekv::simt::ballot("__ballot_sync", mask, predicate, {file, line});
}
inline int __any_sync(unsigned mask, int predicate, SKV_SIMT_SITE) {
  return ::spindlekv::simt::ballot("__any_sync", mask, predicate, {file, line}) != 0 ? 1 : 0;
}
inline int __all_sync(unsigned mask, int predicate, SKV_SIMT_SITE) {
  return ::spindlekv::simt::ballot("__all_sync", mask, predicate, {file, line}) == mask ? 1 : 0;
}

template <typename T>
inline unsigned __match_any_sync(unsigned mask, T value, SKV_SIMT_SITE) {
  unsigned result = 0;
  ::spindlekv::simt::warp_rendezvous("__match_any_sync", mask, &value, &result,
                                     ::spindlekv::simt::resolve_match_any<T>, {file, line});
  return result;
}

#define SKV_SIMT_REDUCE(name, Combine)                                                   \
  template <typename T>                                                                  \
  inline T name(unsigned mask, T value, SKV_SIMT_SITE) {                                 \
    static_assert(std::is_same_v<T, int> || std::is_same_v<T, unsigned>);                \
    T result{};                                                                          \
    ::spindlekv::simt::warp_rendezvous(                                                  \
        #name, mask, &value, &result,                                                    \
        ::spindlekv::simt::resolve_reduce<T, ::spindlekv::simt::Combine>, {file, line}); \
    return result;                                                                       \
  }
SKV_SIMT_REDUCE(__reduce_add_sync, CombineSum)
SKV_SIMT_REDUCE(__reduce_min_sync, CombineMin)
SKV_SIMT_REDUCE(__reduce_max_sync, CombineMax)
SKV_SIMT_REDUCE(__reduce_and_sync, CombineAnd)
SKV_SIMT_REDUCE(__reduce_or_sync, CombineOr)
SKV_SIMT_REDUCE(__reduce_xor_sync, CombineXor)
#undef SKV_SIMT_REDUCE
#undef SKV_SIMT_SITE
