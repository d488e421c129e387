// The slots of one sequence: for every layer and KV head a list of segments, with append, attention
// and trimming over them. Bookkeeping only: the numbers are made by the backend's ops.
//
// Not thread-safe: one owner drives a store; the binding sees to it that a store under rewrite
// (core/draft.h) is not touched. Every call either succeeds or leaves the store as it was.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "core/op_runner.h"
#include "core/rope_table.h"
#include "core/segment.h"

namespace spindlekv {

// A grow-only table of RoPE angles on the device, shared by a store and its forks, whose calls may
// come from different threads.
class SharedRopeTable {
 public:
  explicit SharedRopeTable(const RopeSpec& spec) : spec_(spec) {}
  // Makes positions [0, positions) readable and describes them.
  Status reach(OpRunner& run, int64_t positions, SkvRope* rope);
  const RopeSpec& spec() const { return spec_; }

 private:
  RopeSpec spec_;
  std::mutex mutex_;
  // The last one is in use. The shorter ones before it stay, together less than one more table: an
  // op of another thread may be reading them.
  std::vector<MemoryBlock> tables_;
  int64_t positions_ = 0;
};

struct StoreConfig {
  int32_t layers = 0;
  int32_t kv_heads = 0;
  int32_t group = 1;
  int32_t head_dim = 0;
  int32_t dtype = SKV_F16;
  int32_t page_slots = 64;     // slots an append page holds
  bool has_rope = false;       // keys and queries come before RoPE
  bool rotate_keys = false;    // keys are stored after RoPE (needs has_rope)
  bool reindex = false;        // keys turn by their slot index, queries by the cache length
  int32_t record_queries = 0;  // last query rows kept per layer for window_scores
};

// Rows somewhere on the device: [heads, tokens, D].
struct RowView {
  void* data = nullptr;
  int32_t dtype = SKV_F32;
  int64_t stride_head = 0;  // elements
  int64_t stride_token = 0;
};

struct AttendRequest {
  RowView q;
  RowView out;
  int32_t queries = 0;
  float scale = 0.0f;
  float* score_sum = nullptr;
  int64_t score_stride = 0;
  int64_t score_slots = 0;  // entries of a row
  int32_t score_mode = SKV_SCORE_NONE;
};

// Tokens move from the raw tail into the last codebook segment when `interval` of them lie behind
// the `recent` ones (SpindleKV's insertion at decode).
struct InsertPolicy {
  int32_t recent = 0;
  int32_t interval = 0;  // 0: never
  float theta_k = 0.0f;
  float theta_v = 0.0f;
  int32_t max_codewords = 0;  // per codebook; 0: as many as theta needs
};

// Keeps the first `sinks` and the last `recent` slots: every append first makes room for what it
// brings.
struct TrimPolicy {
  int32_t sinks = 0;
  int32_t recent = -1;  // < 0: never
};

class Draft;
class Step;

class Store {
 public:
  Store(const StoreConfig& config, std::shared_ptr<PagePool> pool,
        std::shared_ptr<SharedRopeTable> rope);

  const StoreConfig& config() const { return config_; }
  PagePool& pool() const { return *pool_; }

  // Appending and attending: core/step.h.

  // Leaves `tokens` positions of a layer without slots, as of tokens that it never sees; the next
  // append goes on behind them. Queries may be asked for tokens appended since.
  Status skip(int32_t layer, int32_t tokens);

  // Column statistics of the last `window` recorded queries; `params` brings norm and outputs.
  Status window_scores(OpRunner& run, int32_t layer, int32_t window, SkvWindowScoresParams params);
  // The last `count` recorded rows of a query head, oldest first, in their dtype.
  Status read_queries(OpRunner& run, int32_t layer, int32_t query_head, int32_t count,
                      int32_t* dtype, std::vector<uint8_t>* rows) const;
  // Norms and mean cosines of a layer's slots; `params` brings the outputs.
  Status key_stats(OpRunner& run, int32_t layer, SkvKeyStatsParams params);
  // Moves the first `count` raw slots behind each head's codebook into it.
  Status insert(OpRunner& run, int32_t layer, int32_t count, const InsertPolicy& policy);
  // Contiguous copies of a head's raw slots behind its encoded ones: k, v [slots, D], keys before
  // RoPE.
  Status gather_raw(OpRunner& run, const HeadSegments& head, int32_t first_segment, SkvRun* run_out,
                    MemoryBlock* block) const;

  std::shared_ptr<Store> fork() const;
  void set_policies(const InsertPolicy& insert, const TrimPolicy& trim);
  // Storage of keys appended from now on; existing segments keep theirs.
  void set_key_storage(bool rotate_keys, bool reindex);
  void set_record_queries(int32_t rows);
  // Forgets the recorded queries; recording goes on with the next chunk of two or more tokens (the
  // next prompt), so that a decode after compression keeps no log.
  void release_queries();

