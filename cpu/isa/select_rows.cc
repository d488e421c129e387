// Comparing a row of scores with a cut, a vector at a time.
#include "cpu/select_kernels.h"
#include "cpu/simd_compress.h"

namespace spindlekv::cpu::SKV_ISA {
namespace {

static_assert(kWidth <= kSelectSlack);

constexpr uint32_t kAllLanes = (1u << kWidth) - 1u;

// Calls use(vector, lanes, i) for scores[i ..], lanes being the bits of those that are there.
template <class Use>
void each_vector(const float* scores, int64_t count, const Use& use) {
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) use(load(scores + i), kAllLanes, i);
  if (i == count) return;
  float rest[kWidth] = {};
  for (int64_t lane = 0; i + lane < count; ++lane) rest[lane] = scores[i + lane];
  use(load(rest), (1u << (count - i)) - 1u, i);
}

Bracketed narrow(const float* scores, int64_t count, float low, float high, float* inside) {
  const Vec lows = splat(low), highs = splat(high);
  Bracketed found{0, 0};
  if (inside == nullptr) {
    each_vector(scores, count, [&](Vec x, uint32_t lanes, int64_t) {
      const uint32_t above_high = above(x, highs) & lanes;
      found.above += count_bits(above_high);
      found.inside += count_bits(at_least(x, lows) & lanes & ~above_high);
    });
  } else {
    each_vector(scores, count, [&](Vec x, uint32_t lanes, int64_t) {
      const uint32_t above_high = above(x, highs) & lanes;
      found.above += count_bits(above_high);
      found.inside += append(inside + found.inside, x, at_least(x, lows) & lanes & ~above_high);
    });
  }
  return found;
}

int64_t count_at_least(const float* scores, int64_t count, float pivot) {
  int64_t found = 0;
  if (pivot != pivot) {
    each_vector(scores, count, [&](Vec x, uint32_t lanes, int64_t) {
      found += count_bits(not_a_number(x) & lanes);
    });
  } else {
    const Vec pivots = splat(pivot);
    each_vector(scores, count, [&](Vec x, uint32_t lanes, int64_t) {
      found += count_bits(at_least(x, pivots) & lanes);
    });
  }
  return found;
}

int64_t below(const float* scores, int64_t count, float cut, float* rest) {
  if (cut != cut) return 0;
  const Vec cuts = splat(cut);
  int64_t found = 0;
  each_vector(scores, count, [&](Vec x, uint32_t lanes, int64_t) {
    found += append(rest + found, x, lanes & ~at_least(x, cuts));
  });
  return found;
}

// One row's cut while its vectors are looked at in order.
class Taker {
 public:
  explicit Taker(Cut* cut)
      : cut_(cut), pivots_(splat(cut->score)), is_nan_(cut->score != cut->score) {}

  // The lanes of x that are selected.
  uint32_t take(Vec x, uint32_t lanes) {
    const uint32_t better = is_nan_ ? ~not_a_number(x) : above(x, pivots_);
    const uint32_t tied = (is_nan_ ? not_a_number(x) : equal(x, pivots_)) & lanes;
    return (better & lanes) | (tied == 0 || cut_->ties == 0 ? 0 : first_ties(tied));
  }

 private:
  uint32_t first_ties(uint32_t tied) {
    const int n = count_bits(tied);
    if (n <= cut_->ties) {
      cut_->ties -= n;
      return tied;
    }
    uint32_t taken = 0;
    for (; cut_->ties > 0; --cut_->ties) {
      taken |= tied & (~tied + 1u);
      tied &= tied - 1u;
    }
    return taken;
  }

  Cut* const cut_;
  const Vec pivots_;
  const bool is_nan_;
};

int64_t select_slots(const float* scores, int64_t count, int32_t first_slot, Cut* cut,
                     const SelectedSlots& out) {
  Taker taker(cut);
  int64_t n = 0;
  each_vector(scores, count, [&](Vec x, uint32_t lanes, int64_t i) {
    n += append(out.indices + n, ascending(first_slot + static_cast<int32_t>(i)),
                taker.take(x, lanes));
  });
  for (int64_t i = 0; out.masks != nullptr && i < n; ++i) out.masks[i] = 1;
  return n;
}

// Slots whose masks are gathered before they are packed.
constexpr int64_t kUnionSlots = 512;

int64_t select_union(const float* scores, int64_t stride, int group, int64_t count,
                     int32_t first_slot, Cut* cuts, const SelectedSlots& out) {
  int64_t n = 0;
  int32_t marks[kUnionSlots];
  static_assert(sizeof(IntVec) == sizeof(int32_t) * kWidth);
  for (int64_t first = 0; first < count; first += kUnionSlots) {
    const int64_t slots = count - first < kUnionSlots ? count - first : kUnionSlots;
    for (int g = 0; g < group; ++g) {
      Taker taker(cuts + g);
      each_vector(scores + g * stride + first, slots, [&](Vec x, uint32_t lanes, int64_t i) {
        IntVec mark = splat_int(0);
        if (g > 0) memcpy(&mark, marks + i, sizeof(mark));
        mark = or_where(mark, taker.take(x, lanes), int32_t{1} << g);
        memcpy(marks + i, &mark, sizeof(mark));
      });
    }
    for (int64_t i = 0; i < slots; i += kWidth) {
      IntVec mark;
      memcpy(&mark, marks + i, sizeof(mark));
      const uint32_t taken = nonzero(mark);
      if (out.masks != nullptr) append(out.masks + n, mark, taken);
      n += append(out.indices + n, ascending(first_slot + static_cast<int32_t>(first + i)), taken);
    }
  }
  return n;
}

}  // namespace

extern const SelectKernels select_kernels = {narrow, count_at_least, below, select_slots,
                                             select_union};

}  // namespace spindlekv::cpu::SKV_ISA
