"""Checks of attend, attend_batch and window_scores. Attention is compared with float64 under tolerance.py, on
every backend; window scores are canonical, so their bits are compared."""

from math import isnan

from gpu import reference
from gpu.check_case import DTYPES, Case, rope_of
from gpu.tolerance import NAIVE_FACTOR, LogitScale, length
from gpu.values import SIZES, pack, unpack


def _attend_params(scene, dtype, head_dim, kv_heads, group, queries, runs_by_head, name="", **more):
    """Params of attend with fresh q and out; the logical positions follow the slots."""
    abi = scene.abi
    slots = max(sum(run.slots for run in head) for head in runs_by_head)
    runs, n_runs, heads = scene.heads(runs_by_head)
    q_dtype = more.pop("q_dtype", dtype)
    elements = kv_heads * group * queries * head_dim
    params = {
        "dtype": scene.dtype(dtype),
        "q_dtype": scene.dtype(q_dtype),
        "head_dim": head_dim,
        "kv_heads": kv_heads,
        "group": group,
        "queries": queries,
        "q": scene.normal(q_dtype, elements),
        "out": scene.out(f"{name}out", q_dtype, elements),
        "lse": scene.out(f"{name}lse", "f32", kv_heads * group * queries),
        "q_stride_head": queries * head_dim,
        "q_stride_token": head_dim,
        "out_stride_head": queries * head_dim,
        "out_stride_token": head_dim,
        "scale": head_dim**-0.5,
        "causal": 1,
        "query_position": max(0, slots - queries),
        "rope_query_position": max(0, slots - queries),
        "n_runs": n_runs,
        "runs": runs,
        "heads": heads,
    }
    if more.get("score_mode"):
        is_query_head = more["score_mode"] == abi.SKV_SCORE_QUERY_HEAD
        rows = kv_heads * (group if is_query_head else 1)
        params["score_stride"] = slots
        zeros = b"\0" * (4 * rows * slots)
        params["score_sum"] = scene.out(f"{name}score_sum", "f32", rows * slots, zeros)
    params.update(more)
    return abi.SkvAttendParams(**params)


def _array(scene, address, dtype, count):
    return unpack(dtype, scene.backend.download(address, count * SIZES[dtype]))


def _rows(numbers, dims):
    return [numbers[i : i + dims] for i in range(0, len(numbers), dims)]


def _slots_of(scene, run, dtype, dims, table, group):
    """The slots of a run as reference.attend wants them, once for each query head of the group."""
    abi, count = scene.abi, run.slots
    if run.codec == abi.SKV_CODEC_RAW:
        keys = _rows(_array(scene, run.k, dtype, count * dims), dims)
        rows = _rows(_array(scene, run.v, dtype, count * dims), dims)
    else:
        refs = "u16" if run.ref_bytes == 2 else "i32"

        def decode(codewords, n, ref, magnitude):
            words = _rows(_array(scene, codewords, dtype, n * dims), dims)
            pairs = zip(
                _array(scene, ref, refs, count), _array(scene, magnitude, dtype, count), strict=True
            )
            return [[m * x for x in words[r]] for r, m in pairs]

        keys = decode(run.k, run.k_codewords, run.k_ref, run.k_magnitude)
        rows = decode(run.v, run.v_codewords, run.v_ref, run.v_magnitude)
    positions = _array(scene, run.positions, "i32", count)
    masks = _array(scene, run.mask, "u16", count) if run.mask else [0xFFFF] * count
    betas = _array(scene, run.beta, "f32", count) if run.beta else [0.0] * count
    if table and run.rotated == 0:
        keys = [
            reference.rotate(key, table, position, dims)
            for key, position in zip(keys, positions, strict=True)
        ]
    return [
        [
            {"k": k, "v": v, "position": p, "is_visible": bool(m >> g & 1), "beta": b}
            for k, v, p, m, b in zip(keys, rows, positions, masks, betas, strict=True)
        ]
        for g in range(group)
    ]


