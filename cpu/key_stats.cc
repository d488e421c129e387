// Norms of stored rows, and the cosine of every key with the mean direction of its head.
//
//   runs of [Hkv] heads -> k_norm, cos_to_mean, v_norm, v_l1 [Hkv, slots] f32
//
// Memory-bound: reads V once and K once, or twice for cosines. A task is a tile of 64 slots: first
// its norms and the sum of its directions, then, when those are added up over the tiles of a head
// in order, its cosines. Canonical: see core/canonical.h.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/canonical.h"
#include "core/ops.h"
#include "cpu/carve.h"
#include "cpu/device.h"
#include "cpu/entries.h"
#include "cpu/stats_task.h"

namespace spindlekv::cpu {
namespace {

struct Workspace {
  float* scratch;      // [lanes, scratch_floats]
  float* norms;        // [kv_heads, tiles, 64] of keys
  float* directions;   // [kv_heads, tiles, D]
  float* means;        // [kv_heads, D]
  float* mean_norms;   // [kv_heads]
  int32_t* nonfinite;  // [kv_heads, tiles]
  int64_t scratch_floats;
};

int most_tiles(const SkvKeyStatsParams& params) {
  int slots = 0;
  for (int h = 0; h < params.kv_heads; ++h) slots = std::max(slots, params.heads[h].slots);
  return tiles_of(slots);
}

size_t carve(const SkvKeyStatsParams& params, int lanes, void* base, Workspace* workspace) {
  Carver carver(base);
  const int64_t tiles = int64_t{params.kv_heads} * most_tiles(params);
  workspace->scratch_floats = stats_scratch_floats(params.head_dim);
  workspace->scratch = carver.take<float>(lanes * workspace->scratch_floats);
  workspace->nonfinite = carver.take<int32_t>(tiles);
  if (params.cos_to_mean != nullptr) {
    workspace->norms = carver.take<float>(tiles * kTileSlots);
    workspace->directions = carver.take<float>(tiles * params.head_dim);
    workspace->means = carver.take<float>(int64_t{params.kv_heads} * params.head_dim);
    workspace->mean_norms = carver.take<float>(params.kv_heads);
  }
  return carver.used();
}

// The statistics of one tile, before those that are asked for are written.
struct TileStats {
  float k_norm[kTileSlots];
  float v_norm[kTileSlots];
  float v_l1[kTileSlots];
};

class KeyStats {
 public:
  KeyStats(SkvDevice& device, const SkvKeyStatsParams& params, const Workspace& workspace)
      : pool_(device.pool),
        params_(params),
        workspace_(workspace),
        kernels_(stats_kernels_for(device.isa)),
        tiles_(most_tiles(params)) {}

  void run() const {
    each_tile([&](int head, int tile, int lane) { measure(head, tile, lane); });
    for (int64_t i = 0; params_.nonfinite != nullptr && i < int64_t{params_.kv_heads} * tiles_;
         ++i) {
      if (i % tiles_ < tiles_of(params_.heads[i / tiles_].slots)) {
        *params_.nonfinite += workspace_.nonfinite[i];
      }
    }
    if (params_.cos_to_mean == nullptr) return;
    pool_.parallel_for(params_.kv_heads, [&](int64_t head, int) { add_up(head); });
    each_tile([&](int head, int tile, int lane) { compare(head, tile, lane); });
  }

 private:
  template <class Body>
  void each_tile(const Body& body) const {
    pool_.parallel_for(int64_t{params_.kv_heads} * tiles_, [&](int64_t index, int lane) {
      const int head = static_cast<int>(index / tiles_);
      const int tile = static_cast<int>(index % tiles_);
      if (tile < tiles_of(params_.heads[head].slots)) body(head, tile, lane);
    });
  }

  int64_t at(int head, int tile) const { return int64_t{head} * tiles_ + tile; }
  float* scratch(int lane) const { return workspace_.scratch + lane * workspace_.scratch_floats; }
  float* mean(int64_t head) const { return workspace_.means + head * params_.head_dim; }

