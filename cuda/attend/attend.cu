// attend on CUDA, alone and in a batch: which kernel runs for which dtype and head dim, and the
// workspace. Tables go up in one copy; a launch covers all items.
#include "cuda/attend/attend.cuh"

#include "cuda/attend/attend_mma.cuh"
#include "cuda/attend/items.h"
#include "cuda/attend/plan.h"
#include "cuda/attend/scores.cuh"
#include "cuda/common/entries.h"
#include "cuda/common/workspace.h"

#include <cstring>
#include <span>
#include <vector>

namespace spindlekv::cuda {
namespace {

struct AttendEntry {
  int32_t dtype;
  int32_t max_head_dim;
  Status (*launch)(const AttendArgs&, int64_t blocks, cudaStream_t);
};

template <typename Elem, int kLanes, int kVecs>
constexpr AttendEntry fma_entry() {
  using Traits = AttendTraits<Elem, kLanes, kVecs>;
  return {kDTypeOf<Elem>, Traits::kMaxDim, launch_attend_split<Traits>};
}

template <typename Elem, int kMaxDim, bool kTurns>
constexpr AttendEntry mma_entry() {
  return {kDTypeOf<Elem>, kMaxDim, launch_attend_mma<MmaTraits<Elem, kMaxDim, kTurns>>};
}

// Smallest head dim first within a dtype.
constexpr AttendEntry kMmaTable[] = {
    mma_entry<f16, 64, false>(),  mma_entry<f16, 128, false>(),  mma_entry<f16, 256, false>(),
    mma_entry<bf16, 64, false>(), mma_entry<bf16, 128, false>(), mma_entry<bf16, 256, false>(),
};
constexpr AttendEntry kTurningMmaTable[] = {
    mma_entry<f16, 64, true>(),
    mma_entry<f16, 128, true>(),
    mma_entry<bf16, 64, true>(),
    mma_entry<bf16, 128, true>(),
};
constexpr AttendEntry kFmaTable[] = {
    fma_entry<float, 8, 1>(),  fma_entry<float, 16, 1>(), fma_entry<float, 32, 1>(),
    fma_entry<float, 32, 2>(), fma_entry<f16, 8, 1>(),    fma_entry<f16, 16, 1>(),
    fma_entry<f16, 32, 1>(),   fma_entry<f16, 32, 2>(),   fma_entry<bf16, 8, 1>(),
    fma_entry<bf16, 16, 1>(),  fma_entry<bf16, 32, 1>(),  fma_entry<bf16, 32, 2>(),
};

const AttendEntry* find_entry(std::span<const AttendEntry> table, int32_t dtype, int32_t head_dim) {
  for (const AttendEntry& candidate : table) {
    if (candidate.dtype == dtype && head_dim <= candidate.max_head_dim) return &candidate;
  }
  return nullptr;
}

// The keys of a plan: all after RoPE, or some that turn while they are read, on tensor cores or
// not.
enum class KeyKind { kTurned, kTurning, kTurningByFma };

KeyKind kind_of_keys(const AttendPlan& plan) {
  KeyKind kind = KeyKind::kTurned;
  for (const AttendHead& head : plan.heads) {
    const SkvRope& rope = plan.items[static_cast<size_t>(head.item)].op.rope;
    if (rope.cos_sin == nullptr) continue;
    for (int32_t run = 0; run < head.n_runs; ++run) {
      if (plan.runs[static_cast<size_t>(head.first_run + run)].rotated != 0) continue;
      if (!can_turn(rope)) return KeyKind::kTurningByFma;
      kind = KeyKind::kTurning;
    }
  }
  return kind;
}

// By FMA goes what the tensor cores' kernels do not cover.
const AttendEntry* entry_for(const AttendPlan& plan) {
  const SkvAttendParams& op = plan.items.front().op;
  const KeyKind kind = kind_of_keys(plan);
  const AttendEntry* entry = nullptr;
  if (kind == KeyKind::kTurned) entry = find_entry(kMmaTable, op.dtype, op.head_dim);
  if (kind == KeyKind::kTurning) entry = find_entry(kTurningMmaTable, op.dtype, op.head_dim);
  return entry != nullptr ? entry : find_entry(kFmaTable, op.dtype, op.head_dim);
}

// Lays the tables out in `memory` (nullptr: only measures) and fills them, if any, from the plan.
// Tickets are a table of zeros.
struct Tables {
  std::byte* memory;
  size_t bytes = 0;