def _rounding(dtype):
    return lambda row: unpack(dtype, pack(dtype, row))


def _largest(rows):
    return max((abs(x) for row in rows for x in row), default=0.0)


def _differences(what, got, wanted, bound):
    """A fault for the first number that is off by more than bound(wanted)."""
    for i, (g, w) in enumerate(zip(got, wanted, strict=True)):
        if g == w or (isnan(g) and isnan(w)):
            continue
        if not abs(g - w) <= bound(w):
            return [f"{what}[{i}] is {g!r}, float64 {w!r}, allowed {bound(w):.3g}"]
    return []


def _verify_attend(scene, params, dtype, q_dtype, runs_by_head, name=""):
    abi, dims, group, queries = scene.abi, params.head_dim, params.group, params.queries
    table = None
    if params.rope.cos_sin:
        table = _array(scene, params.rope.cos_sin, "f32", params.rope.positions * dims)
    q_rows = _rows(_array(scene, params.q, q_dtype, params.kv_heads * group * queries * dims), dims)
    out = _rows(scene.numbers_of(f"{name}out"), dims)
    lse = scene.numbers_of(f"{name}lse")
    scores = scene.numbers_of(f"{name}score_sum") if params.score_sum else None
    faults = []
    for kv_head, runs in enumerate(runs_by_head):
        parts = [_slots_of(scene, run, dtype, dims, table, group) for run in runs]
        group_sums, group_bounds = None, None
        for g in range(group):
            slots = [slot for part in parts for slot in part[g]]
            head = kv_head * group + g
            rows = q_rows[head * queries : (head + 1) * queries]
            if table:
                rows = [
                    reference.rotate(row, table, params.rope_query_position + t, dims)
                    for t, row in enumerate(rows)
                ]
            positions = [params.query_position + t for t in range(queries)]
            if not params.causal:
                positions = [2**31] * queries
            exact = reference.attend(rows, slots, params.scale, positions)
            naive = reference.attend(rows, slots, params.scale, positions, _rounding(dtype))
            term = (
                params.scale
                * max(map(length, rows), default=0)
                * max((length(slot["k"]) for slot in slots), default=0)
            )
            beta = max((abs(slot["beta"]) for slot in slots), default=0)
            scale = LogitScale(len(slots), dims, term, beta)
            off = [
                max(
                    abs(a - b)
                    for x, y in zip(one, other, strict=True)
                    for a, b in zip(x, y, strict=True)
                )
                if queries
                else 0.0
                for one, other in [(exact[0], naive[0])]
            ][0]
            largest_value = _largest([slot["v"] for slot in slots])
            floor = scale.output(dtype, q_dtype, _largest(exact[0]), largest_value)
            label = f"{name}head {head}"
            for t in range(queries):
                got = out[head * queries + t]
                bound = NAIVE_FACTOR * off + floor
                faults += _differences(f"{label} out", got, exact[0][t], lambda _, b=bound: b)
                lse_off = abs(exact[1][t] - naive[1][t]) if exact[1][t] > -1e300 else 0.0
                faults += _differences(
                    f"{label} lse",
                    [lse[head * queries + t]],
                    [exact[1][t]],
                    lambda w, o=lse_off, s=scale: NAIVE_FACTOR * o + s.lse(w),
                )
            if scores is None:
                continue
            score_off = max(
                (abs(a - b) for a, b in zip(exact[2], naive[2], strict=True)), default=0.0
            )
            bounds = [
                NAIVE_FACTOR * score_off + scale.score(w, queries) + 2.0**-100 for w in exact[2]
            ]
            stride = params.score_stride
            if params.score_mode == abi.SKV_SCORE_QUERY_HEAD:
                got = scores[head * stride : head * stride + len(slots)]
                faults += _scores(f"{label} score", got, exact[2], bounds)
            else:
                group_sums = [
                    a + b for a, b in zip(group_sums or [0] * len(slots), exact[2], strict=True)
                ]
                group_bounds = [
                    a + b for a, b in zip(group_bounds or [0] * len(slots), bounds, strict=True)
                ]
        if group_sums is not None:
            got = scores[kv_head * stride : kv_head * stride + len(group_sums)]
            faults += _scores(f"{name}KV head {kv_head} score", got, group_sums, group_bounds)
    return faults


