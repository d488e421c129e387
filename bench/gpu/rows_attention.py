"""The rows of attention: decode of one layer, SpindleKV's stored form, a shared prefix."""

from array import array
from math import sqrt

from gpu.results import at_least, at_most, faster_than_peer
from gpu.timing import Arm
from gpu.values import SIZES, rope_table, unpack

DTYPE = "f16"


class Shape:
    """Llama-3-8B's layer, or a small one."""

    def __init__(self, bench, slots, tiny_slots):
        self.kv_heads = bench.size(8, 2)
        self.group = 4
        self.dims = bench.size(128, 64)
        self.slots = bench.size(slots, tiny_slots)
        self.query_heads = self.kv_heads * self.group

    def sizes(self, **more):
        return {
            "queryHeads": self.query_heads,
            "kvHeads": self.kv_heads,
            "headDim": self.dims,
            "slots": self.slots,
            **more,
        }

    def bytes(self):
        """K and V once."""
        return 2 * SIZES[DTYPE] * self.kv_heads * self.slots * self.dims

    def flops(self):
        return 4 * self.query_heads * self.slots * self.dims


class Dense:
    """K, V and positions of `items` layers in one piece each, and their attend params."""

    def __init__(self, bench, shape, items=1):
        self.shape, self.items = shape, items
        rows = items * shape.kv_heads * shape.slots
        self.k = bench.filled(DTYPE, rows * shape.dims)
        self.v = bench.filled(DTYPE, rows * shape.dims)
        positions = array("i", range(shape.slots)).tobytes() * (items * shape.kv_heads)
        self.positions = bench.put(positions)
        self.q = bench.filled(DTYPE, items * shape.query_heads * shape.dims)
        self.out = bench.zeros(DTYPE, items * shape.query_heads * shape.dims)
        self.lse = bench.zeros("f32", items * shape.query_heads)

    def run(self, bench, item, head):
        shape = self.shape
        rows = (item * shape.kv_heads + head) * shape.slots
        offset = rows * shape.dims * SIZES[DTYPE]
        return bench.abi.SkvRun(
            codec=bench.abi.SKV_CODEC_RAW,
            slots=shape.slots,
            rotated=1,
            k=self.k + offset,
            v=self.v + offset,
            positions=self.positions + 4 * rows,
        )

    def params(self, bench, item=0, **more):
        heads = [[self.run(bench, item, head)] for head in range(self.shape.kv_heads)]
        offset = item * self.shape.query_heads
        return attend_params(
            bench,
            self.shape,
            heads,
            self.q + offset * self.shape.dims * SIZES[DTYPE],
            self.out + offset * self.shape.dims * SIZES[DTYPE],
            self.lse + 4 * offset,
            **more,
        )

    def peers(self, bench):
        """Torch's forms over the same memory."""
        shape, torch = self.shape, bench.torch
        rows = (self.items, shape.kv_heads, shape.slots, shape.dims)
        q = torch.tensor(self.q, DTYPE, (self.items, shape.query_heads, 1, shape.dims))
        k, v = (torch.tensor(memory, DTYPE, rows) for memory in (self.k, self.v))
        return torch.attention(q, k, v)


def attend_params(bench, shape, runs_by_head, q, out, lse, **more):
    """Params of one query over heads of equal length."""
    abi = bench.abi
    slots = sum(run.slots for run in runs_by_head[0])
    runs, n_runs, heads = bench.heads(runs_by_head)
    dtype = abi.SKV_F16
    return abi.SkvAttendParams(
        dtype=dtype,
        q_dtype=dtype,
        head_dim=shape.dims,
        kv_heads=shape.kv_heads,
        group=shape.group,
        queries=1,
        q=q,
        out=out,
        lse=lse,
        q_stride_head=shape.dims,
        q_stride_token=shape.dims,
        out_stride_head=shape.dims,
        out_stride_token=shape.dims,
        scale=shape.dims**-0.5,
        causal=1,
        query_position=slots - 1,
        rope_query_position=slots - 1,
        n_runs=n_runs,
        runs=runs,
        heads=heads,
        **more,
    )


def batch_params(bench, items):
    return bench.abi.SkvAttendBatchParams(
        n_items=len(items), items=bench.host(bench.abi.SkvAttendParams, items)
    )


def _rms(numbers):
    return sqrt(sum(x * x for x in numbers) / max(len(numbers), 1))