  // Writes what is asked for; returns how many of the numbers are not finite.
  int store(float* output, int head, int tile, int count, const float* values) const {
    int nonfinite = 0;
    for (int i = 0; i < count; ++i) nonfinite += std::isfinite(values[i]) ? 0 : 1;
    if (output != nullptr) {
      float* const row = output + head * params_.stride + int64_t{tile} * kTileSlots;
      std::memcpy(row, values, sizeof(float) * static_cast<size_t>(count));
    }
    return nonfinite;
  }

  void measure(int head, int tile_index, int lane) const {
    SlotTile tile;
    read_tile(slot_source(params_, head), tile_index, &tile);
    TileStats stats;
    const bool has_cosines = params_.cos_to_mean != nullptr;
    const bool has_keys = has_cosines || params_.k_norm != nullptr;
    StatsTask task{};
    task.params = &params_;
    task.tile = &tile;
    task.k_norm = has_keys ? stats.k_norm : nullptr;
    task.direction =
        has_cosines ? workspace_.directions + at(head, tile_index) * params_.head_dim : nullptr;
    task.v_norm = params_.v_norm != nullptr ? stats.v_norm : nullptr;
    task.v_l1 = params_.v_l1 != nullptr ? stats.v_l1 : nullptr;
    task.scratch = scratch(lane);
    kernels_.rows(task);

    int nonfinite = 0;
    if (has_keys) nonfinite += store(params_.k_norm, head, tile_index, tile.count, stats.k_norm);
    if (task.v_norm != nullptr) {
      nonfinite += store(params_.v_norm, head, tile_index, tile.count, stats.v_norm);
    }
    if (task.v_l1 != nullptr) {
      nonfinite += store(params_.v_l1, head, tile_index, tile.count, stats.v_l1);
    }
    workspace_.nonfinite[at(head, tile_index)] = nonfinite;
    if (has_cosines) {
      std::memcpy(workspace_.norms + at(head, tile_index) * kTileSlots, stats.k_norm,
                  sizeof(stats.k_norm));
    }
  }

  // The mean direction of a head.
  void add_up(int64_t head) const {
    const int32_t slots = params_.heads[head].slots;
    if (slots == 0) return;
    const float* part = workspace_.directions + head * tiles_ * params_.head_dim;
    float* const sum = mean(head);
    std::fill_n(sum, params_.head_dim, 0.0f);
    for (int tile = 0; tile < tiles_of(slots); ++tile, part += params_.head_dim) {
      for (int d = 0; d < params_.head_dim; ++d) sum[d] = sum[d] + part[d];
    }
    for (int d = 0; d < params_.head_dim; ++d) sum[d] = sum[d] / static_cast<float>(slots);
    workspace_.mean_norms[head] = std::sqrt(canonical::dot(sum, sum, params_.head_dim));
  }

  void compare(int head, int tile_index, int lane) const {
    SlotTile tile;
    read_tile(slot_source(params_, head), tile_index, &tile);
    CosineTask task;
    task.params = &params_;
    task.tile = &tile;
    task.mean = mean(head);
    task.mean_norm = workspace_.mean_norms[head];
    task.k_norm = workspace_.norms + at(head, tile_index) * kTileSlots;
    task.cosine = params_.cos_to_mean + head * params_.stride + int64_t{tile_index} * kTileSlots;
    task.scratch = scratch(lane);
    kernels_.cosines(task);
  }

  ThreadPool& pool_;
  const SkvKeyStatsParams& params_;
  const Workspace& workspace_;
  const StatsKernels& kernels_;
  int tiles_;
};

}  // namespace

size_t key_stats_workspace(SkvDevice& device, const SkvKeyStatsParams& params) {
  Workspace workspace;
  return carve(params, device.pool.lanes(), nullptr, &workspace);
}

Status key_stats(SkvDevice& device, const SkvExec& exec, const SkvKeyStatsParams& params) {
  if (params.cos_to_mean != nullptr) {
    SKV_RETURN_IF_ERROR(check_key_positions("key_stats", params.runs, params.n_runs, params.rope,
                                            params.reindex != 0));
  }
  Workspace workspace{};
  carve(params, device.pool.lanes(), exec.workspace, &workspace);
  KeyStats(device, params, workspace).run();
  return ok_status();
}

}  // namespace spindlekv::cpu
