#include "core/draft.h"

#include <algorithm>

namespace spindlekv {
namespace {

size_t index(int32_t value) { return static_cast<size_t>(value); }

// Gaps are left in heads of at least so many pages: moving fewer is quick.
constexpr int32_t kFewestPages = 16;
// A tile of slots that meets a gap is read row by row. With one gap for every so many slots of a
// page that costs about as much as moving all slots once in a page of tokens.
constexpr int32_t kSlotsPerGap = 4;

// Slots at `indices` (of the head, ascending) without moving any: what stays of a segment becomes
// segments of the same extent. False where that is not possible.
bool keep_in_place(const HeadSegments& source, const std::vector<int32_t>& indices,
                   const KeepOptions& options, HeadSegments* result) {
  result->segments.clear();
  int32_t base = 0;
  size_t next = 0;
  for (const Segment& segment : source.segments) {
    if (segment.shape.codec != SKV_CODEC_RAW) return false;
    if (options.rotate && segment.rotated == 0) return false;
    const size_t first = next;
    while (next < indices.size() && indices[next] < base + segment.slots) ++next;
    // A page that takes appends stays in one piece, so that it goes on taking them behind it.
    const bool has_room = segment.open && segment.end() < segment.shape.capacity;
    const int32_t kept = static_cast<int32_t>(next - first);
    if (has_room && kept > 0 && indices[next - 1] - base >= kept) return false;
    for (size_t at = first; at < next;) {
      size_t end = at + 1;
      while (end < next && indices[end] == indices[end - 1] + 1) ++end;
      Segment part = segment;
      part.begin = segment.begin + indices[at] - base;
      part.slots = static_cast<int32_t>(end - at);
      part.open = segment.open && (has_room || part.end() == segment.end());
      result->segments.push_back(std::move(part));
      at = end;
    }
    base += segment.slots;
  }
  return true;
}

// Gaps between slots of one extent.
int32_t gaps_of(const HeadSegments& head) {
  int32_t gaps = 0;
  for (size_t s = 0; s < head.segments.size(); ++s) gaps += head.opens_extent(s) ? 0 : 1;
  return gaps;
}

// Whether all keys are stored after RoPE.
bool is_rotated(const HeadSegments& head) {
  return std::all_of(head.segments.begin(), head.segments.end(),
                     [](const Segment& segment) { return segment.rotated != 0; });
}

// Whole pages that a segment of this shape takes.
size_t segment_bytes(const PagePool& pool, int32_t dtype, int32_t head_dim,
                     const SegmentShape& shape) {
  return pool.rounded(layout_of(shape, dtype, head_dim).bytes);
}

Status check_ascending(const std::vector<int32_t>& indices, int32_t slots) {
  int32_t last = -1;
  for (const int32_t slot : indices) {
    if (slot <= last || slot >= slots) {
      return error_status(SKV_ARGUMENT, "keep",
                          "expected ascending slots below %d for indices, got %d after %d", slots,
                          slot, last);
    }
    last = slot;
  }
  return ok_status();
}

}  // namespace

size_t encoded_bytes(const PagePool& pool, int32_t dtype, int32_t head_dim,
                     const SegmentShape& codebook, int32_t raw_slots, bool raw_mask) {
  size_t bytes = 0;
  if (codebook.capacity > 0) bytes += segment_bytes(pool, dtype, head_dim, codebook);
  if (raw_slots > 0) {
    SegmentShape raw{SKV_CODEC_RAW, raw_slots};
    raw.has_mask = raw_mask;
    bytes += segment_bytes(pool, dtype, head_dim, raw);
  }
  return bytes;
}

Draft::Draft(std::shared_ptr<Store> store)
    : store_(std::move(store)), layers_(store_->layers_.size()) {}

const HeadSegments& Draft::head(int32_t layer, int32_t kv_head) const {
  const auto& heads = layers_[index(layer)];
  return heads.empty() ? store_->head(layer, kv_head) : heads[index(kv_head)];
}

ByteParts Draft::bytes(int32_t layer) const {
  ByteParts parts;
  const StoreConfig& config = store_->config();
  for (int32_t h = 0; h < config.kv_heads; ++h) {
    parts.add(head(layer, h), config.dtype, config.head_dim);
  }
  return parts;
}

size_t Draft::bytes_of(SegmentShape shape, int32_t slots) const {
  const StoreConfig& config = store_->config();
  shape.capacity = slots;
  return segment_bytes(store_->pool(), config.dtype, config.head_dim, shape);
}

size_t Draft::wasted_bytes(const HeadSegments& head) const {
  const StoreConfig& config = store_->config();
  ByteParts parts;
  parts.add(head, config.dtype, config.head_dim);
  const size_t held = static_cast<size_t>(parts.total);
  const size_t needed = bytes_of(head.segments.front().shape, head.slots());
  return held > needed ? held - needed : 0;
}

// A codebook segment with the given slots (host, ascending) of `source`: references are renumbered
// so that codewords nobody uses any more are dropped.
Status Draft::shrink_codebook(OpRunner& run, const Segment& source,
                              const std::vector<int32_t>& slots, bool has_mask, Segment* result) {
  const StoreConfig& config = store_->config();
  const SkvRun from = run_of(source, config.dtype, config.head_dim, 0);
  const size_t row = store_->row_bytes();
  struct Side {
    const void* refs;
    const void* codewords;
    int32_t count;
    std::vector<int32_t> kept;       // old codeword of each new one
    std::vector<uint32_t> new_refs;  // per kept slot
  };
  Side sides[2] = {{from.k_ref, from.k, from.k_codewords, {}, {}},
                   {from.v_ref, from.v, from.v_codewords, {}, {}}};
  for (Side& side : sides) {
    std::vector<uint32_t> refs(index(source.slots));
    if (from.ref_bytes == 2) {
      std::vector<uint16_t> narrow;
      SKV_RETURN_IF_ERROR(
          run.download(static_cast<const uint16_t*>(side.refs), refs.size(), &narrow));
      std::copy(narrow.begin(), narrow.end(), refs.begin());
    } else {
      SKV_RETURN_IF_ERROR(
          run.download(static_cast<const uint32_t*>(side.refs), refs.size(), &refs));
    }
    std::vector<int32_t> renumbered(index(side.count), -1);
    for (const int32_t slot : slots) renumbered[refs[index(slot)]] = 0;
    for (int32_t c = 0; c < side.count; ++c) {
      if (renumbered[index(c)] < 0) continue;
      renumbered[index(c)] = static_cast<int32_t>(side.kept.size());
      side.kept.push_back(c);
    }
    for (const int32_t slot : slots) {
      side.new_refs.push_back(static_cast<uint32_t>(renumbered[refs[index(slot)]]));
    }
  }
  SegmentShape shape = source.shape;
  shape.capacity = static_cast<int32_t>(slots.size());
  shape.k_codewords = static_cast<int32_t>(sides[0].kept.size());
  shape.v_codewords = static_cast<int32_t>(sides[1].kept.size());
  shape.has_mask = has_mask;
  *result = Segment{};
  SKV_RETURN_IF_ERROR(store_->new_segment(shape, result));
  result->slots = shape.capacity;
  const SkvRun to = run_of(*result, config.dtype, config.head_dim, 0);
  void* const new_refs[2] = {to.k_ref, to.v_ref};
  void* const new_codewords[2] = {to.k, to.v};
  for (int s = 0; s < 2; ++s) {
    const Side& side = sides[s];
    if (to.ref_bytes == 2) {
      const std::vector<uint16_t> narrow(side.new_refs.begin(), side.new_refs.end());
      SKV_RETURN_IF_ERROR(run.upload(static_cast<uint16_t*>(new_refs[s]), narrow));
    } else {
      SKV_RETURN_IF_ERROR(run.upload(static_cast<uint32_t*>(new_refs[s]), side.new_refs));
    }
    // Runs of consecutive codewords move in one copy each.
    for (size_t c = 0; c < side.kept.size();) {
      size_t end = c + 1;
      while (end < side.kept.size() && side.kept[end] == side.kept[end - 1] + 1) ++end;
      SKV_RETURN_IF_ERROR(
          run.copy(static_cast<std::byte*>(new_codewords[s]) + c * row,
                   static_cast<const std::byte*>(side.codewords) + index(side.kept[c]) * row,
                   (end - c) * row, SKV_COPY_ON_DEVICE));
      c = end;
    }
  }
  return ok_status();
}

bool Draft::stays_in_place(const HeadSegments& source, const KeptSlots& kept,
                           const std::vector<int32_t>& indices, const KeepOptions& options,
                           HeadSegments* result) const {
  const StoreConfig& config = store_->config();
  if (kept.masks != nullptr) return false;
  const bool is_exact = source.segments.size() == 1 && source.segments.front().begin == 0 &&
                        source.segments.front().slots == source.segments.front().shape.capacity;
  if (kept.count == source.slots() && is_exact) {
    *result = source;  // nothing goes and nothing is wasted: the segment is shared as it is
    return true;
  }
  return options.leave_gaps && kept.count >= int64_t{kFewestPages} * config.page_slots &&
         keep_in_place(source, indices, options, result) &&
         gaps_of(*result) <= std::max(1, config.page_slots / kSlotsPerGap) &&
         wasted_bytes(*result) <= bytes_of(result->segments.front().shape, config.page_slots);
}

bool Draft::keep_moves_at_most(int64_t bytes, int32_t layer, const std::vector<KeptSlots>& heads,
                               const KeepOptions& options) const {
  const int64_t slot_bytes = 2 * static_cast<int64_t>(store_->row_bytes());
  int64_t slots = 0;
  for (const KeptSlots& kept : heads) slots += kept.count;
  HeadSegments result;
  for (int32_t h = 0; slots * slot_bytes > bytes && h < store_->config().kv_heads; ++h) {
    const HeadSegments& source = head(layer, h);
    const KeptSlots& kept = heads[index(h)];
    const std::vector<int32_t> indices(kept.indices, kept.indices + kept.count);
    if (!is_ok(check_ascending(indices, source.slots())) ||
        !stays_in_place(source, kept, indices, options, &result) ||
        (options.rotate && !is_rotated(result))) {
      return false;
    }
    slots -= kept.count;
  }
  return true;
}

Status Draft::keep_head(OpRunner& run, const HeadSegments& source, const KeptSlots& kept,
                        const KeepOptions& options, std::vector<SkvCompactItem>* items,
                        HeadSegments* result) {
  const StoreConfig& config = store_->config();
  const int32_t slots = source.slots();
  std::vector<int32_t> indices;
  SKV_RETURN_IF_ERROR(run.download(kept.indices, index(kept.count), &indices));
  SKV_RETURN_IF_ERROR(check_ascending(indices, slots));
  if (stays_in_place(source, kept, indices, options, result)) return ok_status();
  result->segments.clear();
  int32_t base = 0;
  size_t next = 0;
  for (const Segment& segment : source.segments) {
    const size_t first = next;
    while (next < indices.size() && indices[next] < base + segment.slots) ++next;
    const auto add_item = [&](const Segment& to, size_t begin, size_t end, int32_t dst_slot) {
      SkvCompactItem item{};
      item.src = run_of(segment, config.dtype, config.head_dim, 0);
      item.dst = run_of(to, config.dtype, config.head_dim, 0);
      item.indices = kept.indices + begin;
      item.mask_override = kept.masks == nullptr ? nullptr : kept.masks + begin;
      item.count = static_cast<int32_t>(end - begin);
      item.index_base = base;
      item.dst_slot = dst_slot;
      items->push_back(item);
    };
    const bool has_mask = kept.masks != nullptr || segment.shape.has_mask;
    if (segment.shape.codec == SKV_CODEC_CODEBOOK) {
      if (next > first) {
        std::vector<int32_t> local(indices.begin() + static_cast<std::ptrdiff_t>(first),
                                   indices.begin() + static_cast<std::ptrdiff_t>(next));
        for (int32_t& slot : local) slot -= base;
        Segment to;
        SKV_RETURN_IF_ERROR(shrink_codebook(run, segment, local, has_mask, &to));
        // The references were renumbered already: the item's go to a place of no further use.
        MemoryBlock unused;
        SKV_RETURN_IF_ERROR(run.allocate(2 * sizeof(uint32_t) * local.size() + 32, &unused));
        add_item(to, first, next, 0);
        items->back().dst.ref_bytes = items->back().src.ref_bytes;
        items->back().dst.k_ref = unused.data();
        items->back().dst.v_ref =
            static_cast<std::byte*>(unused.data()) + sizeof(uint32_t) * local.size() + 16;
        scratch_.push_back(std::move(unused));
        result->segments.push_back(std::move(to));
      }
    } else {
      size_t from = first;
      while (from < next) {
        Segment* to = result->segments.empty() ? nullptr : &result->segments.back();
        const bool extends = to != nullptr && to->shape.codec == SKV_CODEC_RAW &&
                             to->rotated == segment.rotated && to->shape.has_mask == has_mask &&
                             to->shape.has_beta == segment.shape.has_beta &&
                             to->slots < to->shape.capacity;
        if (!extends) {
          // Room for every later slot that may join: counted over the segments stored alike.
          int32_t room = 0;
          int32_t segment_base = base;
          size_t probe = from;
          for (const Segment* other = &segment;
               other != source.segments.data() + source.segments.size(); ++other) {
            if (other->shape.codec != SKV_CODEC_RAW || other->rotated != segment.rotated ||
                (kept.masks == nullptr && other->shape.has_mask != has_mask) ||
                other->shape.has_beta != segment.shape.has_beta) {
              break;
            }
            while (probe < indices.size() && indices[probe] < segment_base + other->slots) {
              ++probe;
              ++room;
            }
            segment_base += other->slots;
          }
          SegmentShape shape{SKV_CODEC_RAW,
                             options.piece_slots > 0 ? std::min(room, options.piece_slots) : room};
          shape.has_mask = has_mask;
          shape.has_beta = segment.shape.has_beta;
          Segment fresh;
          fresh.rotated = segment.rotated;
          SKV_RETURN_IF_ERROR(store_->new_segment(shape, &fresh));
          result->segments.push_back(std::move(fresh));
          to = &result->segments.back();
        }
        const size_t taken = std::min(next - from, index(to->shape.capacity - to->slots));
        add_item(*to, from, from + taken, to->slots);
        to->slots += static_cast<int32_t>(taken);
        from += taken;
      }
    }
    base += segment.slots;
  }
  return ok_status();
}

Status Draft::rotate_keys(OpRunner& run, HeadSegments* head) {
  const StoreConfig& config = store_->config();
  for (Segment& segment : head->segments) {
    if (segment.shape.codec != SKV_CODEC_RAW || segment.rotated != 0 || segment.slots == 0)
      continue;
    if (segment.extent.use_count() > 1 || segment.begin > 0) {
      Segment own;  // shared with the store or a fork: rotate a copy
      SKV_RETURN_IF_ERROR(store_->copy_segment(run, segment, &own));
      segment = std::move(own);
    }
    const SkvRun stored = run_of(segment, config.dtype, config.head_dim, 0);
    SkvRopeParams params{};
    params.in = stored.k;
    params.out = stored.k;
    params.in_stride_token = params.out_stride_token = config.head_dim;
    params.in_stride_head = params.out_stride_head =
        static_cast<int64_t>(segment.slots) * config.head_dim;
    params.dtype = config.dtype;
    params.head_dim = config.head_dim;
    params.heads = 1;
    params.tokens = segment.slots;
    params.positions_to = stored.positions;
    int32_t reach = 1;
    for (const Store::Layer& layer : store_->layers_) reach = std::max(reach, layer.next_position);
    SKV_RETURN_IF_ERROR(store_->rope_->reach(run, reach, &params.rope));
    SKV_RETURN_IF_ERROR(run.rope(params));
    segment.rotated = 1;
  }
  return ok_status();
}

Status Draft::keep(OpRunner& run, int32_t layer, const std::vector<KeptSlots>& heads,
                   const KeepOptions& options) {
  SKV_RETURN_IF_ERROR(store_->check_layer("keep", layer));
  const StoreConfig& config = store_->config();
  if (heads.size() != index(config.kv_heads)) {
    return error_status(SKV_ARGUMENT, "keep", "expected %d KV heads for kept, got %zu",
                        config.kv_heads, heads.size());
  }
  if (options.rotate && !config.has_rope) {
    return error_status(SKV_ARGUMENT, "keep", "expected a cache with rope for rotate, got none");
  }
  std::vector<SkvCompactItem> items;
  std::vector<HeadSegments> result(heads.size());
  for (int32_t h = 0; h < config.kv_heads; ++h) {
    SKV_RETURN_IF_ERROR(
        keep_head(run, head(layer, h), heads[index(h)], options, &items, &result[index(h)]));
  }
  if (!items.empty()) {
    const SkvCompactParams params{config.dtype, config.head_dim, static_cast<int32_t>(items.size()),
                                  0, items.data()};
    SKV_RETURN_IF_ERROR(run.compact(params));
  }
  if (options.rotate) {
    for (HeadSegments& head : result) SKV_RETURN_IF_ERROR(rotate_keys(run, &head));
  }
  SKV_RETURN_IF_ERROR(run.synchronize());
  scratch_.clear();
  layers_[index(layer)] = std::move(result);
  return ok_status();
}

void Draft::commit() {
  for (size_t l = 0; l < layers_.size(); ++l) {
    if (layers_[l].empty()) continue;
    store_->layers_[l].heads = std::move(layers_[l]);
    store_->layers_[l].tables_stale = true;
    layers_[l].clear();
  }
}

}  // namespace spindlekv