def _scores(what, got, wanted, bounds):
    for i, (g, w, b) in enumerate(zip(got, wanted, bounds, strict=True)):
        if not abs(g - w) <= b:
            return [f"{what}[{i}] is {g!r}, float64 {w!r}, allowed {b:.3g}"]
    return []


def _attend_case(name, dtype, head_dim, kv_heads, group, queries, make_runs, **more):
    q_dtype = more.pop("q_dtype", dtype)
    has_rope = more.pop("has_rope", True)
    state = {}

    def build(scene):
        runs = [make_runs(scene, dtype, head_dim) for _ in range(kv_heads)]
        state[scene] = runs
        rope = {"rope": rope_of(scene, head_dim)} if has_rope else {}
        return _attend_params(
            scene, dtype, head_dim, kv_heads, group, queries, runs, q_dtype=q_dtype, **rope, **more
        )

    def verify(scene, params):
        return _verify_attend(scene, params, dtype, q_dtype, state[scene])

    return Case(name, "attend", build, verify, loose=("out", "lse", "score_sum"))


def _raw(slots, **more):
    return lambda scene, dtype, dims: [scene.raw_run(dtype, dims, slots, **more)]


def _masked(slots):
    def make(scene, dtype, dims):
        mask = scene.numbers("u16", (scene.values.random.getrandbits(16) for _ in range(slots)))
        beta = scene.normal("f32", slots)
        return [scene.raw_run(dtype, dims, slots, mask=mask, beta=beta)]

    return make


def _mixed(raw, encoded, codewords, ref_bytes):
    """A codebook segment, then raw slots with keys before RoPE, then raw ones with keys after it."""

    def make(scene, dtype, dims):
        return [
            scene.codebook_run(dtype, dims, encoded, codewords, ref_bytes=ref_bytes),
            scene.raw_run(dtype, dims, raw, base=encoded, rotated=0),
            scene.raw_run(dtype, dims, raw, base=encoded + raw, rotated=1),
        ]

    return make


def _long(slots, codewords, rotated):
    """A codebook segment that is long enough to be taken through its codewords, and raw slots behind."""

    def make(scene, dtype, dims):
        return [
            scene.codebook_run(dtype, dims, slots, codewords, rotated=rotated),
            scene.raw_run(dtype, dims, 40, base=slots, rotated=rotated),
        ]

    return make


def attend_cases():
    cases = []
    for dtype in DTYPES:
        cases += [
            _attend_case(f"raw {dtype}", dtype, 64, 2, 4, 1, _raw(601), score_mode=2),
            _attend_case(
                f"mixed {dtype}", dtype, 64, 1, 4, 2, _mixed(37, 261, 40, 2), score_mode=1
            ),
        ]
    cases += [
        _attend_case("head dim 128", "f16", 128, 2, 4, 1, _raw(513), score_mode=1),
        _attend_case("codebook, 4-byte references", "f16", 128, 1, 8, 1, _mixed(19, 300, 70, 4)),
        _attend_case("long, before RoPE", "f16", 128, 1, 4, 1, _long(1100, 90, 0), score_mode=2),
        _attend_case("long, before RoPE, 16 rows", "bf16", 64, 1, 8, 2, _long(1060, 50, 0)),
        _attend_case("long, after RoPE", "f16", 128, 1, 4, 1, _long(1100, 600, 1), score_mode=2),
        _attend_case("prefill", "bf16", 64, 1, 2, 17, _raw(83), q_dtype="f32", score_mode=2),
        _attend_case("masks and beta", "f16", 64, 2, 3, 2, _masked(290), has_rope=False),
        _attend_case("group 16, not causal", "f16", 64, 1, 16, 1, _raw(130), causal=0),
        _attend_case("one query head", "f32", 80, 3, 1, 3, _raw(65), has_rope=False),
        _attend_case("nothing stored", "f16", 64, 2, 2, 1, _raw(0)),
    ]
    return cases