def check_against_cpu(bench, shape, params, what):
    """The last KV head of an attend that has run, recomputed by the CPU backend on copied memory."""
    abi, cpu = bench.abi, bench.trusted
    if cpu is None:
        return
    head = shape.kv_heads - 1
    heads = (abi.SkvHead * shape.kv_heads).from_address(params.heads)
    first, count = heads[head].first_run, heads[head].n_runs
    runs = (abi.SkvRun * params.n_runs).from_address(params.runs)[first : first + count]

    def carried(address, size):
        if not address:
            return None
        memory = cpu.allocate(size)
        cpu.upload(memory, bench.backend.download(address, size))
        return memory

    element, own = SIZES[DTYPE], []
    for run in runs:
        rows = (run.k_codewords, run.v_codewords) if run.codec else (run.slots, run.slots)
        own.append(
            abi.SkvRun(
                codec=run.codec,
                slots=run.slots,
                slot_base=run.slot_base,
                rotated=run.rotated,
                k=carried(run.k, rows[0] * shape.dims * element),
                v=carried(run.v, rows[1] * shape.dims * element),
                k_codewords=run.k_codewords,
                v_codewords=run.v_codewords,
                ref_bytes=run.ref_bytes,
                k_ref=carried(run.k_ref, run.slots * run.ref_bytes),
                v_ref=carried(run.v_ref, run.slots * run.ref_bytes),
                k_magnitude=carried(run.k_magnitude, run.slots * element),
                v_magnitude=carried(run.v_magnitude, run.slots * element),
                positions=carried(run.positions, run.slots * 4),
            )
        )
    rope = abi.SkvRope()
    if params.rope.cos_sin:
        size = params.rope.positions * params.rope.n_rot * 4
        rope = abi.SkvRope(
            carried(params.rope.cos_sin, size),
            *(getattr(params.rope, name) for name in ("positions", "n_rot", "style")),
            0,
        )
    part = shape.group * shape.dims * element
    q = carried(params.q + head * part, part)
    out, lse = cpu.allocate(part), cpu.allocate(4 * shape.group)
    one = Shape.__new__(Shape)
    one.kv_heads, one.group, one.dims = 1, shape.group, shape.dims
    wanted = attend_params(bench, one, [own], q, out, lse, rope=rope)
    wanted.query_position, wanted.rope_query_position = (
        params.query_position,
        params.rope_query_position,
    )
    cpu.run("attend", wanted)
    _compare_heads(
        what,
        unpack(DTYPE, bench.backend.download(params.out + head * part, part)),
        unpack(DTYPE, cpu.download(out, part)),
        unpack("f32", bench.backend.download(params.lse + 4 * head * shape.group, 4 * shape.group)),
        unpack("f32", cpu.download(lse, 4 * shape.group)),
    )


def _compare_heads(what, out, wanted_out, lse, wanted_lse):
    """Root mean square within 2 % (outputs are rounded to f16 and may be small), lse within 1e-3."""
    difference = _rms([a - b for a, b in zip(out, wanted_out, strict=True)])
    if not difference <= 0.02 * _rms(wanted_out) + 1e-4:
        raise AssertionError(f"{what}: the output is off by {difference:.3g} (root mean square)")
    worst = max(abs(a - b) for a, b in zip(lse, wanted_lse, strict=True))
    if not worst <= 1e-3:
        raise AssertionError(f"{what}: the log-sum-exp is off by {worst:.3g}")


# --- rows -----------------------------------------------------------------------------------------


def decode(slots, tiny_slots):
    """A job: decode of one layer, plain, accumulating, and torch's forms."""

    def job(bench):
        shape = Shape(bench, slots, tiny_slots)
        layers = [Dense(bench, shape) for _ in range(bench.copies_of(shape.bytes()))]
        plain = [layer.params(bench) for layer in layers]
        modes = {
            "kv-head": (bench.abi.SKV_SCORE_KV_HEAD, shape.kv_heads),
            "query-head": (bench.abi.SKV_SCORE_QUERY_HEAD, shape.query_heads),
        }
        arms = [Arm("plain", [bench.op("attend", params) for params in plain])]
        for name, (mode, rows) in modes.items():
            sums = bench.zeros("f32", rows * shape.slots)
            more = {"score_sum": sums, "score_stride": shape.slots, "score_mode": mode}
            runs = [bench.op("attend", layer.params(bench, **more)) for layer in layers]
            arms.append(Arm(f"accumulate {name}", runs))
        if bench.torch:
            forms = [layer.peers(bench) for layer in layers]
            for name in forms[0]:
                runs = [bench.peer(form[name]) for form in forms]
                arms.append(Arm(name, runs, is_peer=True))
        bench.backend.run("attend", plain[0])
        check_against_cpu(bench, shape, plain[0], "attend")
        if bench.torch:
            out = bench.torch.tensor(layers[0].out, DTYPE, (shape.query_heads, shape.dims))
            for name, work in forms[0].items():
                bench.torch.require_same(name, work, out)
        setting = bench.setting(
            f"decode-{slots // 1024}k",
            shape.sizes(copies=len(layers)),
            shape.bytes(),
            shape.flops(),
            arms,
            baseline="torch SDPA enable_gqa",
        )
        by_name = {arm["name"]: arm for arm in setting["arms"]}
        share = by_name["plain"]["share"]["median"]
        goals = []
        if shape.bytes() >= 64e6 or slots >= 16384:
            goals.append(at_least("full decode, share of the copy bandwidth", 0.85, share))
        else:
            goals.append(at_most("decode at batch 1, time over floor", 2.0, 1 / share))
        goals += [
            at_most(
                f"accumulate {name}, time over plain",
                1.1,
                by_name[f"accumulate {name}"]["ratioToFirst"]["median"],
            )
            for name in modes
        ]
        return {
            "op": "attend",
            "what": "decode of one token over a layer, f16, keys stored after RoPE",
            "baseline": "torch SDPA enable_gqa",
            "settings": [setting],
            "goals": goals,
        }

    return job


