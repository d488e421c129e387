"""Checks of pool_scores, reduce_group and select_topk: canonical, so bits; selections also against a sort."""

from gpu import reference
from gpu.check_case import Case
from gpu.values import pack, unpack


def pool_scores_case(kind, divisor, kernel):
    lengths = [0, 1, 31, 400, 1025]

    def build(scene):
        stride = 1030
        return scene.abi.SkvPoolScoresParams(
            **{"in": scene.normal("f32", len(lengths) * stride)},
            out=scene.out("out", "f32", len(lengths) * stride),
            in_stride=stride,
            out_stride=stride,
            rows=len(lengths),
            kernel=kernel,
            kind=kind,
            divisor=divisor,
            lengths=scene.host_ints(lengths),
        )

    return Case(f"kind {kind}, divisor {divisor}, kernel {kernel}", "pool_scores", build)


def reduce_group_case(kind, group):
    def build(scene):
        rows, columns = 3, 517
        return scene.abi.SkvReduceGroupParams(
            **{"in": scene.normal("f32", rows * group * columns)},
            out=scene.out("out", "f32", rows * columns),
            in_stride=columns,
            out_stride=columns,
            rows=rows,
            group=group,
            kind=kind,
            length=columns,
        )

    return Case(f"kind {kind}, group {group}", "reduce_group", build)


def select_topk_case(name, lengths, k, scores=None, **more):
    options = {"sinks": 3, "recent": 5, "pool_rows": 1, "floor": 0, "union_group": 1, **more}

    def make_scores(scene, count):
        if scores is not None:
            return pack("f32", scores(scene.values, count))
        return scene.values.normal("f32", count)

    def build(scene):
        stride = max(max(lengths), 1)
        rows = len(lengths)
        results = rows // options["union_group"]
        zeros = b"\0" * (4 * results * stride)
        scene.case_scores = make_scores(scene, rows * stride)
        return scene.abi.SkvSelectTopkParams(
            scores=scene.put(scene.case_scores),
            stride=stride,
            rows=rows,
            lengths=scene.host_ints(lengths),
            k=scene.host_ints(k),
            indices=scene.out("indices", "i32", results * stride, zeros),
            out_stride=stride,
            counts=scene.out("counts", "i32", results),
            masks=scene.out("masks", "u16", results * stride, zeros[: 2 * results * stride]),
            **options,
        )

    def verify(scene, params):
        if options["pool_rows"] > 1 or options["union_group"] > 1:
            return []
        numbers = unpack("f32", scene.case_scores)
        indices, counts = scene.numbers_of("indices"), scene.numbers_of("counts")
        faults = []
        for row, (size, wanted) in enumerate(zip(lengths, k, strict=True)):
            at = row * params.stride
            best = reference.select_topk(
                numbers[at : at + size], size, wanted, options["sinks"], options["recent"]
            )
            if indices[at : at + counts[row]] != best:
                faults.append(f"row {row}: the selection is not that of a sort")
        return faults

    return Case(name, "select_topk", build, verify)


def _with_ties(values, count):
    choices = [0.0, -0.0, 1.0, 2.0, float("inf"), float("-inf"), float("nan")]
    return [values.random.choice(choices) for _ in range(count)]


def select_topk_cases():
    return [
        select_topk_case("random", [0, 1, 9, 1000, 4097], [4, 4, 0, 200, 819]),
        select_topk_case("ties, NaN, infinities", [300, 2050], [60, 411], _with_ties),
        select_topk_case("all equal", [2500], [500], lambda _, n: [0.25] * n),
        select_topk_case("across heads", [700, 300, 64, 900], [500], pool_rows=4, floor=20),
        select_topk_case("union of a group", [600] * 8, [100] * 8, union_group=4),
        select_topk_case("long row", [70001], [14000]),
    ]


def cases():
    for kind in (0, 1):
        for divisor in (0, 1):
            yield pool_scores_case(kind, divisor, 7)
    yield pool_scores_case(1, 0, 1)
    for kind in (0, 1, 2):
        yield reduce_group_case(kind, 4)
    yield from select_topk_cases()
