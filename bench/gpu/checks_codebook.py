"""Checks of build_codebook, nearest_codeword and reduce_by_label: canonical, so bits; the last two
also against float64."""

from gpu import reference
from gpu.check_case import DTYPES, Case
from gpu.tolerance import gamma, length
from gpu.values import SIZES, unpack


def build_codebook_case(dtype, theta, refine, max_codewords=0):
    def build(scene):
        dims, problems, abi = 64, [], scene.abi
        for i, (rows, centres) in enumerate(((150, 12), (97, 40), (1, 1))):
            data = scene.values.clustered(dtype, rows, dims, centres, 0.12)
            problems.append(
                abi.SkvCodebookProblem(
                    x=scene.put(data),
                    x_stride=dims,
                    n=rows,
                    n_rows=rows,
                    theta=theta,
                    capacity=rows,
                    graph=scene.out(f"{i} graph", "u64", rows * ((rows + 63) // 64)),
                    labels=scene.out(f"{i} labels", "i32", rows),
                    leaders=scene.out(f"{i} leaders", "i32", rows),
                    count=scene.out(f"{i} count", "i32", 1),
                    codewords=scene.out(f"{i} codewords", dtype, rows * dims),
                    refs=scene.out(f"{i} refs", "u16", rows),
                    magnitudes=scene.out(f"{i} magnitudes", dtype, rows),
                    cosines=scene.out(f"{i} cosines", "f32", rows),
                )
            )
        return abi.SkvBuildCodebookParams(
            dtype=scene.dtype(dtype),
            head_dim=dims,
            n_problems=len(problems),
            stages=abi.SKV_STAGE_GRAPH | abi.SKV_STAGE_COVER | abi.SKV_STAGE_EMIT,
            max_codewords=max_codewords,
            refine=refine,
            ref_bytes=2,
            problems=scene.host(abi.SkvCodebookProblem, problems),
            nonfinite=scene.out("nonfinite", "i32", 1, b"\0" * 4),
        )

    def verify(scene, _params):
        count = scene.numbers_of("1 count")[0]
        return [] if 1 < count < 97 else [f"the case has {count} codewords: it shows nothing"]

    # Beyond the count nothing is defined in leaders and codewords.
    return Case(
        f"{dtype}, theta {theta}, refine {refine}, at most {max_codewords or 'any'}",
        "build_codebook",
        build,
        verify,
        loose=[f"{i} {what}" for i in range(3) for what in ("leaders", "codewords")],
    )


def _rows_at(scene, address, dtype, rows, width):
    """Numbers in device memory, as rows."""
    data = scene.backend.download(address, rows * width * SIZES[dtype])
    numbers = unpack(dtype, data)
    return [numbers[i : i + width] for i in range(0, len(numbers), width)]


def nearest_codeword_case(dtype, normalize):
    def build(scene):
        dims, problems = 64, []
        for i, (n, c) in enumerate(((130, 70), (5, 1), (33, 0))):
            problems.append(
                scene.abi.SkvNearestProblem(
                    x=scene.normal(dtype, n * dims),
                    codewords=scene.normal(dtype, c * dims),
                    x_stride=dims,
                    codeword_stride=dims,
                    n=n,
                    c=c,
                    index=scene.out(f"{i} index", "i32", n),
                    score=scene.out(f"{i} score", "f32", n),
                    norm=scene.out(f"{i} norm", "f32", n),
                )
            )
        return scene.abi.SkvNearestCodewordParams(
            dtype=scene.dtype(dtype),
            head_dim=dims,
            n_problems=len(problems),
            normalize=normalize,
            problems=scene.host(scene.abi.SkvNearestProblem, problems),
        )

    def verify(scene, params):
        """The chosen codeword is the nearest in float64, or as near but for rounding."""
        problem = (scene.abi.SkvNearestProblem).from_address(params.problems)
        x = _rows_at(scene, problem.x, dtype, problem.n, params.head_dim)
        codewords = _rows_at(scene, problem.codewords, dtype, problem.c, params.head_dim)
        if normalize:
            x = [[value / length(row) for value in row] for row in x]
        dots = reference.nearest_codeword(x, codewords)
        index, score = scene.numbers_of("0 index"), scene.numbers_of("0 score")
        largest = max(length(row) for row in x) * max(length(row) for row in codewords)
        bound = gamma(params.head_dim + 4) * largest
        return [
            f"row {i}: codeword {index[i]} at {score[i]!r}, float64 best {max(row)!r}"
            for i, row in enumerate(dots)
            if not max(row) - row[index[i]] <= 2 * bound or not abs(score[i] - max(row)) <= bound
        ][:1]

    return Case(f"{dtype}, normalize {normalize}", "nearest_codeword", build, verify)


def reduce_by_label_case(dtype, has_weights):
    def build(scene):
        dims, problems = 64, []
        pick = scene.values.random.randrange
        for i, (rows, labels) in enumerate(((1500, 37), (0, 2), (90, 300))):
            problems.append(
                scene.abi.SkvLabelProblem(
                    x=scene.normal(dtype, rows * dims),
                    x_stride=dims,
                    labels=scene.numbers("i32", (pick(-1, labels) for _ in range(rows))),
                    weights=scene.normal("f32", rows) if has_weights else None,
                    n=rows,
                    n_labels=labels,
                    sums=scene.out(f"{i} sums", "f32", labels * dims),
                    counts=scene.out(f"{i} counts", "i32", labels),
                    offsets=scene.out(f"{i} offsets", "i32", labels + 1),
                    order=scene.out(f"{i} order", "i32", rows, b"\0" * (4 * rows)),
                )
            )
        return scene.abi.SkvReduceByLabelParams(
            dtype=scene.dtype(dtype),
            head_dim=dims,
            n_problems=len(problems),
            problems=scene.host(scene.abi.SkvLabelProblem, problems),
        )

    def verify(scene, params):
        problem = (scene.abi.SkvLabelProblem).from_address(params.problems)
        dims, rows = params.head_dim, problem.n
        x = _rows_at(scene, problem.x, dtype, rows, dims)
        labels = _rows_at(scene, problem.labels, "i32", 1, rows)[0]
        weights = [1.0] * rows
        if has_weights:
            weights = _rows_at(scene, problem.weights, "f32", 1, rows)[0]
        sums, counts, order = reference.reduce_by_label(x, labels, weights, problem.n_labels)
        sizes = reference.reduce_by_label(
            [[abs(value) for value in row] for row in x],
            labels,
            [abs(weight) for weight in weights],
            problem.n_labels,
        )[0]
        faults = []
        got_order = scene.numbers_of("0 order")[: len(order)]
        if scene.numbers_of("0 counts") != counts or got_order != order:
            faults.append("counts or order are not those of a stable sort")
        got = scene.numbers_of("0 sums")
        wanted = [value for row in sums for value in row]
        bounds = [gamma(rows) * value for row in sizes for value in row]
        if any(not abs(g - w) <= b for g, w, b in zip(got, wanted, bounds, strict=True)):
            faults.append("a sum is off by more than its roundings")
        return faults

    return Case(f"{dtype}, weights {has_weights}", "reduce_by_label", build, verify)


def cases():
    for dtype in DTYPES:
        yield build_codebook_case(dtype, 0.9, 2)
        yield nearest_codeword_case(dtype, 1)
        yield nearest_codeword_case(dtype, 0)
        yield reduce_by_label_case(dtype, True)
    yield build_codebook_case("f16", 0.95, 0, max_codewords=9)
    yield reduce_by_label_case("f16", False)
