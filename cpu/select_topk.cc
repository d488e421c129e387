// Exact top-k of score rows with protected ends, floors across rows, and unions of rows.
//
// No sort: cpu/select_cut.h finds the cut of each row, then one ordered pass writes the indices. So
// a row is read twice, while it is in the core's own cache. A task is an output row; across heads a
// set of rows is cut in three steps: every row's floor, the best of what the floors leave over, and
// the writing.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/canonical.h"
#include "core/ops.h"
#include "cpu/carve.h"
#include "cpu/entries.h"
#include "cpu/select_cut.h"

namespace spindlekv::cpu {
namespace {

constexpr int64_t kBlock = 2048;  // slots whose indices are gathered aside

struct Workspace {
  Cut* cuts;           // [rows]
  int64_t room;        // floats of one row's room
  float* rooms;        // [lanes, room]; across heads [rows, room]
  ScoreSpan* spans;    // across heads: [rows], what the floors leave over
  int64_t* left_ties;  // across heads: [rows], how many of them have the cut's own score
};

size_t lay_out(const SkvSelectTopkParams& params, int lanes, void* base, Workspace* workspace) {
  Carver carver(base);
  const bool is_pooled = params.pool_rows > 1;
  const int32_t longest =
      params.rows == 0 ? 0 : *std::max_element(params.lengths, params.lengths + params.rows);
  workspace->room = (int64_t{longest} + kSelectSlack + 15) / 16 * 16;
  workspace->cuts = carver.take<Cut>(params.rows);
  workspace->rooms = carver.take<float>((is_pooled ? params.rows : lanes) * workspace->room);
  workspace->spans = carver.take<ScoreSpan>(is_pooled ? params.rows : 0);
  workspace->left_ties = carver.take<int64_t>(is_pooled ? params.rows : 0);
  return carver.used();
}

// The slots of a row that compete: those between the sinks and the recent ones.
struct Competing {
  const float* scores;  // of slot 0
  int64_t first;
  int64_t last;
  int64_t count() const { return last - first; }
};

Competing competing(const SkvSelectTopkParams& params, int64_t row) {
  const int64_t length = params.lengths[row];
  const int64_t first = std::min<int64_t>(params.sinks, length);
  const int64_t last = std::max(first, length - params.recent);
  return {params.scores + row * params.stride, first, last};
}

uint32_t key_of(const Cut& cut) { return canonical::score_key(cut.score); }

bool takes_everything(const Cut& cut) { return std::isnan(cut.score) && cut.ties == kAllTies; }

class Selector {
 public:
  Selector(SkvDevice& device, const SkvSelectTopkParams& params, const Workspace& workspace)
      : params_(params), workspace_(workspace), kernels_(select_kernels_for(device.isa)) {}

  // Cuts a row on its own.
  void cut_row(int64_t row, int64_t wanted, float* room) const {
    const Competing slots = competing(params_, row);
    ScoreSpan span{slots.scores + slots.first, slots.count(), room, 0};
    workspace_.cuts[row] = find_cut(kernels_, &span, 1, wanted);
  }

  // Across heads: cuts a row by its floor and puts the scores that are left over aside.
  void cut_floor(int64_t row) const {
    float* const room = workspace_.rooms + row * workspace_.room;
    const Competing slots = competing(params_, row);
    cut_row(row, std::min<int64_t>(params_.floor, slots.count()), room);
    const Cut& cut = workspace_.cuts[row];
    int64_t& ties = workspace_.left_ties[row];
    const float* const scores = slots.scores + slots.first;
    int64_t left = kernels_.below(scores, slots.count(), cut.score, room);
    ties = cut.ties == kAllTies ? 0 : count_equal(row, cut.score) - cut.ties;
    std::fill_n(room + left, ties, cut.score);
    workspace_.spans[row] = {room, left + ties, room, 0};
  }