class Encoded:
    """`items` layers in codebooks, keys before RoPE: `kept` slots, `codewords` for K and V each."""

    def __init__(self, bench, shape, items, kept, codewords, rope):
        self.bench, self.shape, self.items, self.rope = bench, shape, items, rope
        self.kept, self.codewords = kept, codewords
        heads = items * shape.kv_heads
        self.k, self.v = (bench.filled(DTYPE, heads * codewords * shape.dims) for _ in range(2))
        refs = [bench.values.random.randrange(codewords) for _ in range(kept)]
        data = array("H", refs).tobytes()
        other = data[len(data) // 4 * 2 :] + data[: len(data) // 4 * 2]
        self.k_ref, self.v_ref = bench.put(data * heads), bench.put(other * heads)
        self.k_magnitude, self.v_magnitude = (bench.filled(DTYPE, heads * kept) for _ in range(2))
        step = shape.slots / kept
        positions = array("i", (int(i * step) for i in range(kept))).tobytes()
        self.positions = bench.put(positions * heads)

    def bytes(self):
        """What one layer stores: 12 bytes a slot and the codewords."""
        head = self.kept * 12 + 2 * self.codewords * self.shape.dims * SIZES[DTYPE]
        return self.shape.kv_heads * head

    def params(self, item, dense):
        shape, abi, element = self.shape, self.bench.abi, SIZES[DTYPE]
        heads = []
        for head in range(shape.kv_heads):
            at = item * shape.kv_heads + head
            rows = at * self.codewords * shape.dims * element
            heads.append(
                [
                    abi.SkvRun(
                        codec=abi.SKV_CODEC_CODEBOOK,
                        slots=self.kept,
                        rotated=0,
                        k=self.k + rows,
                        v=self.v + rows,
                        k_codewords=self.codewords,
                        v_codewords=self.codewords,
                        ref_bytes=2,
                        k_ref=self.k_ref + at * self.kept * 2,
                        v_ref=self.v_ref + at * self.kept * 2,
                        k_magnitude=self.k_magnitude + at * self.kept * element,
                        v_magnitude=self.v_magnitude + at * self.kept * element,
                        positions=self.positions + at * self.kept * 4,
                    )
                ]
            )
        offset = item * shape.query_heads
        params = attend_params(
            self.bench,
            shape,
            heads,
            dense.q + offset * shape.dims * element,
            dense.out + offset * shape.dims * element,
            dense.lse + 4 * offset,
            rope=self.rope,
        )
        params.query_position = params.rope_query_position = shape.slots - 1
        return params


KEEP = 0.2


def spindlekv(bench):
    """A job: a batch of 8 sequences at 32k slots, whole, and at a fifth of the bytes in SpindleKV's form.

    The codebooks' size follows from the bytes: with all slots kept, and with so many evicted that
    there is a codeword of each kind for two slots."""
    shape = Shape(bench, 32768, 320)
    items = bench.size(8, 2)
    total = items * shape.bytes()
    copies = bench.copies_of(total)
    dense = [Dense(bench, shape, items) for _ in range(copies)]
    table = bench.put(rope_table(shape.slots, shape.dims))
    rope = bench.abi.SkvRope(table, shape.slots, shape.dims, bench.abi.SKV_ROPE_NEOX, 0)
    row = shape.dims * SIZES[DTYPE]
    whole = KEEP * 2 * row * shape.slots
    all_kept = shape.slots
    fewer = int(whole / (12 + row))
    plans = {
        "all slots": (all_kept, max(1, int((whole - 12 * all_kept) / (2 * row)))),
        "two slots a codeword": (fewer, fewer // 2),
    }
    full = [batch_params(bench, [layer.params(bench, i) for i in range(items)]) for layer in dense]
    arms = [Arm("full cache", [bench.op("attend_batch", p) for p in full])]
    facts, checks = {}, []
    for name, (kept, codewords) in plans.items():
        encoded_copies = min(8, bench.copies_of(int(KEEP * total)))
        encoded = [
            Encoded(bench, shape, items, kept, codewords, rope) for _ in range(encoded_copies)
        ]
        batches = [[each.params(i, dense[0]) for i in range(items)] for each in encoded]
        runs = [bench.op("attend_batch", batch_params(bench, batch)) for batch in batches]
        stored = items * encoded[0].bytes()
        arms.append(Arm(f"keep 0.2, {name}", runs, bytes=stored))
        facts |= {f"{name}: slots": kept, f"{name}: codewords": codewords, f"{name}: bytes": stored}
        checks.append((name, runs[0], batches[0][items - 1]))
    if bench.torch:
        forms = [layer.peers(bench) for layer in dense]
        for name in forms[0]:
            if name == "torch repeat_kv + SDPA":
                continue  # four copies of a gigabyte
            arms.append(Arm(name, [bench.peer(form[name]) for form in forms], is_peer=True))
    for name, run, params in checks:
        run()
        bench.backend.synchronize()
        check_against_cpu(bench, shape, params, name)
    setting = bench.setting(
        f"32k-batch-{items}",
        shape.sizes(batch=items, copies=copies),
        total,
        items * shape.flops(),
        arms,
        baseline="torch SDPA enable_gqa",
        facts=facts,
    )
    by_name = {arm["name"]: arm["milliseconds"]["median"] for arm in setting["arms"]}
    goals = []
    for name in plans:
        own = by_name[f"keep 0.2, {name}"]
        goals.append(
            at_least(
                f"keep 0.2, {name}: faster than own full decode", 3.5, by_name["full cache"] / own
            )
        )
        peers = [ms for arm, ms in by_name.items() if arm.startswith("torch")]
        what = f"keep 0.2, {name}: faster than the best torch SDPA"
        goals.append(faster_than_peer(what, 4.0, own, peers))
    return {
        "op": "attendBatch",
        "what": "decode of one token for 8 sequences, f16: the full cache, and codebooks before RoPE at a "
        "fifth of its bytes",
        "baseline": "torch SDPA enable_gqa",
        "settings": [setting],
        "goals": goals,
    }


def shared_prefix(bench):
    """A job: 16 sequences over a common prefix of 16k slots with 512 of their own each."""
    shape = Shape(bench, 16384, 256)
    sequences, own = bench.size(16, 4), bench.size(512, 16)
    prefixes = [Dense(bench, shape) for _ in range(bench.copies_of(shape.bytes()))]
    tail = Shape(bench, 512, 16)
    batches = []
    for prefix in prefixes:
        tails = Dense(bench, tail, sequences)
        items = []
        for i in range(sequences):
            heads = []
            for head in range(shape.kv_heads):
                last = tails.run(bench, i, head)
                last.slot_base = shape.slots
                heads.append([prefix.run(bench, 0, head), last])
            offset = i * shape.query_heads
            element = SIZES[DTYPE]
            items.append(
                attend_params(
                    bench,
                    shape,
                    heads,
                    tails.q + offset * shape.dims * element,
                    tails.out + offset * shape.dims * element,
                    tails.lse + 4 * offset,
                )
            )
        batches.append(items)

    def apart(items):
        return [bench.op("attend", item) for item in items]

    arms = [
        Arm(
            "attend_batch",
            [bench.op("attend_batch", batch_params(bench, items)) for items in batches],
        ),
        Arm(f"{sequences} attends", [apart(items) for items in batches]),
    ]
    arms[0].enqueue()
    bench.backend.synchronize()
    check_against_cpu(bench, shape, batches[0][sequences - 1], "shared prefix")
    size = shape.bytes() + sequences * tail.bytes()
    setting = bench.setting(
        "16-sequences",
        shape.sizes(own=own, sequences=sequences, copies=len(prefixes)),
        size,
        sequences * (shape.flops() + tail.flops()),
        arms,
    )
    ratio = setting["arms"][1]["ratioToFirst"]["median"]
    return {
        "op": "attendBatch",
        "what": "decode of one token for sequences with a common prefix, f16",
        "baseline": None,
        "settings": [setting],
        "goals": [at_least("attend_batch, faster than separate attends", 5.0, ratio)],
    }