  template <typename T>
  size_t add(const T* source, int64_t count) {
    const size_t offset = bytes;
    const size_t wanted = static_cast<size_t>(count) * sizeof(T);
    if (memory != nullptr && source != nullptr && wanted > 0) {
      std::memcpy(memory + offset, source, wanted);
    }
    bytes += (wanted + kTableAlignment - 1) / kTableAlignment * kTableAlignment;
    return offset;
  }
  static constexpr size_t kTableAlignment = 16;
};

struct TableOffsets {
  size_t items, heads, runs, members, spans, codebooks, tickets;
};

TableOffsets add_tables(const AttendPlan& plan, Tables& tables) {
  TableOffsets at{};
  at.items = tables.add(plan.items.data(), static_cast<int64_t>(plan.items.size()));
  at.heads = tables.add(plan.heads.data(), static_cast<int64_t>(plan.heads.size()));
  at.runs = tables.add(plan.runs.data(), static_cast<int64_t>(plan.runs.size()));
  at.members = tables.add(plan.members.data(), static_cast<int64_t>(plan.members.size()));
  at.spans = tables.add(plan.spans.data(), static_cast<int64_t>(plan.spans.size()));
  at.codebooks = tables.add(plan.codebooks.data(), static_cast<int64_t>(plan.codebooks.size()));
  at.tickets = tables.add<unsigned>(nullptr, plan.tickets);
  return at;
}

// Lays out the workspace; without memory it only measures.
size_t lay_out(const AttendPlan& plan, size_t table_bytes, int32_t head_dim, void* workspace,
               AttendArgs* args, std::byte** tables) {
  WorkspaceLayout layout(workspace);
  *tables = layout.take<std::byte>(static_cast<int64_t>(table_bytes));
  args->partial_acc = layout.take<float>(plan.partials * head_dim);
  args->partial_stats = layout.take<float2>(plan.partials);
  args->row_stats = layout.take<float2>(plan.rows);
  args->logits = layout.take<float>(plan.logits);
  args->products = layout.take<float>(plan.codebook_totals.products);
  args->dots = layout.take<float>(plan.codebook_totals.dots);
  args->maxima = layout.take<float>(plan.codebook_totals.maxima);
  return layout.bytes();
}

Status unsupported(const SkvAttendParams& p) {
  return error_status(SKV_UNSUPPORTED, "attend",
                      "expected f32, f16 or bf16 and head_dim <= 512, got dtype %d, head_dim %d",
                      p.dtype, p.head_dim);
}

}  // namespace

size_t attend_items_workspace(const SkvAttendParams* items, int32_t n_items) {
  const AttendPlan plan = plan_attend(items, n_items);
  if (plan.items.empty()) return 0;
  Tables tables{nullptr};
  add_tables(plan, tables);
  AttendArgs args{};
  std::byte* unused = nullptr;
  return lay_out(plan, tables.bytes, items[0].head_dim, nullptr, &args, &unused);
}

Status attend_items(SkvDevice& device, const SkvExec& exec, const SkvAttendParams* items,
                    int32_t n_items) {
  const AttendPlan plan = plan_attend(items, n_items);
  if (plan.items.empty()) return ok_status();
  const SkvAttendParams& first = plan.items.front().op;
  const AttendEntry* entry = entry_for(plan);
  if (entry == nullptr) return unsupported(first);

  Tables measured{nullptr};
  const TableOffsets at = add_tables(plan, measured);
  std::vector<std::byte> image(measured.bytes);
  Tables filled{image.data()};
  add_tables(plan, filled);

  AttendArgs args{};
  std::byte* tables = nullptr;
  lay_out(plan, image.size(), first.head_dim, exec.workspace, &args, &tables);
  args.items = reinterpret_cast<const AttendItem*>(tables + at.items);
  args.heads = reinterpret_cast<const AttendHead*>(tables + at.heads);
  args.runs = reinterpret_cast<const SkvRun*>(tables + at.runs);
  args.members = reinterpret_cast<const int32_t*>(tables + at.members);
  args.tickets = reinterpret_cast<unsigned*>(tables + at.tickets);
  args.codebooks = reinterpret_cast<const CodebookRun*>(tables + at.codebooks);
  args.n_codebooks = static_cast<int32_t>(plan.codebooks.size());
  args.n_heads = static_cast<int32_t>(plan.heads.size());
  args.head_dim = first.head_dim;
  args.group = first.group;
  args.q_dtype = first.q_dtype;
  const cudaStream_t stream = stream_of(exec);
  SKV_RETURN_IF_ERROR(device.staging->upload("attend", stream, tables, image.data(), image.size()));

  for (const AttendRound& round : plan.rounds) {
    args.spans = reinterpret_cast<const AttendSpan*>(tables + at.spans) + round.first_span;
    args.n_spans = round.n_spans;
    SKV_RETURN_IF_ERROR(entry->launch(args, round.blocks, stream));
    if (args.round == 0) {
      SKV_RETURN_IF_ERROR(attend_codebooks(args, first.dtype, plan.codebook_totals, stream));
    }
    SKV_RETURN_IF_ERROR(launch_attend_score(args, plan.score_blocks, stream));
    ++args.round;
  }
  return ok_status();
}

size_t attend_workspace(SkvDevice&, const SkvAttendParams& p) {
  return attend_items_workspace(&p, 1);
}

Status attend(SkvDevice& device, const SkvExec& exec, const SkvAttendParams& p) {
  return attend_items(device, exec, &p, 1);
}

}  // namespace spindlekv::cuda
