// Store::insert: the oldest raw slots behind a codebook segment join it (SpindleKV's decode,
// section 3.3 (f)): a key or value within theta of a codeword becomes a reference to the nearest
// one; what matches none is covered greedily and brings new codewords, as long as the codebook may
// grow; then the nearest one has to do.
#include <algorithm>
#include <map>

#include "core/store.h"

namespace spindlekv {
namespace {

// One side (keys or values) of one head while it is inserted.
struct Side {
  const void* x = nullptr;          // [count, D]
  const void* codewords = nullptr;  // [known, D]
  int32_t known = 0;
  float theta = 0.0f;
  // device lists, one block: index, score, rows, labels, leaders, cosines, new count, then
  // codewords and magnitudes
  MemoryBlock block;
  int32_t* nearest = nullptr;
  float* score = nullptr;
  int32_t* all_labels = nullptr;
  int32_t* rows = nullptr;
  int32_t* labels = nullptr;
  int32_t* leaders = nullptr;
  float* cosines = nullptr;  // of the unmatched rows with their new codewords
  int32_t* new_count = nullptr;
  std::byte* magnitudes = nullptr;     // [count] of every row
  std::byte* new_codewords = nullptr;  // [count, D]
  std::byte* discarded = nullptr;  // [count, D]: codewords of the call that only makes magnitudes
  std::vector<int32_t> refs;       // host, final
  std::vector<float> scores;       // host, of the nearest known codewords
  std::vector<int32_t> unmatched;  // host rows
  int32_t added = 0;
};

size_t up_to_16(size_t bytes) { return (bytes + 15) / 16 * 16; }

Status allocate_side(OpRunner& run, size_t count, size_t row, size_t element, Side* side) {
  const size_t list = up_to_16(count * sizeof(int32_t));
  SKV_RETURN_IF_ERROR(run.allocate(
      7 * list + 16 + up_to_16(count * element) + 2 * up_to_16(count * row), &side->block));
  std::byte* next = static_cast<std::byte*>(side->block.data());
  const auto take = [&next](size_t bytes) {
    std::byte* at = next;
    next += bytes;
    return at;
  };
  side->nearest = reinterpret_cast<int32_t*>(take(list));
  side->score = reinterpret_cast<float*>(take(list));
  side->all_labels = reinterpret_cast<int32_t*>(take(list));
  side->rows = reinterpret_cast<int32_t*>(take(list));
  side->labels = reinterpret_cast<int32_t*>(take(list));
  side->leaders = reinterpret_cast<int32_t*>(take(list));
  side->cosines = reinterpret_cast<float*>(take(list));
  side->new_count = reinterpret_cast<int32_t*>(take(16));
  side->magnitudes = take(up_to_16(count * element));
  side->new_codewords = take(up_to_16(count * row));
  side->discarded = take(up_to_16(count * row));
  return ok_status();
}

// Appends references to the old ones, both of the new width.
Status write_refs(OpRunner& run, const void* old_refs, int32_t old_bytes, int32_t old_slots,
                  const std::vector<int32_t>& added, int32_t ref_bytes, void* to) {
  std::byte* tail =
      static_cast<std::byte*>(to) + static_cast<size_t>(old_slots) * static_cast<size_t>(ref_bytes);
  const size_t old_total = static_cast<size_t>(old_slots);
  if (old_bytes == ref_bytes) {
    SKV_RETURN_IF_ERROR(
        run.copy(to, old_refs, old_total * static_cast<size_t>(ref_bytes), SKV_COPY_ON_DEVICE));
  } else {  // 2 -> 4: the codebook outgrew 16 bits
    std::vector<uint16_t> narrow;
    SKV_RETURN_IF_ERROR(run.download(static_cast<const uint16_t*>(old_refs), old_total, &narrow));
    const std::vector<uint32_t> wide(narrow.begin(), narrow.end());
    SKV_RETURN_IF_ERROR(run.upload(static_cast<uint32_t*>(to), wide));
  }
  if (ref_bytes == 2) {
    const std::vector<uint16_t> narrow(added.begin(), added.end());
    return run.upload(reinterpret_cast<uint16_t*>(tail), narrow);
  }
  return run.upload(reinterpret_cast<int32_t*>(tail), added);
}

}  // namespace

Status Store::insert(OpRunner& run, int32_t layer_index, int32_t count,
                     const InsertPolicy& policy) {
  SKV_RETURN_IF_ERROR(check_layer("insert", layer_index));
  Layer& layer = layer_at(layer_index);
  const size_t row = row_bytes();
  const size_t element = dtype_bytes(config_.dtype);

  struct HeadWork {
    size_t codebook = 0;  // index of the codebook segment
    int32_t count = 0;
    SkvRun source{};
    MemoryBlock gathered;
    Side sides[2];
  };
  std::vector<HeadWork> works(layer.heads.size());
  std::vector<SkvNearestProblem> nearest;
  std::vector<SkvCodebookProblem> measured;
  for (size_t h = 0; h < works.size(); ++h) {
    HeadWork& work = works[h];
    const HeadSegments& head = layer.heads[h];
    size_t after = head.segments.size();
    while (after > 0 && head.segments[after - 1].shape.codec != SKV_CODEC_CODEBOOK) --after;
    if (after == 0) continue;  // nothing to join
    work.codebook = after - 1;
    SKV_RETURN_IF_ERROR(
        gather_raw(run, head, static_cast<int32_t>(after), &work.source, &work.gathered));
    work.count = std::min(count, work.source.slots);
    if (work.count == 0) continue;
    const SkvRun known = run_of(head.segments[work.codebook], config_.dtype, config_.head_dim, 0);
    for (int s = 0; s < 2; ++s) {
      Side& side = work.sides[s];
      side.x = s == 0 ? work.source.k : work.source.v;
      side.codewords = s == 0 ? known.k : known.v;
      side.known = s == 0 ? known.k_codewords : known.v_codewords;
      side.theta = s == 0 ? policy.theta_k : policy.theta_v;
      SKV_RETURN_IF_ERROR(allocate_side(run, index(work.count), row, element, &side));
      SkvNearestProblem problem{};
      problem.x = side.x;
      problem.codewords = side.codewords;
      problem.x_stride = problem.codeword_stride = config_.head_dim;
      problem.n = work.count;
      problem.c = side.known;
      problem.index = side.nearest;
      problem.score = side.score;
      nearest.push_back(problem);
      // Every row as its own codeword: the op then writes the magnitudes, rounded as everywhere.
      std::vector<int32_t> each(index(work.count));
      for (int32_t i = 0; i < work.count; ++i) each[index(i)] = i;
      SKV_RETURN_IF_ERROR(run.upload(side.all_labels, each));
      SKV_RETURN_IF_ERROR(run.upload(side.leaders, each));
      SKV_RETURN_IF_ERROR(
          run.copy(side.new_count, &work.count, sizeof(int32_t), SKV_COPY_TO_DEVICE));
      SkvCodebookProblem measure{};
      measure.x = side.x;
      measure.x_stride = config_.head_dim;
      measure.n = measure.n_rows = measure.capacity = work.count;
      measure.theta = side.theta;
      measure.labels = side.all_labels;
      measure.leaders = side.leaders;
      measure.count = side.new_count;
      measure.codewords = side.discarded;
      measure.magnitudes = side.magnitudes;
      measured.push_back(measure);
    }
  }
  if (nearest.empty()) return ok_status();
  const SkvNearestCodewordParams nearest_params{
      config_.dtype, config_.head_dim, static_cast<int32_t>(nearest.size()), 1, nearest.data()};
  SKV_RETURN_IF_ERROR(run.nearest_codeword(nearest_params));
  SkvBuildCodebookParams build{};
  build.dtype = config_.dtype;
  build.head_dim = config_.head_dim;
  build.ref_bytes = 2;
  build.n_problems = static_cast<int32_t>(measured.size());
  build.stages = SKV_STAGE_EMIT;
  build.problems = measured.data();
  SKV_RETURN_IF_ERROR(run.build_codebook(build));

  // Codebooks may have different room left, and the op takes one limit a call: one call for each
  // limit.
  std::map<int32_t, std::vector<SkvCodebookProblem>> uncovered;
  for (HeadWork& work : works) {
    if (work.count == 0) continue;
    for (Side& side : work.sides) {
      SKV_RETURN_IF_ERROR(run.download(side.nearest, index(work.count), &side.refs));
      SKV_RETURN_IF_ERROR(run.download(side.score, index(work.count), &side.scores));
      // A row that is not a number is near to nothing; its magnitude, not its codeword, keeps it
      // so.
      for (int32_t& ref : side.refs) ref = std::max(ref, 0);
      const int32_t room = policy.max_codewords == 0 ? 0 : policy.max_codewords - side.known;
      if (policy.max_codewords > 0 && room <= 0) continue;  // full: the nearest one has to do
      for (int32_t i = 0; i < work.count; ++i) {
        if (!(side.scores[index(i)] > side.theta)) side.unmatched.push_back(i);
      }
      if (side.unmatched.empty()) continue;
      SKV_RETURN_IF_ERROR(run.upload(side.rows, side.unmatched));
      SkvCodebookProblem problem{};
      problem.x = side.x;
      problem.x_stride = config_.head_dim;
      problem.n = work.count;
      problem.rows = side.rows;
      problem.n_rows = problem.capacity = static_cast<int32_t>(side.unmatched.size());
      problem.theta = side.theta;
      problem.labels = side.labels;
      problem.leaders = side.leaders;
      problem.count = side.new_count;
      problem.codewords = side.new_codewords;
      problem.cosines = side.cosines;
      uncovered[room].push_back(problem);
    }
  }
  build.stages = SKV_STAGE_COVER | SKV_STAGE_EMIT;
  for (const auto& [room, problems] : uncovered) {
    build.max_codewords = room;
    build.n_problems = static_cast<int32_t>(problems.size());
    build.problems = problems.data();
    SKV_RETURN_IF_ERROR(run.build_codebook(build));
  }

  std::vector<HeadSegments> result = layer.heads;
  for (size_t h = 0; h < works.size(); ++h) {
    HeadWork& work = works[h];
    if (work.count == 0) continue;
    for (Side& side : work.sides) {
      if (side.unmatched.empty()) continue;
      std::vector<int32_t> labels;
      std::vector<float> cosines;
      std::vector<int32_t> added;
      SKV_RETURN_IF_ERROR(run.download(side.labels, side.unmatched.size(), &labels));
      SKV_RETURN_IF_ERROR(run.download(side.cosines, side.unmatched.size(), &cosines));
      SKV_RETURN_IF_ERROR(run.download(side.new_count, 1, &added));
      side.added = added[0];
      for (size_t i = 0; i < labels.size(); ++i) {
        const size_t at = index(side.unmatched[i]);
        // A row that the limit left uncovered may be nearer to a known codeword.
        if (cosines[i] <= side.theta && side.scores[at] >= cosines[i]) continue;
        side.refs[at] = side.known + labels[i];
      }
    }
    const Segment& old = layer.heads[h].segments[work.codebook];
    SegmentShape shape = old.shape;
    shape.capacity = old.slots + work.count;
    shape.k_codewords += work.sides[0].added;
    shape.v_codewords += work.sides[1].added;
    Segment grown;
    SKV_RETURN_IF_ERROR(new_segment(shape, &grown));
    grown.slots = shape.capacity;
    const SkvRun from = run_of(old, config_.dtype, config_.head_dim, 0);
    const SkvRun to = run_of(grown, config_.dtype, config_.head_dim, 0);
    const size_t old_slots = index(old.slots);
    const size_t fresh = index(work.count);
    for (int s = 0; s < 2; ++s) {
      const Side& side = work.sides[s];
      std::byte* codewords = static_cast<std::byte*>(s == 0 ? to.k : to.v);
      SKV_RETURN_IF_ERROR(
          run.copy(codewords, side.codewords, index(side.known) * row, SKV_COPY_ON_DEVICE));
      SKV_RETURN_IF_ERROR(run.copy(codewords + index(side.known) * row, side.new_codewords,
                                   index(side.added) * row, SKV_COPY_ON_DEVICE));
      SKV_RETURN_IF_ERROR(write_refs(run, s == 0 ? from.k_ref : from.v_ref, from.ref_bytes,
                                     old.slots, side.refs, to.ref_bytes,
                                     s == 0 ? to.k_ref : to.v_ref));
      std::byte* magnitudes = static_cast<std::byte*>(s == 0 ? to.k_magnitude : to.v_magnitude);
      SKV_RETURN_IF_ERROR(run.copy(magnitudes, s == 0 ? from.k_magnitude : from.v_magnitude,
                                   old_slots * element, SKV_COPY_ON_DEVICE));
      SKV_RETURN_IF_ERROR(run.copy(magnitudes + old_slots * element, side.magnitudes,
                                   fresh * element, SKV_COPY_ON_DEVICE));
    }
    SKV_RETURN_IF_ERROR(
        run.copy(to.positions, from.positions, old_slots * sizeof(int32_t), SKV_COPY_ON_DEVICE));
    SKV_RETURN_IF_ERROR(run.copy(to.positions + old_slots, work.source.positions,
                                 fresh * sizeof(int32_t), SKV_COPY_ON_DEVICE));
    if (to.mask != nullptr) {  // new tokens are visible to the whole group
      SKV_RETURN_IF_ERROR(
          run.copy(to.mask, from.mask, old_slots * sizeof(uint16_t), SKV_COPY_ON_DEVICE));
      SKV_RETURN_IF_ERROR(run.fill(to.mask + old_slots, 0xff, fresh * sizeof(uint16_t)));
    }
    result[h].segments[work.codebook] = std::move(grown);
    drop_front(&result[h], work.codebook + 1, work.count);
  }
  SKV_RETURN_IF_ERROR(run.synchronize());
  layer.heads = std::move(result);
  layer.tables_stale = true;
  return ok_status();
}

}  // namespace spindlekv