  const HeadSegments& head(int32_t layer, int32_t kv_head) const;
  int32_t next_position(int32_t layer) const { return layers_[index(layer)].next_position; }
  int32_t recorded_queries(int32_t layer) const;
  ByteParts bytes(int32_t layer) const;
  int64_t recorded_query_bytes() const;
  // Every stored byte and number, for comparing two states; not how appends cut raw slots into
  // segments.
  Status snapshot(OpRunner& run, std::vector<uint8_t>* out) const;

 private:
  friend class Draft;
  friend class Step;

  // The last rows of the queries, oldest first, starting at row `first` of a buffer of 2 *
  // record_queries rows.
  struct QueryLog {
    std::shared_ptr<MemoryBlock> rows;  // [Hq, 2 * capacity, D]; shared with forks until written
    int32_t dtype = SKV_F32;
    int32_t capacity = 0;
    int32_t first = 0;
    int32_t count = 0;
    int32_t end_position = 0;  // position after the newest row
    bool is_paused = false;    // released; single tokens are not recorded
  };

  // How the rows of an attend get into the log, decided and allocated before it runs.
  struct RecordPlan {
    QueryLog log;  // as it will be; capacity 0: nothing is recorded
    std::shared_ptr<MemoryBlock> source;
    int32_t source_first = 0;
    int32_t kept = 0;
    int32_t taken = 0;
    bool moves = false;
  };

  // What an append has done to a head.
  struct Growth {
    size_t segments = 0;  // before it
    int32_t tail_slots = 0;
    Segment tail;  // with an extent: the shared tail that was exchanged for a copy
  };

  // What the parts of an append have changed of a layer, to take it back when a later one fails.
  struct Undo {
    int32_t next_position = 0;
    std::vector<Growth> growths;              // one per head, or none
    std::vector<HeadSegments> before_trim;    // set only where it changed something
    std::vector<HeadSegments> before_insert;  // likewise
  };

  struct Layer {
    std::vector<HeadSegments> heads;
    int32_t next_position = 0;
    int32_t contiguous_from = 0;  // first position behind the last skip
    QueryLog queries;
    // The tables that ops read. Appends keep them up to date as long as pages have room.
    bool tables_stale = true;
    std::vector<SkvRun> runs;
    std::vector<SkvHead> head_table;
    int32_t step_item = -1;  // index of the item of a running step that has this layer
    Undo undo;               // of that item
  };

  static size_t index(int32_t value) { return static_cast<size_t>(value); }
  Layer& layer_at(int32_t layer) { return layers_[index(layer)]; }
  size_t row_bytes() const { return dtype_bytes(config_.dtype) * index(config_.head_dim); }
  // The parts of an append, in order; after a failure of any, undo_append takes all of them back.
  // start trims and makes room for the rows, whose copies it adds to `items`; the caller runs them;
  // finish inserts. settle_append forgets how to go back.
  Status start_append(OpRunner& run, Layer& layer, const RowView& k, const RowView& v,
                      int32_t tokens, std::vector<SkvAppendItem>* items);
  Status grow(OpRunner& run, Layer& layer, const RowView& k, const RowView& v, int32_t tokens,
              std::vector<SkvAppendItem>* items);
  Status finish_append(OpRunner& run, int32_t layer);
  int32_t pages_at_once() const;
  void undo_append(Layer& layer);
  void settle_append(Layer& layer);
  Status check_append(const Layer& layer, const RowView& k, const RowView& v, int32_t tokens) const;
  // Everything of an attend but its run.
  Status plan_attend(OpRunner& run, Layer& layer, const AttendRequest& request,
                     SkvAttendParams* params);
  void refresh_tables(Layer& layer) const;
  Status rope_for(OpRunner& run, int64_t positions, SkvRope* rope);
  Status new_segment(const SegmentShape& shape, Segment* segment) const;
  Status copy_segment(OpRunner& run, const Segment& source, Segment* copy) const;
  Status plan_record(OpRunner& run, const Layer& layer, const RowView& q, int32_t queries,
                     RecordPlan* plan) const;
  Status write_record(OpRunner& run, Layer& layer, const RowView& q, int32_t queries,
                      RecordPlan* plan) const;
  Status trimmed(OpRunner& run, const HeadSegments& head, const TrimPolicy& policy,
                 HeadSegments* result) const;
  Status put_segments(OpRunner& run, std::span<const Segment> segments,
                      std::vector<uint8_t>* out) const;
  Status check_layer(const char* op, int32_t layer) const;
  // Fails unless the queries of the last `count` tokens are recorded.
  static Status check_recorded(const char* op, const Layer& layer, int32_t count);

  StoreConfig config_;
  std::shared_ptr<PagePool> pool_;
  std::shared_ptr<SharedRopeTable> rope_;
  SkvRope rope_view_{};  // of rope_, as far as it was asked for; tables never go before it does
  InsertPolicy insert_;
  TrimPolicy trim_;
  std::vector<Layer> layers_;
};

// Removes the first `count` slots of a head's segments from `first_segment` on.
void drop_front(HeadSegments* head, size_t first_segment, int32_t count);

}  // namespace spindlekv