  // Across heads: gives the rest of a set's total to the best of what the floors left over.
  void share_out(int64_t set) const {
    const int64_t first_row = set * params_.pool_rows;
    int64_t rest = params_.k[set];
    for (int64_t r = first_row; r < first_row + params_.pool_rows; ++r) {
      rest -= std::min<int64_t>(params_.floor, competing(params_, r).count());
    }
    const Cut shared = find_cut(kernels_, workspace_.spans + first_row, params_.pool_rows, rest);
    int64_t shared_ties = shared.ties;
    for (int64_t r = first_row; r < first_row + params_.pool_rows; ++r) {
      Cut& cut = workspace_.cuts[r];
      if (takes_everything(cut) || key_of(shared) > key_of(cut)) continue;
      if (shared.ties == kAllTies) {
        cut = shared;
        continue;
      }
      const bool is_same = key_of(shared) == key_of(cut);
      const int64_t equal = is_same ? workspace_.left_ties[r] : count_equal(r, shared.score);
      const int64_t taken = std::min(equal, shared_ties);
      shared_ties -= taken;
      if (!is_same) {
        cut = {shared.score, taken};
      } else if (cut.ties != kAllTies) {
        cut.ties += taken;
      }
    }
  }

  // Writes the selected slots of a row, or of the union of rows, in ascending order.
  void write(int64_t out_row) const {
    const int32_t group = params_.union_group;
    const int64_t first_row = out_row * group;
    const Competing slots = competing(params_, first_row);
    int32_t* const indices = params_.indices + out_row * params_.out_stride;
    uint16_t* const masks =
        params_.masks == nullptr ? nullptr : params_.masks + out_row * params_.out_stride;
    int64_t n = 0;
    const auto put_all = [&](int64_t first, int64_t last) {
      for (int64_t slot = first; slot < last; ++slot, ++n) {
        indices[n] = static_cast<int32_t>(slot);
        if (masks != nullptr) masks[n] = static_cast<uint16_t>((1u << group) - 1u);
      }
    };

    put_all(0, slots.first);
    int32_t kept[kBlock + kSelectSlack];
    uint16_t kept_masks[kBlock + kSelectSlack];
    const SelectedSlots aside{kept, masks == nullptr ? nullptr : kept_masks};
    for (int64_t first = slots.first; first < slots.last; first += kBlock) {
      const int64_t count = std::min(kBlock, slots.last - first);
      const int64_t found = select(first_row, slots.scores + first, count, first, aside);
      std::copy(kept, kept + found, indices + n);
      if (masks != nullptr) std::copy(kept_masks, kept_masks + found, masks + n);
      n += found;
    }
    put_all(slots.last, params_.lengths[first_row]);
    params_.counts[out_row] = static_cast<int32_t>(n);
  }

 private:
  int64_t count_equal(int64_t row, float score) const {
    const Competing slots = competing(params_, row);
    const float* const scores = slots.scores + slots.first;
    if (std::isnan(score)) return kernels_.count_at_least(scores, slots.count(), score);
    return kernels_.narrow(scores, slots.count(), score, score, nullptr).inside;
  }

  int64_t select(int64_t first_row, const float* scores, int64_t count, int64_t first_slot,
                 const SelectedSlots& out) const {
    Cut* const cuts = workspace_.cuts + first_row;
    const int32_t slot = static_cast<int32_t>(first_slot);
    if (params_.union_group == 1) return kernels_.select(scores, count, slot, cuts, out);
    return kernels_.select_union(scores, params_.stride, params_.union_group, count, slot, cuts,
                                 out);
  }

  const SkvSelectTopkParams& params_;
  const Workspace& workspace_;
  const SelectKernels& kernels_;
};

}  // namespace

Status select_topk(SkvDevice& device, const SkvExec& exec, const SkvSelectTopkParams& params) {
  Workspace workspace;
  lay_out(params, device.pool.lanes(), exec.workspace, &workspace);
  const Selector selector(device, params, workspace);
  if (params.pool_rows > 1) {
    device.pool.parallel_for(params.rows, [&](int64_t row, int) { selector.cut_floor(row); });
    device.pool.parallel_for(params.rows / params.pool_rows,
                             [&](int64_t set, int) { selector.share_out(set); });
    device.pool.parallel_for(params.rows, [&](int64_t row, int) { selector.write(row); });
    return ok_status();
  }
  const int32_t group = params.union_group;
  device.pool.parallel_for(params.rows / group, [&](int64_t out_row, int lane) {
    float* const room = workspace.rooms + lane * workspace.room;
    for (int64_t row = out_row * group; row < (out_row + 1) * group; ++row) {
      selector.cut_row(row, params.k[row], room);
    }
    selector.write(out_row);
  });
  return ok_status();
}

size_t select_topk_workspace(SkvDevice& device, const SkvSelectTopkParams& params) {
  Workspace workspace;
  return lay_out(params, device.pool.lanes(), nullptr, &workspace);
}

}  // namespace spindlekv::cpu
