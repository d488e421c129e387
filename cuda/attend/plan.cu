// Cutting attend into blocks. See plan.h.
#include "cuda/attend/plan.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <string>
#include <string_view>

#include "cuda/attend/codebook_plan.h"
#include "cuda/common/launch.h"

namespace spindlekv::cuda {
namespace {

// Runs [0, runs) of a head, `slots` slots, are read together with other heads'.
struct Shared {
  int32_t runs = 0;
  int32_t slots = 0;
};

int32_t count_splits(int32_t slots) {
  return static_cast<int32_t>(ceil_div(slots, split_slots(slots)));
}

// An item's heads and the runs that hold anything.
void take_item(const SkvAttendParams& p, AttendPlan& plan) {
  AttendItem item{};
  item.op = p;
  item.block_queries = kBlockRows / p.group;
  for (int32_t h = 0; h < p.kv_heads; ++h) {
    AttendHead head{};
    head.item = static_cast<int32_t>(plan.items.size());
    head.kv_head = h;
    head.slots = p.heads[h].slots;
    head.logit_stride = p.score_mode == SKV_SCORE_NONE ? 0 : ceil_div(head.slots, 32) * 32;
    head.first_run = static_cast<int32_t>(plan.runs.size());
    for (int32_t r = 0; r < p.heads[h].n_runs; ++r) {
      const SkvRun& run = p.runs[p.heads[h].first_run + r];
      if (run.slots > 0) plan.runs.push_back(run);
    }
    head.n_runs = static_cast<int32_t>(plan.runs.size()) - head.first_run;
    plan.heads.push_back(head);
  }
  plan.items.push_back(item);
}

// As many queries as the workspace target allows, in whole row tiles; all of them if few. Counts
// the splits of an unshared head: a head that shares has all its queries in one tile.
int32_t queries_of_round(const AttendItem& item, const AttendHead* heads, int64_t target) {
  const SkvAttendParams& p = item.op;
  int64_t floats_a_query = 0;
  for (int32_t h = 0; h < p.kv_heads; ++h) {
    const int64_t partials = std::max(1, count_splits(heads[h].slots));
    floats_a_query += p.group * (partials * (int64_t{p.head_dim} + 2) + heads[h].logit_stride + 2);
  }
  const int64_t fitting = target / (4 * floats_a_query);
  const int64_t tiles = std::max<int64_t>(1, fitting / item.block_queries);
  return static_cast<int32_t>(std::min<int64_t>(p.queries, tiles * item.block_queries));
}

bool is_one_tile(const AttendItem& item) { return item.op.queries <= item.block_queries; }

std::string_view bytes_of(const SkvRun& run) {
  return {reinterpret_cast<const char*>(&run), sizeof(run)};
}

// What heads that read something together have in common: the first run, and how keys turn. SkvRun
// and SkvRope have no padding, so equal bytes are equal fields.
std::string sharing_key(const SkvRun& first, const SkvAttendParams& p) {
  std::string key(bytes_of(first));
  key.append(reinterpret_cast<const char*>(&p.rope), sizeof(p.rope));
  key.append(reinterpret_cast<const char*>(&p.reindex), sizeof(p.reindex));
  return key;
}

std::map<std::string, std::vector<int32_t>> heads_by_sharing(const AttendPlan& plan) {
  std::map<std::string, std::vector<int32_t>> groups;
  for (size_t h = 0; h < plan.heads.size(); ++h) {
    const AttendHead& head = plan.heads[h];
    if (head.n_runs == 0 || !is_one_tile(plan.items[head.item])) continue;
    const std::string key = sharing_key(plan.runs[head.first_run], plan.items[head.item].op);
    groups[key].push_back(static_cast<int32_t>(h));
  }
  return groups;
}

// The leading runs that all heads of a group have in common.
Shared common_runs(const AttendPlan& plan, const std::vector<int32_t>& group) {
  const AttendHead& first = plan.heads[group.front()];
  int32_t runs = first.n_runs;
  for (const int32_t h : group) {
    const AttendHead& other = plan.heads[h];
    int32_t equal = 0;
    while (equal < runs && equal < other.n_runs &&
           bytes_of(plan.runs[first.first_run + equal]) ==
               bytes_of(plan.runs[other.first_run + equal])) {
      ++equal;
    }
    runs = equal;
  }
  const SkvRun& last = plan.runs[first.first_run + runs - 1];
  return {runs, last.slot_base + last.slots};
}

// Spans that read `slots` slots for all heads of the group, a row tile each.
void share_slots(AttendPlan& plan, const std::vector<int32_t>& group, int32_t slots,
                 std::vector<AttendSpan>& spans) {
  int rows = kBlockRows + 1;
  for (const int32_t h : group) {
    const SkvAttendParams& op = plan.items[plan.heads[h].item].op;
    rows += op.queries * op.group;
    if (rows > kBlockRows) {
      AttendSpan span{};
      span.tiles = 1;
      span.head = static_cast<int32_t>(plan.members.size());
      span.slots = slots;
      span.split_slots = split_slots(slots);
      spans.push_back(span);
      rows = op.queries * op.group;
    }
    ++spans.back().members;
    plan.members.push_back(h);
  }
}

// Heads that read their first runs together.
struct SharingGroup {
  std::vector<int32_t> heads;
  Shared common;
};

// The groups of heads that go on alike after their first `runs` runs.
std::vector<std::vector<int32_t>> parted(const AttendPlan& plan, const std::vector<int32_t>& group,
                                         int32_t runs) {
  std::map<std::string_view, std::vector<int32_t>> parts;
  for (const int32_t h : group) {
    const AttendHead& head = plan.heads[h];
    if (head.n_runs > runs) parts[bytes_of(plan.runs[head.first_run + runs])].push_back(h);
  }
  std::vector<std::vector<int32_t>> groups;
  for (auto& [next_run, heads] : parts) {
    if (heads.size() > 1) groups.push_back(std::move(heads));
  }
  return groups;
}

// Takes what saves the most slots to read: all heads of the group together, or parts of it that
// have more in common. A head is in one group at most. Returns the slots saved.
int64_t choose_groups(const AttendPlan& plan, const std::vector<int32_t>& group,
                      std::vector<SharingGroup>& chosen) {
  const Shared common = common_runs(plan, group);
  int64_t together = static_cast<int64_t>(group.size() - 1) * common.slots;
  if (common.slots < kLeastShared) together = 0;
  std::vector<SharingGroup> of_parts;
  int64_t apart = 0;
  for (const std::vector<int32_t>& part : parted(plan, group, common.runs)) {
    apart += choose_groups(plan, part, of_parts);
  }
  if (together == 0 && apart == 0) return 0;
  if (together >= apart) of_parts = {{group, common}};
  std::move(of_parts.begin(), of_parts.end(), std::back_inserter(chosen));
  return std::max(together, apart);
}

// The shared spans, and what each head shares.
std::vector<AttendSpan> plan_sharing(AttendPlan& plan, std::vector<Shared>& shared) {
  std::vector<SharingGroup> groups;
  for (const auto& [key, heads] : heads_by_sharing(plan)) {
    if (heads.size() > 1) choose_groups(plan, heads, groups);
  }
  std::vector<AttendSpan> spans;
  for (const SharingGroup& group : groups) {
    share_slots(plan, group.heads, group.common.slots, spans);
    for (const int32_t h : group.heads) shared[static_cast<size_t>(h)] = group.common;
  }
  return spans;
}

// Slots [first, end) of a head, whose partials begin behind `first_split`.
AttendSpan stretch(int32_t h, int32_t first, int32_t end, int32_t first_split) {
  AttendSpan span{};
  span.head = h;
  span.first_slot = first;
  span.slots = end - first;
  span.split_slots = split_slots(span.slots);
  span.first_split = first_split;
  return span;
}

int32_t splits_of(const AttendSpan& span) {
  const bool is_empty_head = span.members == 0 && span.slots == 0 && span.first_slot == 0;
  return is_empty_head ? 1 : static_cast<int32_t>(ceil_div(span.slots, span.split_slots));
}

// What a head reads alone, slot by slot: all but what it shares or has taken through codewords. A
// head without slots has one empty split, which writes zeros.
struct OwnSpans {
  std::vector<AttendSpan> spans;
  int32_t codebook = -1;  // run
  int32_t end = 0;        // past the last of their partials

