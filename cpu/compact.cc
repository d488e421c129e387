// Moving the kept slots of runs, out of place.
//
//   dst[dst_slot + i] = src[indices[i] - index_base] for K, V (or references, magnitudes),
//   positions, mask and beta
//
// Memory-bound: reads and writes each kept byte once. Which row comes next is beyond any hardware
// prefetcher, so rows are asked for a few slots ahead; results larger than the caches go past them.
// Tiles of slots are the tasks, so that one long run still fills all threads.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/ops.h"
#include "cpu/carve.h"
#include "cpu/convert.h"
#include "cpu/entries.h"
#include "cpu/prefetch.h"
#include "cpu/stream.h"

namespace spindlekv::cpu {
namespace {

constexpr int64_t kTileSlots = 256;

// Slots [begin, end) of an item's result, and the run of slots each comes from.
struct Tile {
  const SkvCompactItem& item;
  int64_t begin;
  int64_t end;
  int64_t source(int64_t i) const { return item.indices[i] - item.index_base; }
};

// Bytes asked for ahead of their use; a core has about that much on its way from memory at best.
constexpr int64_t kAheadBytes = 4096;

struct Rows {
  const void* src;
  void* dst;
  int64_t bytes;  // of a row
  bool streams;
};

// Rows of kBytes bytes: a fixed size makes the copy of one row a few vector moves.
template <int64_t kBytes>
void move_rows(const Tile& tile, const Rows& rows) {
  const int64_t row_bytes = kBytes != 0 ? kBytes : rows.bytes;
  const int64_t ahead = std::max<int64_t>(2, kAheadBytes / row_bytes);
  const char* const from = static_cast<const char*>(rows.src);
  char* const to = static_cast<char*>(rows.dst) + tile.item.dst_slot * row_bytes;
  for (int64_t i = tile.begin; i < std::min(tile.begin + ahead, tile.end); ++i) {
    prefetch_bytes(from + tile.source(i) * row_bytes, static_cast<size_t>(row_bytes));
  }
  for (int64_t i = tile.begin; i < tile.end; ++i) {
    if (i + ahead < tile.end)
      prefetch_bytes(from + tile.source(i + ahead) * row_bytes, static_cast<size_t>(row_bytes));
    const char* const in = from + tile.source(i) * row_bytes;
    if (rows.streams) {
      stream_copy(to + i * row_bytes, in, row_bytes);
    } else {
      std::memcpy(to + i * row_bytes, in, static_cast<size_t>(row_bytes));
    }
  }
}

void move_kv(const Tile& tile, const Rows& rows) {
  switch (rows.bytes) {
    case 128:
      return move_rows<128>(tile, rows);
    case 256:
      return move_rows<256>(tile, rows);
    default:
      return move_rows<0>(tile, rows);
  }
}

template <class T>
void move_values(const Tile& tile, const void* src, void* dst) {
  const T* const from = static_cast<const T*>(src);
  T* const to = static_cast<T*>(dst) + tile.item.dst_slot;
  for (int64_t i = tile.begin; i < tile.end; ++i) to[i] = from[tile.source(i)];
}

void move_sized(const Tile& tile, size_t bytes, const void* src, void* dst) {
  if (bytes == 2) {
    move_values<uint16_t>(tile, src, dst);
  } else {
    move_values<uint32_t>(tile, src, dst);
  }
}

void move_mask(const Tile& tile) {
  const SkvCompactItem& item = tile.item;
  if (item.mask_override == nullptr && item.src.mask != nullptr) {
    move_values<uint16_t>(tile, item.src.mask, item.dst.mask);
    return;
  }
  uint16_t* const to = item.dst.mask + item.dst_slot;
  for (int64_t i = tile.begin; i < tile.end; ++i) {
    to[i] = item.mask_override != nullptr ? item.mask_override[i] : UINT16_MAX;
  }
}

void move_beta(const Tile& tile) {
  const SkvCompactItem& item = tile.item;
  if (item.src.beta != nullptr) {
    move_values<float>(tile, item.src.beta, item.dst.beta);
  } else {
    float* const to = item.dst.beta + item.dst_slot;
    std::fill(to + tile.begin, to + tile.end, 0.0f);
  }
}

void move_tile(const SkvCompactParams& params, const Tile& tile, bool streams) {
  const SkvRun& src = tile.item.src;
  const SkvRun& dst = tile.item.dst;
  const size_t element_bytes = dtype_bytes(params.dtype);
  if (src.codec == SKV_CODEC_RAW) {
    const int64_t row_bytes = static_cast<int64_t>(element_bytes) * params.head_dim;
    move_kv(tile, {src.k, dst.k, row_bytes, streams && can_stream(dst.k, row_bytes)});
    move_kv(tile, {src.v, dst.v, row_bytes, streams && can_stream(dst.v, row_bytes)});
    if (streams) finish_stream();
  } else {
    const size_t ref_bytes = static_cast<size_t>(src.ref_bytes);
    move_sized(tile, ref_bytes, src.k_ref, dst.k_ref);
    move_sized(tile, ref_bytes, src.v_ref, dst.v_ref);
    move_sized(tile, element_bytes, src.k_magnitude, dst.k_magnitude);
    move_sized(tile, element_bytes, src.v_magnitude, dst.v_magnitude);
  }
  move_values<int32_t>(tile, src.positions, dst.positions);
  if (dst.mask != nullptr) move_mask(tile);
  if (dst.beta != nullptr) move_beta(tile);
}

int64_t tiles_of(const SkvCompactItem& item) { return (item.count + kTileSlots - 1) / kTileSlots; }

}  // namespace

Status compact(SkvDevice& device, const SkvExec& exec, const SkvCompactParams& params) {
  // first_tile[i]: the task that begins item i.
  int64_t* const first_tile = Carver(exec.workspace).take<int64_t>(params.n_items);
  int64_t tiles = 0;
  int64_t slots = 0;
  for (int32_t i = 0; i < params.n_items; ++i) {
    first_tile[i] = tiles;
    tiles += tiles_of(params.items[i]);
    slots += params.items[i].count;
  }
  const int64_t slot_bytes = 2 * static_cast<int64_t>(dtype_bytes(params.dtype)) * params.head_dim;
  const bool streams = slots * slot_bytes > kStreamBytes;
  device.pool.parallel_for(tiles, [&](int64_t task, int) {
    // The last item that begins at or before the task; empty items begin where the next one does.
    const int64_t* const after = std::upper_bound(first_tile, first_tile + params.n_items, task);
    const int64_t index = after - first_tile - 1;
    const SkvCompactItem& item = params.items[index];
    const int64_t begin = (task - first_tile[index]) * kTileSlots;
    move_tile(params, {item, begin, std::min<int64_t>(item.count, begin + kTileSlots)}, streams);
  });
  return ok_status();
}

size_t compact_workspace(SkvDevice&, const SkvCompactParams& params) {
  Carver carver(nullptr);
  carver.take<int64_t>(params.n_items);
  return carver.used();
}

}  // namespace spindlekv::cpu
