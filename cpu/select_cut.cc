// Bracketing and bisecting, see cpu/select_cut.h. Costs about one and a half passes over the
// scores; at worst, for few different values that a sample does not tell apart, 32 counting passes
// more.
#include "cpu/select_cut.h"

#include <algorithm>
#include <cmath>

#include "core/canonical.h"

namespace spindlekv::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

constexpr int64_t kSample = 512;
constexpr int64_t kFew = 8 * kSample;  // so many are bisected at once
constexpr double kDeviations = 3.0;    // a bracket misses about once in 400 times

struct Bracket {
  float low, high;
};
constexpr Bracket kAllNumbers{-kInfinity, kInfinity};

class CutFinder {
 public:
  CutFinder(const SelectKernels& kernels, ScoreSpan* spans, int64_t n_spans)
      : kernels_(kernels), spans_(spans), n_spans_(n_spans) {
    for (int64_t i = 0; i < n_spans; ++i) {
      total_ += spans[i].count;
      is_in_rooms_ = is_in_rooms_ || spans[i].scores == spans[i].room;
    }
  }

  Cut find(int64_t wanted) {
    if (wanted <= 0) return kCutNothing;
    if (wanted >= total_) return kCutEverything;
    Bracket limits = kAllNumbers;  // all numbers among the scores are inside
    while (total_ > kFew) {
      const int64_t before = total_;
      const Bracket guess = bracket(wanted);
      const bool is_one = guess.low == guess.high;
      const bool copies = !is_one && !is_in_rooms_;  // in its room a missed score would be lost
      const Bracketed found = narrow(guess, copies);
      const int64_t not_below = found.above + found.inside;
      if (found.above >= wanted) {  // missed: the cut is above
        limits.low = std::nextafter(guess.high, kInfinity);
        keep(limits);
      } else if (not_below < wanted) {  // missed: it is below, or NaN
        wanted -= not_below;
        limits.high = std::nextafter(guess.low, -kInfinity);
        const int64_t numbers = guess.low == -kInfinity ? 0 : narrow(limits, false).inside;
        if (numbers < wanted) return {kNan, wanted - numbers};
        keep(limits);
      } else if (is_one) {
        return {guess.low, wanted - found.above};
      } else {
        wanted -= found.above;
        limits = guess;
        if (copies) {
          use_rooms();
        } else {
          keep(limits);
        }
      }
      if (total_ > before / 2) break;  // few different values
    }
    return bisect(wanted, limits);
  }

 private:
  // Counts; with `copies` also copies what is inside to the rooms.
  Bracketed narrow(const Bracket& bracket, bool copies) {
    Bracketed sum{0, 0};
    for (int64_t i = 0; i < n_spans_; ++i) {
      ScoreSpan& span = spans_[i];
      const Bracketed found = kernels_.narrow(span.scores, span.count, bracket.low, bracket.high,
                                              copies ? span.room : nullptr);
      sum.above += found.above;
      sum.inside += found.inside;
      span.kept = found.inside;
    }
    return sum;
  }

  // What was copied to the rooms becomes the scores.
  void use_rooms() {
    total_ = 0;
    for (int64_t i = 0; i < n_spans_; ++i) {
      spans_[i].scores = spans_[i].room;
      spans_[i].count = spans_[i].kept;
      total_ += spans_[i].kept;
    }
    is_in_rooms_ = true;
  }

  // Forgets all scores outside the bracket.
  void keep(const Bracket& bracket) {
    narrow(bracket, true);
    use_rooms();
  }

  int64_t count_at_least(float pivot) const {
    int64_t found = 0;
    for (int64_t i = 0; i < n_spans_; ++i) {
      found += kernels_.count_at_least(spans_[i].scores, spans_[i].count, pivot);
    }
    return found;
  }

  // Two scores between which the cut probably is.
  Bracket bracket(int64_t wanted) const {
    float sample[kSample];
    int64_t span = 0;
    int64_t first = 0;  // of the span, among all
    for (int64_t i = 0; i < kSample; ++i) {
      const int64_t at = static_cast<int64_t>((static_cast<double>(i) + 0.5) / kSample *
                                              static_cast<double>(total_));
      while (at - first >= spans_[span].count) first += spans_[span++].count;
      sample[i] = spans_[span].scores[at - first];
    }
    const double share = static_cast<double>(wanted) / static_cast<double>(total_);
    const double rank = share * kSample;
    const double margin = kDeviations * std::sqrt(rank * (1.0 - share)) + 2.0;
    ScoreSpan whole{sample, kSample, nullptr, 0};
    CutFinder finder(kernels_, &whole, 1);
    return {finder.score_at(static_cast<int64_t>(std::ceil(rank + margin)), -kInfinity),
            finder.score_at(static_cast<int64_t>(std::floor(rank - margin)), kInfinity)};
  }

  // A score that `rank` of the scores reach; `otherwise` if there is no such rank.
  float score_at(int64_t rank, float otherwise) const {
    if (rank < 1 || rank > total_) return otherwise;
    const float score = bisect(rank, kAllNumbers).score;
    return std::isnan(score) ? -kInfinity : score;
  }

  // Halves the interval of values until it tells the `wanted` largest scores from the others.
  Cut bisect(int64_t wanted, const Bracket& limits) const {
    const int64_t numbers = count_at_least(limits.low);
    if (numbers < wanted) return {kNan, wanted - numbers};
    uint32_t low = canonical::score_key(limits.low);         // reached by enough
    uint32_t high = canonical::score_key(limits.high) + 1u;  // by too few, or none
    int64_t above = 0;                                       // how many reach `high`
    while (high - low > 1u) {
      const uint32_t middle = low + (high - low) / 2u;
      const int64_t reached = count_at_least(canonical::score_of_key(middle));
      if (reached == wanted) return {canonical::score_of_key(middle), kAllTies};
      if (reached > wanted) {
        low = middle;
      } else {
        high = middle;
        above = reached;
      }
    }
    return {canonical::score_of_key(low), wanted - above};
  }

  const SelectKernels& kernels_;
  ScoreSpan* const spans_;
  const int64_t n_spans_;
  int64_t total_ = 0;
  bool is_in_rooms_ = false;
};

}  // namespace

Cut find_cut(const SelectKernels& kernels, ScoreSpan* spans, int64_t n_spans, int64_t wanted) {
  return CutFinder(kernels, spans, n_spans).find(wanted);
}

}  // namespace spindlekv::cpu
