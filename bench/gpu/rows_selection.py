"""The rows of eviction: window scores, top-k, compaction of all layers."""

from array import array

from gpu.results import at_least, at_most, faster_than_peer
from gpu.rows_attention import DTYPE, Dense, Shape
from gpu.timing import Arm
from gpu.values import SIZES, unpack

WINDOW = 64


def window_scores(slots, tiny_slots):
    """A job: column sums of the last 64 queries over a layer."""

    def job(bench):
        shape = Shape(bench, slots, tiny_slots)
        window = bench.size(WINDOW, 8)
        keys = shape.bytes() // 2
        layers = [Dense(bench, shape) for _ in range(bench.copies_of(keys))]
        q = bench.filled(DTYPE, shape.query_heads * window * shape.dims)
        sums = bench.zeros("f32", shape.query_heads * shape.slots)

        def params(runs_by_head):
            abi = bench.abi
            runs, n_runs, heads = bench.heads(runs_by_head)
            return abi.SkvWindowScoresParams(
                dtype=abi.SKV_F16,
                q_dtype=abi.SKV_F16,
                head_dim=shape.dims,
                kv_heads=len(runs_by_head),
                group=shape.group,
                queries=window,
                q=q,
                q_stride_head=window * shape.dims,
                q_stride_token=shape.dims,
                scale=shape.dims**-0.5,
                query_position=shape.slots - window,
                rope_query_position=shape.slots - window,
                n_runs=n_runs,
                norm=abi.SKV_NORM_SUM,
                runs=runs,
                heads=heads,
                sum=sums,
                stride=shape.slots,
            )

        all_params = [
            params([[layer.run(bench, 0, head)] for head in range(shape.kv_heads)])
            for layer in layers
        ]
        arms = [Arm("sum", [bench.op("window_scores", each) for each in all_params])]
        if bench.torch:
            rows = (shape.kv_heads, shape.slots, shape.dims)
            queries = bench.torch.tensor(q, DTYPE, (shape.query_heads, window, shape.dims))
            works = [
                bench.torch.window_scores(queries, bench.torch.tensor(layer.k, DTYPE, rows))
                for layer in layers[:2]
            ]
            runs = [bench.peer(work) for work in works]
            arms.append(Arm("torch, as SnapKV", runs, commands=24, is_peer=True))
        arms[0].enqueue()
        bench.backend.synchronize()
        if bench.torch:
            wanted = bench.torch.tensor(sums, "f32", (shape.query_heads, shape.slots))
            bench.torch.require_same("window scores", works[0], wanted)
        _check_window(bench, shape, window, layers[0], q, sums, params)
        flops = 2 * shape.query_heads * window * shape.slots * shape.dims
        setting = bench.setting(
            f"window-{slots // 1024}k",
            shape.sizes(window=window, copies=len(layers)),
            keys + 4 * shape.query_heads * shape.slots,
            flops,
            arms,
            baseline="torch, as SnapKV",
        )
        rate, source = bench.tensor_flops()
        by_bytes = keys / 1e6 / setting["bandwidth"]["copy"]["median"]
        by_flops = flops / rate * 1000
        floor = max(by_bytes, by_flops)
        setting["facts"] |= {"floor ms by bytes": by_bytes, "floor ms by products": by_flops}
        taken = setting["arms"][0]["milliseconds"]["median"]
        return {
            "op": "windowScores",
            "what": f"sums over the last {window} queries, f16; floor: the larger of reading K once and of "
            f"the products at {source}",
            "baseline": "torch, as SnapKV",
            "settings": [setting],
            "goals": [at_most("window scores, time over floor", 2.0, taken / floor)],
        }

    return job


def _check_window(bench, shape, window, layer, q, sums, params):
    """The last KV head, by the CPU backend, bit for bit."""
    cpu = bench.trusted
    if cpu is None:
        return
    head, element = shape.kv_heads - 1, SIZES[DTYPE]
    run = layer.run(bench, 0, head)
    rows, part = shape.slots * shape.dims * element, shape.group * window * shape.dims * element
    carried = {}
    for name, size in (("k", rows), ("v", rows), ("positions", 4 * shape.slots)):
        carried[name] = cpu.allocate(size)
        cpu.upload(carried[name], bench.backend.download(getattr(run, name), size))
        setattr(run, name, carried[name])
    wanted = params([[run]])
    wanted.q = cpu.allocate(part)
    cpu.upload(wanted.q, bench.backend.download(q + head * part, part))
    size = 4 * shape.group * shape.slots
    wanted.sum = cpu.allocate(size)
    cpu.run("window_scores", wanted)
    if cpu.download(wanted.sum, size) != bench.backend.download(sums + head * size, size):
        raise AssertionError("window_scores: the last head differs from the CPU's bits")