  void add(const AttendSpan& span) {
    spans.push_back(span);
    end = span.first_split + splits_of(span);
  }
};

OwnSpans own_spans(const AttendPlan& plan, int32_t h, const Shared& shared) {
  const AttendHead& head = plan.heads[static_cast<size_t>(h)];
  OwnSpans own;
  own.end = count_splits(shared.slots);
  if (shared.slots == 0 && is_one_tile(plan.items[static_cast<size_t>(head.item)])) {
    own.codebook = choose_codebook(plan, h);
  }
  if (own.codebook < 0) {
    own.add(stretch(h, shared.slots, head.slots, own.end));
    return own;
  }
  const SkvRun& run = plan.runs[static_cast<size_t>(own.codebook)];
  if (run.slot_base > 0) own.add(stretch(h, 0, run.slot_base, own.end));
  const int32_t behind = run.slot_base + run.slots;
  if (behind < head.slots) own.add(stretch(h, behind, head.slots, own.end));
  return own;
}

// Where each head's partials, logits, statistics and tickets lie.
void place_heads(AttendPlan& plan, const std::vector<OwnSpans>& own) {
  for (size_t h = 0; h < plan.heads.size(); ++h) {
    AttendHead& head = plan.heads[h];
    const AttendItem& item = plan.items[head.item];
    const int64_t rows = int64_t{item.round_queries} * item.op.group;
    head.splits = own[h].end;
    if (own[h].codebook >= 0) {
      head.splits += add_codebook(plan, static_cast<int32_t>(h), own[h].codebook, own[h].end);
    }
    head.first_partial = plan.partials;
    head.first_logit = plan.logits;
    head.first_row = plan.rows;
    head.first_ticket = static_cast<int32_t>(plan.tickets);
    head.first_score_block = static_cast<int32_t>(plan.score_blocks);
    plan.partials += rows * head.splits;
    plan.logits += rows * head.logit_stride;
    plan.rows += rows;
    plan.tickets += ceil_div(item.round_queries, item.block_queries);
    if (item.op.score_mode != SKV_SCORE_NONE) {
      plan.score_blocks += ceil_div(head.slots, kScoreSlots);
    }
  }
}

void add_span(AttendPlan& plan, AttendSpan span) {
  const int64_t blocks = int64_t{span.tiles} * splits_of(span);
  if (blocks == 0) return;
  const AttendHead& head = plan.heads[span.members == 0 ? span.head : plan.members[span.head]];
  span.first_run = head.first_run;
  span.n_runs = head.n_runs;
  AttendRound& round = plan.rounds.back();
  span.first_block = static_cast<int32_t>(round.blocks);
  plan.spans.push_back(span);
  round.blocks += blocks;
  ++round.n_spans;
}

// Longest splits first would balance better; spans of a batch are of like length, and the order of
// the blocks does not change results.
void plan_rounds(AttendPlan& plan, const std::vector<AttendSpan>& shared_spans,
                 const std::vector<OwnSpans>& own) {
  int64_t rounds = 0;
  for (const AttendItem& item : plan.items) {
    rounds = std::max(rounds, ceil_div(item.op.queries, item.round_queries));
  }
  for (int64_t round = 0; round < rounds; ++round) {
    plan.rounds.push_back({static_cast<int32_t>(plan.spans.size()), 0, 0});
    if (round == 0) {
      for (const AttendSpan& span : shared_spans) add_span(plan, span);
    }
    for (size_t h = 0; h < plan.heads.size(); ++h) {
      const AttendItem& item = plan.items[plan.heads[h].item];
      const int64_t left = item.op.queries - round * item.round_queries;
      if (left <= 0) continue;
      for (AttendSpan span : own[h].spans) {
        span.tiles = static_cast<int32_t>(
            ceil_div(std::min<int64_t>(left, item.round_queries), item.block_queries));
        add_span(plan, span);
      }
    }
  }
}

}  // namespace

AttendPlan plan_attend(const SkvAttendParams* items, int32_t n_items) {
  AttendPlan plan;
  for (int32_t i = 0; i < n_items; ++i) {
    if (items[i].queries > 0) take_item(items[i], plan);
  }
  if (plan.items.empty()) return plan;
  const int64_t target = kAttendWorkspaceTarget / static_cast<int64_t>(plan.items.size());
  size_t first_head = 0;
  for (AttendItem& item : plan.items) {
    item.round_queries = queries_of_round(item, plan.heads.data() + first_head, target);
    first_head += static_cast<size_t>(item.op.kv_heads);
  }
  std::vector<Shared> shared(plan.heads.size());
  const std::vector<AttendSpan> shared_spans = plan_sharing(plan, shared);
  std::vector<OwnSpans> own;
  for (size_t h = 0; h < plan.heads.size(); ++h) {
    own.push_back(own_spans(plan, static_cast<int32_t>(h), shared[h]));
  }
  place_heads(plan, own);
  plan_rounds(plan, shared_spans, own);
  return plan;
}

}  // namespace spindlekv::cuda
