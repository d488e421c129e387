// Draft::encode: raw slots of every head of a layer become references into a codebook for keys and
// one for values (SpindleKV, arXiv 2507.06517, section 3.3), each built from the head's own slots.
#include <algorithm>

#include "core/draft.h"

namespace spindlekv {
namespace {

size_t index(int32_t value) { return static_cast<size_t>(value); }

// What is made for one head, keys (0) and values (1).
struct HeadWork {
  size_t first_raw = 0;  // index of the first raw segment
  int32_t slots = 0;     // raw slots to encode
  SkvRun source{};
  MemoryBlock gathered;
  MemoryBlock lists;  // labels and leaders of both sides, and the two counts
  int32_t* labels[2] = {nullptr, nullptr};
  int32_t* leaders[2] = {nullptr, nullptr};
  int32_t* counts = nullptr;
  Segment segment;
};

Status allocate_lists(OpRunner& run, HeadWork* work) {
  const size_t slots = index(work->slots);
  SKV_RETURN_IF_ERROR(run.allocate((4 * slots + 2) * sizeof(int32_t), &work->lists));
  int32_t* next = static_cast<int32_t*>(work->lists.data());
  for (int side = 0; side < 2; ++side) {
    work->labels[side] = next;
    work->leaders[side] = next + slots;
    next += 2 * slots;
  }
  work->counts = next;
  return ok_status();
}

SkvCodebookProblem problem_of(const HeadWork& work, int side, int32_t head_dim,
                              const EncodeOptions& options) {
  SkvCodebookProblem problem{};
  problem.x = side == 0 ? work.source.k : work.source.v;
  problem.x_stride = head_dim;
  problem.n = problem.n_rows = work.slots;
  problem.theta = side == 0 ? options.theta_k : options.theta_v;
  problem.capacity = work.slots;
  problem.labels = work.labels[side];
  problem.leaders = work.leaders[side];
  problem.count = work.counts + side;
  return problem;
}

// COVER of all problems; it fails on rows that are not finite.
Status find_cover(OpRunner& run, SkvBuildCodebookParams params, int32_t layer) {
  MemoryBlock nonfinite;
  SKV_RETURN_IF_ERROR(run.allocate(sizeof(int32_t), &nonfinite));
  SKV_RETURN_IF_ERROR(run.fill(nonfinite.data(), 0, sizeof(int32_t)));
  params.nonfinite = static_cast<int32_t*>(nonfinite.data());
  SKV_RETURN_IF_ERROR(run.build_codebook(params));
  std::vector<int32_t> bad;
  SKV_RETURN_IF_ERROR(run.download(static_cast<const int32_t*>(nonfinite.data()), 1, &bad));
  if (bad[0] > 0) {
    return error_status(SKV_NON_FINITE, "encode",
                        "expected finite keys and values, got %d rows of layer %d that are not",
                        bad[0], layer);
  }
  return ok_status();
}

// Puts a known cover where COVER would have written it: leaders become indices into what is there
// now.
Status take_cover(OpRunner& run, const KnownCover& cover, const std::vector<HeadWork>& works) {
  int64_t taken = 0;
  for (size_t h = 0; h < works.size(); ++h) {
    const HeadWork& work = works[h];
    if (work.slots == 0) continue;
    const int64_t slots = work.slots;
    const std::vector<int32_t> counts{cover.codewords[2 * h], cover.codewords[2 * h + 1]};
    if (taken + 4 * slots > cover.length || slots > cover.slot_stride ||
        std::min(counts[0], counts[1]) < 1 || std::max(counts[0], counts[1]) > slots) {
      return error_status(SKV_ARGUMENT, "encode",
                          "expected a cover of %lld slots for head %zu, got another",
                          static_cast<long long>(slots), h);
    }
    std::vector<int32_t> kept;
    SKV_RETURN_IF_ERROR(run.download(cover.slots + static_cast<int64_t>(h) * cover.slot_stride,
                                     index(work.slots), &kept));
    for (int side = 0; side < 2; ++side) {
      const int32_t* const labels = cover.lists + taken;
      taken += 2 * slots;
      SKV_RETURN_IF_ERROR(run.copy(work.labels[side], labels, index(work.slots) * sizeof(int32_t),
                                   SKV_COPY_ON_DEVICE));
      std::vector<int32_t> leaders;
      SKV_RETURN_IF_ERROR(run.download(labels + slots, index(counts[index(side)]), &leaders));
      for (int32_t& leader : leaders) {
        const auto at = std::lower_bound(kept.begin(), kept.end(), leader);
        if (at == kept.end() || *at != leader) {
          return error_status(SKV_ARGUMENT, "encode",
                              "expected leaders among the kept slots of head %zu, got slot %d", h,
                              leader);
        }
        leader = static_cast<int32_t>(at - kept.begin());
      }
      SKV_RETURN_IF_ERROR(run.upload(work.leaders[side], leaders));
    }
    SKV_RETURN_IF_ERROR(run.upload(work.counts, counts));
  }
  return run.synchronize();
}

}  // namespace

Status Draft::encode(OpRunner& run, int32_t layer, const EncodeOptions& options) {
  SKV_RETURN_IF_ERROR(store_->check_layer("encode", layer));
  const StoreConfig& config = store_->config();
  std::vector<HeadWork> works(index(config.kv_heads));

  std::vector<SkvCodebookProblem> problems;
  for (int32_t h = 0; h < config.kv_heads; ++h) {
    HeadWork& work = works[index(h)];
    const HeadSegments& source = head(layer, h);
    while (work.first_raw < source.segments.size() &&
           source.segments[work.first_raw].shape.codec == SKV_CODEC_CODEBOOK) {
      ++work.first_raw;
    }
    SKV_RETURN_IF_ERROR(store_->gather_raw(run, source, static_cast<int32_t>(work.first_raw),
                                           &work.source, &work.gathered));
    work.slots = std::max(0, work.source.slots - options.raw_recent);
    if (work.slots == 0) continue;
    SKV_RETURN_IF_ERROR(allocate_lists(run, &work));
    for (int side = 0; side < 2; ++side) {
      problems.push_back(problem_of(work, side, config.head_dim, options));
    }
  }
  SkvBuildCodebookParams params{};
  params.dtype = config.dtype;
  params.head_dim = config.head_dim;
  params.n_problems = static_cast<int32_t>(problems.size());
  params.stages = SKV_STAGE_COVER;
  params.max_codewords = options.max_codewords;
  params.ref_bytes = 2;
  params.problems = problems.data();
  SKV_RETURN_IF_ERROR(options.cover.lists != nullptr ? take_cover(run, options.cover, works)
                                                     : find_cover(run, params, layer));

  // The counts say how large each segment is; the codewords then go straight to their place.
  std::vector<HeadSegments> result(works.size());
  size_t next_problem = 0;
  for (int32_t h = 0; h < config.kv_heads; ++h) {
    HeadWork& work = works[index(h)];
    const HeadSegments& source = head(layer, h);
    if (work.slots == 0) {
      result[index(h)] = source;
      continue;
    }
    std::vector<int32_t> counts;
    SKV_RETURN_IF_ERROR(run.download(work.counts, 2, &counts));
    SegmentShape shape{SKV_CODEC_CODEBOOK, work.slots, counts[0], counts[1]};
    for (size_t s = work.first_raw; s < source.segments.size(); ++s) {
      shape.has_mask = shape.has_mask || source.segments[s].shape.has_mask;
      if (source.segments[s].shape.has_beta) {
        return error_status(SKV_UNSUPPORTED, "encode",
                            "expected slots that were not merged, got slots with beta");
      }
    }
    SKV_RETURN_IF_ERROR(store_->new_segment(shape, &work.segment));
    work.segment.slots = work.slots;
    const SkvRun to = run_of(work.segment, config.dtype, config.head_dim, 0);
    for (int side = 0; side < 2; ++side) {
      SkvCodebookProblem& problem = problems[next_problem++];
      problem.codewords = side == 0 ? to.k : to.v;
      problem.refs = side == 0 ? to.k_ref : to.v_ref;
      problem.magnitudes = side == 0 ? to.k_magnitude : to.v_magnitude;
      problem.capacity = counts[index(side)];
    }
  }
  // One call per width of reference; nearly always one call.
  for (const int32_t ref_bytes : {2, 4}) {
    std::vector<SkvCodebookProblem> chosen;
    size_t at = 0;
    for (const HeadWork& work : works) {
      if (work.slots == 0) continue;
      const SegmentShape& shape = work.segment.shape;
      if (ref_bytes_for(shape.k_codewords, shape.v_codewords) == ref_bytes) {
        chosen.push_back(problems[at]);
        chosen.push_back(problems[at + 1]);
      }
      at += 2;
    }
    if (chosen.empty()) continue;
    params.n_problems = static_cast<int32_t>(chosen.size());
    params.stages = SKV_STAGE_EMIT;
    params.refine = options.refine;
    params.ref_bytes = ref_bytes;
    params.problems = chosen.data();
    SKV_RETURN_IF_ERROR(run.build_codebook(params));
  }

  for (int32_t h = 0; h < config.kv_heads; ++h) {
    HeadWork& work = works[index(h)];
    if (work.slots == 0) continue;
    const HeadSegments& source = head(layer, h);
    HeadSegments& target = result[index(h)];
    const SkvRun to = run_of(work.segment, config.dtype, config.head_dim, 0);
    SKV_RETURN_IF_ERROR(run.copy(to.positions, work.source.positions,
                                 index(work.slots) * sizeof(int32_t), SKV_COPY_ON_DEVICE));
    if (to.mask != nullptr) {
      int32_t done = 0;
      for (size_t s = work.first_raw; s < source.segments.size() && done < work.slots; ++s) {
        const SkvRun from = run_of(source.segments[s], config.dtype, config.head_dim, 0);
        const int32_t count = std::min(from.slots, work.slots - done);
        const size_t bytes = index(count) * sizeof(uint16_t);
        SKV_RETURN_IF_ERROR(from.mask != nullptr
                                ? run.copy(to.mask + done, from.mask, bytes, SKV_COPY_ON_DEVICE)
                                : run.fill(to.mask + done, 0xff, bytes));
        done += count;
      }
    }
    std::vector<int32_t> counts;
    SKV_RETURN_IF_ERROR(run.download(work.counts, 2, &counts));
    target.segments.assign(source.segments.begin(),
                           source.segments.begin() + static_cast<std::ptrdiff_t>(work.first_raw));
    const SegmentShape& shape = work.segment.shape;
    if (counts[0] < shape.k_codewords || counts[1] < shape.v_codewords) {
      // Refinement emptied codewords: move to a segment of the smaller size.
      Segment smaller;
      SKV_RETURN_IF_ERROR(shrink_codewords(run, work.segment, counts[0], counts[1], &smaller));
      target.segments.push_back(std::move(smaller));
    } else {
      target.segments.push_back(work.segment);
    }
    // What stays raw: the newest slots, as a copy of exactly their size unless they stand alone
    // already.
    HeadSegments tail;
    tail.segments.assign(source.segments.begin() + static_cast<std::ptrdiff_t>(work.first_raw),
                         source.segments.end());
    drop_front(&tail, 0, work.slots);
    SKV_RETURN_IF_ERROR(own_tail(run, &tail));
    for (Segment& segment : tail.segments) target.segments.push_back(std::move(segment));
  }
  SKV_RETURN_IF_ERROR(run.synchronize());
  scratch_.clear();
  layers_[index(layer)] = std::move(result);
  return ok_status();
}

// Copies the arrays of a codebook segment into one with fewer codewords.
Status Draft::shrink_codewords(OpRunner& run, const Segment& source, int32_t k_codewords,
                               int32_t v_codewords, Segment* result) {
  const StoreConfig& config = store_->config();
  SegmentShape shape = source.shape;
  shape.k_codewords = k_codewords;
  shape.v_codewords = v_codewords;
  const SkvRun from = run_of(source, config.dtype, config.head_dim, 0);
  if (ref_bytes_for(k_codewords, v_codewords) != from.ref_bytes) {
    *result = source;  // the references would have to be rewritten: keep the larger segment
    return ok_status();
  }
  *result = Segment{};
  SKV_RETURN_IF_ERROR(store_->new_segment(shape, result));
  result->slots = source.slots;
  const SkvRun to = run_of(*result, config.dtype, config.head_dim, 0);
  const size_t slots = index(source.slots);
  const size_t row = store_->row_bytes();
  const size_t element = dtype_bytes(config.dtype);
  struct Part {
    void* to;
    const void* from;
    size_t bytes;
  };
  const Part parts[] = {{to.k, from.k, index(k_codewords) * row},
                        {to.v, from.v, index(v_codewords) * row},
                        {to.k_ref, from.k_ref, slots * index(to.ref_bytes)},
                        {to.v_ref, from.v_ref, slots * index(to.ref_bytes)},
                        {to.k_magnitude, from.k_magnitude, slots * element},
                        {to.v_magnitude, from.v_magnitude, slots * element},
                        {to.positions, from.positions, slots * sizeof(int32_t)},
                        {to.mask, from.mask, to.mask == nullptr ? 0 : slots * sizeof(uint16_t)}};
  for (const Part& part : parts) {
    SKV_RETURN_IF_ERROR(run.copy(part.to, part.from, part.bytes, SKV_COPY_ON_DEVICE));
  }
  return ok_status();
}

// Raw slots in one segment of exactly their size.
Status Draft::own_tail(OpRunner& run, HeadSegments* tail) {
  const StoreConfig& config = store_->config();
  const int32_t slots = tail->slots();
  if (slots == 0) return ok_status();
  SegmentShape shape{SKV_CODEC_RAW, slots};
  for (const Segment& segment : tail->segments) {
    shape.has_mask = shape.has_mask || segment.shape.has_mask;
  }
  if (tail->segments.size() == 1 && tail->segments.front().shape.capacity == slots) {
    return ok_status();
  }
  Segment own;
  own.rotated = tail->segments.front().rotated;
  SKV_RETURN_IF_ERROR(store_->new_segment(shape, &own));
  own.slots = slots;
  const SkvRun to = run_of(own, config.dtype, config.head_dim, 0);
  const size_t row = store_->row_bytes();
  int32_t done = 0;
  for (const Segment& segment : tail->segments) {
    const SkvRun from = run_of(segment, config.dtype, config.head_dim, 0);
    const size_t count = index(from.slots);
    const auto row_at = [&](void* rows) {
      return static_cast<std::byte*>(rows) + index(done) * row;
    };
    SKV_RETURN_IF_ERROR(run.copy(row_at(to.k), from.k, count * row, SKV_COPY_ON_DEVICE));
    SKV_RETURN_IF_ERROR(run.copy(row_at(to.v), from.v, count * row, SKV_COPY_ON_DEVICE));
    SKV_RETURN_IF_ERROR(
        run.copy(to.positions + done, from.positions, count * sizeof(int32_t), SKV_COPY_ON_DEVICE));
    if (to.mask != nullptr) {
      SKV_RETURN_IF_ERROR(
          from.mask != nullptr
              ? run.copy(to.mask + done, from.mask, count * sizeof(uint16_t), SKV_COPY_ON_DEVICE)
              : run.fill(to.mask + done, 0xff, count * sizeof(uint16_t)));
    }
    done += from.slots;
  }
  tail->segments.assign(1, own);
  return ok_status();
}

}  // namespace spindlekv