def attend_batch_case(dtype):
    """Three sequences: two share a prefix, the third has codebooks; lengths and queries differ."""
    dims, kv_heads, group = 64, 2, 4
    state = {}

    def build(scene):
        rope = rope_of(scene, dims)
        prefixes = [scene.raw_run(dtype, dims, 300) for _ in range(kv_heads)]
        own = [
            [[prefix, scene.raw_run(dtype, dims, n, base=300)] for prefix in prefixes]
            for n in (17, 130)
        ]
        own.append([_mixed(21, 150, 33, 2)(scene, dtype, dims) for _ in range(kv_heads)])
        items = [
            _attend_params(
                scene, dtype, dims, kv_heads, group, queries, runs, f"{i} ", rope=rope, score_mode=2
            )
            for i, (runs, queries) in enumerate(zip(own, (1, 2, 1), strict=True))
        ]
        state[scene] = (own, items)
        return scene.abi.SkvAttendBatchParams(
            n_items=len(items), items=scene.host(scene.abi.SkvAttendParams, items)
        )

    def verify(scene, _params):
        own, items = state[scene]
        return [
            fault
            for i, (runs, item) in enumerate(zip(own, items, strict=True))
            for fault in _verify_attend(scene, item, dtype, dtype, runs, f"{i} ")
        ]

    names = [f"{i} {what}" for i in range(3) for what in ("out", "lse", "score_sum")]
    return Case(f"shared prefix {dtype}", "attend_batch", build, verify, loose=names)


def window_scores_case(name, dtype, head_dim, kv_heads, group, queries, make_runs, norm, weighs=0):
    def build(scene):
        runs_by_head = [make_runs(scene, dtype, head_dim) for _ in range(kv_heads)]
        slots = sum(run.slots for run in runs_by_head[0])
        runs, n_runs, heads = scene.heads(runs_by_head)
        rows = kv_heads * group
        return scene.abi.SkvWindowScoresParams(
            dtype=scene.dtype(dtype),
            q_dtype=scene.dtype(dtype),
            head_dim=head_dim,
            kv_heads=kv_heads,
            group=group,
            queries=queries,
            q=scene.normal(dtype, rows * queries * head_dim),
            q_stride_head=queries * head_dim,
            q_stride_token=head_dim,
            scale=head_dim**-0.5,
            query_position=slots - queries,
            rope_query_position=slots - queries,
            n_runs=n_runs,
            norm=getattr(scene.abi, norm),
            runs=runs,
            heads=heads,
            rope=rope_of(scene, head_dim),
            query_weights=scene.normal("f32", queries) if weighs else None,
            entropy_context=weighs,
            sum=scene.out("sum", "f32", rows * slots),
            sum_sq=scene.out("sum_sq", "f32", rows * slots),
            max=scene.out("max", "f32", rows * slots),
            stride=slots,
            entropy=scene.out("entropy", "f32", rows),
            lse=scene.out("lse", "f32", rows * queries),
            nonfinite=scene.out("nonfinite", "i32", 1, b"\0" * 4),
        )

    return Case(name, "window_scores", build, loose=("entropy", "lse"))


def cases():
    yield from attend_cases()
    for dtype in DTYPES:
        yield attend_batch_case(dtype)
        yield window_scores_case(dtype, dtype, 64, 2, 4, 32, _raw(333), "SKV_NORM_SUM")
    mixed = _mixed(40, 200, 50, 2)
    yield window_scores_case("mixed", "f16", 128, 1, 2, 64, mixed, "SKV_NORM_CAUSAL_COUNT")
    yield window_scores_case("weights", "bf16", 64, 2, 4, 9, _raw(150), "SKV_NORM_SUM", weighs=1)
    yield window_scores_case("one query", "f16", 64, 1, 8, 1, _masked(500), "SKV_NORM_WINDOW")
