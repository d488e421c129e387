// A rewrite of a store's segments, invisible until commit: keep slots, encode raw slots by a
// codebook. Until then the store stays as it was, whatever fails; a draft that is dropped frees
// what it made.
#pragma once

#include <memory>
#include <vector>

#include "core/store.h"

namespace spindlekv {

// The slots of one KV head that stay, as select_topk gives them.
struct KeptSlots {
  const int32_t* indices = nullptr;  // device, ascending slot indices of the head
  const uint16_t* masks = nullptr;   // device, visibility per kept slot, or NULL: as before
  int32_t count = 0;
};

struct KeepOptions {
  int32_t piece_slots =
      0;                // cut raw results into segments of at most this many slots (0: one segment)
  bool rotate = false;  // store kept keys after RoPE from now on
  // Raw slots of a head of 16 pages or more stay where they are while the gaps are few (one for 4
  // slots of a page) and the head takes at most a page more than if all were moved together: a step
  // that evicts one slot then moves nothing, and one in many closes the gaps.
  bool leave_gaps = false;
};

// A cover that build_codebook found of the slots that are encoded, while all slots of the layer
// were there.
struct KnownCover {
  // Device: labels and leaders of keys, then of values, each [slots that are encoded], head after
  // head; NULL: there is none.
  const int32_t* lists = nullptr;
  int64_t length = 0;
  std::vector<int32_t> codewords;  // [kv_heads, 2] of keys and values
  // Device, [kv_heads, slot_stride]: the slots that stayed, ascending; leaders are among them.
  const int32_t* slots = nullptr;
  int64_t slot_stride = 0;
};

struct EncodeOptions {
  float theta_k = 0.98f;
  float theta_v = 0.95f;
  int32_t refine = 0;         // rounds of spherical k-means
  int32_t max_codewords = 0;  // per codebook; 0: as many as theta needs
  int32_t raw_recent = 0;     // newest slots of a head that stay raw
  KnownCover cover;           // of these slots, thetas and max_codewords
};

// Bytes that a head takes once encoded: a codebook segment and its raw slots behind, in whole
// pages.
size_t encoded_bytes(const PagePool& pool, int32_t dtype, int32_t head_dim,
                     const SegmentShape& codebook, int32_t raw_slots, bool raw_mask);

class Draft {
 public:
  explicit Draft(std::shared_ptr<Store> store);

  // `heads`: one per KV head of the layer.
  Status keep(OpRunner& run, int32_t layer, const std::vector<KeptSlots>& heads,
              const KeepOptions& options);
  // Whether that copies no more than so many bytes of K and V. Indices are read where they are: for
  // devices that use the host's memory.
  bool keep_moves_at_most(int64_t bytes, int32_t layer, const std::vector<KeptSlots>& heads,
                          const KeepOptions& options) const;
  // Encodes the raw slots that follow a head's codebook segments.
  Status encode(OpRunner& run, int32_t layer, const EncodeOptions& options);
  // Replaces the store's layers by the draft's. Cannot fail.
  void commit();

  const HeadSegments& head(int32_t layer, int32_t kv_head) const;
  ByteParts bytes(int32_t layer) const;

 private:
  // Of a raw segment with so many slots.
  size_t bytes_of(SegmentShape shape, int32_t slots) const;
  // Bytes that a head of raw segments takes beyond those of its slots in one of them.
  size_t wasted_bytes(const HeadSegments& head) const;
  // Whether no slot of the head need move; `result` is then what it is.
  bool stays_in_place(const HeadSegments& source, const KeptSlots& kept,
                      const std::vector<int32_t>& indices, const KeepOptions& options,
                      HeadSegments* result) const;
  Status keep_head(OpRunner& run, const HeadSegments& source, const KeptSlots& kept,
                   const KeepOptions& options, std::vector<SkvCompactItem>* items,
                   HeadSegments* result);
  Status shrink_codebook(OpRunner& run, const Segment& source, const std::vector<int32_t>& slots,
                         bool has_mask, Segment* result);
  Status rotate_keys(OpRunner& run, HeadSegments* head);
  Status shrink_codewords(OpRunner& run, const Segment& source, int32_t k_codewords,
                          int32_t v_codewords, Segment* result);
  Status own_tail(OpRunner& run, HeadSegments* tail);

  std::shared_ptr<Store> store_;
  std::vector<std::vector<HeadSegments>> layers_;  // empty: the layer is as in the store
  std::vector<MemoryBlock> scratch_;  // read by queued kernels; freed after a synchronisation
};

}  // namespace spindlekv