def topk(columns, tiny_columns):
    """A job: the best fifth of each of 256 rows."""

    def job(bench):
        rows, width = bench.size(256, 4), bench.size(columns, tiny_columns)
        k = width // 5
        size = 4 * rows * width
        inputs = [bench.filled("f32", rows * width) for _ in range(bench.copies_of(size))]
        indices, counts = bench.zeros("i32", rows * width), bench.zeros("i32", rows)
        abi = bench.abi

        def params(scores, out_indices, out_counts, row_count):
            return abi.SkvSelectTopkParams(
                scores=scores,
                stride=width,
                rows=row_count,
                pool_rows=1,
                union_group=1,
                lengths=bench.host_ints([width] * row_count),
                k=bench.host_ints([k] * row_count),
                indices=out_indices,
                out_stride=width,
                counts=out_counts,
            )

        own = [bench.op("select_topk", params(each, indices, counts, rows)) for each in inputs]
        arms = [Arm("selectTopk", own)]
        if bench.torch:
            tensors = [bench.torch.tensor(each, "f32", (rows, width)) for each in inputs]
            for is_sorted in (True, False):
                name = "torch.topk" if is_sorted else "torch.topk unsorted"
                works = [bench.peer(bench.torch.topk(each, k, is_sorted)) for each in tensors]
                arms.append(Arm(name, works, commands=60, is_peer=True))
        arms[0].enqueue()
        bench.backend.synchronize()
        if bench.trusted is not None:
            checked = min(rows, 4)
            cpu = bench.trusted
            scores, out = cpu.allocate(4 * checked * width), cpu.allocate(4 * checked * width)
            out_counts = cpu.allocate(4 * checked)
            cpu.upload(scores, bench.backend.download(inputs[0], 4 * checked * width))
            cpu.run("select_topk", params(scores, out, out_counts, checked))
            for row in range(checked):
                at = 4 * row * width
                same = cpu.download(out + at, 4 * k) == bench.backend.download(indices + at, 4 * k)
                if not same or bench.read(counts + 4 * row, "i32", 1) != array("i", [k]).tobytes():
                    raise AssertionError(f"select_topk: row {row} differs from the CPU's")
        setting = bench.setting(
            f"{rows}x{columns // 1024}k",
            {"rows": rows, "columns": width, "k": k, "copies": len(inputs)},
            size,
            0,
            arms,
            baseline="torch.topk",
        )
        taken = {arm["name"]: arm["milliseconds"]["median"] for arm in setting["arms"]}
        share = setting["arms"][0]["share"]["median"]
        goals = [at_most("top-k, time over one pass of reading", 3.0, 1 / share)]
        peers = [ms for name, ms in taken.items() if name.startswith("torch")]
        what = "top-k, faster than the better torch.topk"
        goals.append(faster_than_peer(what, 8.0, taken["selectTopk"], peers))
        return {
            "op": "selectTopk",
            "what": "the best 20 % of each row of different f32 scores, ascending indices",
            "baseline": "torch.topk",
            "settings": [setting],
            "goals": goals,
        }

    return job


def compact(bench):
    """A job: a fifth of 32k slots of all 32 layers into new memory, one call."""
    shape = Shape(bench, 32768, 300)
    layers = bench.size(32, 2)
    heads = layers * shape.kv_heads
    kept = shape.slots // 5
    element = SIZES[DTYPE]
    source = Dense(bench, shape, layers)
    k, v = (bench.zeros(DTYPE, heads * kept * shape.dims) for _ in range(2))
    positions = bench.zeros("i32", heads * kept)
    chosen = [bench.values.ascending(kept, shape.slots) for _ in range(8)]
    data = [array("i", part).tobytes() for part in chosen]
    indices = bench.put(b"".join(data[head % 8] for head in range(heads)))
    abi = bench.abi
    items = []
    for head in range(heads):
        rows = head * kept * shape.dims * element
        items.append(
            abi.SkvCompactItem(
                src=source.run(bench, head // shape.kv_heads, head % shape.kv_heads),
                dst=abi.SkvRun(
                    codec=abi.SKV_CODEC_RAW,
                    slots=kept,
                    rotated=1,
                    k=k + rows,
                    v=v + rows,
                    positions=positions + 4 * head * kept,
                ),
                indices=indices + 4 * head * kept,
                count=kept,
            )
        )
    params = abi.SkvCompactParams(
        dtype=abi.SKV_F16,
        head_dim=shape.dims,
        n_items=heads,
        items=bench.host(abi.SkvCompactItem, items),
    )
    arms = [Arm("all layers", [bench.op("compact", params)])]
    if bench.torch:
        rows = (heads, shape.slots, shape.dims)
        index = bench.torch.tensor(indices, "i32", (heads, kept))
        works = [
            bench.torch.gather(bench.torch.tensor(memory, DTYPE, rows), index)
            for memory in (source.k, source.v)
        ]

        def both():
            for work in works:
                work()

        arms.append(Arm("torch.gather of K and V", [bench.peer(both)], is_peer=True))
    arms[0].enqueue()
    bench.backend.synchronize()
    if bench.torch:
        moved = bench.torch.tensor(k, DTYPE, (heads, kept, shape.dims))
        bench.torch.require_same("torch.gather", works[0], moved)
    row = shape.dims * element
    last = heads - 1
    for i in (0, kept // 2, kept - 1):
        at = chosen[last % 8][i]
        for target, origin in ((k, source.k), (v, source.v)):
            got = bench.backend.download(target + (last * kept + i) * row, row)
            wanted = bench.backend.download(origin + (last * shape.slots + at) * row, row)
            if got != wanted:
                raise AssertionError(f"compact: row {i} of the last head is not row {at}")
        if unpack("i32", bench.read(positions + 4 * (last * kept + i), "i32", 1)) != [at]:
            raise AssertionError(f"compact: position {i} of the last head is not {at}")
    # K and V rows and positions, in and out, and the index.
    size = heads * kept * (2 * (2 * row + 4) + 4)
    setting = bench.setting(
        f"{layers}-layers-32k",
        shape.sizes(layers=layers, kept=kept),
        size,
        0,
        arms,
        baseline="torch.gather of K and V",
    )
    share = setting["arms"][0]["share"]["median"]
    return {
        "op": "compact",
        "what": "raw f16 slots chosen at random, ascending, of all layers and heads in one call",
        "baseline": "torch.gather of K and V",
        "settings": [setting],
        "goals": [at_least("compaction, share of the copy bandwidth", 0.8, share)],
    }
