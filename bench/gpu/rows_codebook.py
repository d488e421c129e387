"""The rows of codebooks: an iteration of k-means, and the greedy cover (which has no goal on a GPU)."""

from gpu.results import at_most
from gpu.timing import Arm
from gpu.values import SIZES, unpack

DTYPE = "f16"


def kmeans(bench):
    """A job: assignment and sums of 512 problems (32 layers, 8 KV heads, K and V) of 32k rows."""
    problems, rows = bench.size(512, 2), bench.size(32768, 200)
    codewords, dims = bench.size(1024, 16), bench.size(128, 64)
    element, abi = SIZES[DTYPE], bench.abi
    x = bench.filled(DTYPE, problems * rows * dims)
    c = bench.filled(DTYPE, problems * codewords * dims)
    index = bench.zeros("i32", problems * rows)
    sums = bench.zeros("f32", problems * codewords * dims)
    counts = bench.zeros("i32", problems * codewords)
    each = [
        abi.SkvNearestProblem(
            x=x + i * rows * dims * element,
            codewords=c + i * codewords * dims * element,
            x_stride=dims,
            codeword_stride=dims,
            n=rows,
            c=codewords,
            index=index + 4 * i * rows,
        )
        for i in range(problems)
    ]
    assign = bench.op(
        "nearest_codeword",
        abi.SkvNearestCodewordParams(
            dtype=abi.SKV_F16,
            head_dim=dims,
            n_problems=problems,
            normalize=0,
            problems=bench.host(abi.SkvNearestProblem, each),
        ),
    )
    labelled = [
        abi.SkvLabelProblem(
            x=x + i * rows * dims * element,
            x_stride=dims,
            labels=index + 4 * i * rows,
            n=rows,
            n_labels=codewords,
            sums=sums + 4 * i * codewords * dims,
            counts=counts + 4 * i * codewords,
        )
        for i in range(problems)
    ]
    update = bench.op(
        "reduce_by_label",
        abi.SkvReduceByLabelParams(
            dtype=abi.SKV_F16,
            head_dim=dims,
            n_problems=problems,
            problems=bench.host(abi.SkvLabelProblem, labelled),
        ),
    )

    arms = [
        Arm("iteration", [[assign, update]]),
        Arm("assignment", [assign]),
        Arm("sums", [update]),
    ]
    if bench.torch:
        work = bench.torch.kmeans_iteration(
            bench.torch.tensor(x, DTYPE, (problems, rows, dims)),
            bench.torch.tensor(c, DTYPE, (problems, codewords, dims)),
            bench.size(16, 1),
        )
        name = "torch matmul + argmax + scatter_add"
        arms.append(Arm(name, [bench.peer(work)], commands=20 * problems // 16 + 20, is_peer=True))
    arms[0].enqueue()
    bench.backend.synchronize()
    _check_kmeans(bench, each[-1], rows, codewords, dims, index + 4 * (problems - 1) * rows)
    flops = 2 * problems * rows * codewords * dims
    setting = bench.setting(
        f"{problems}-problems-32k",
        {"problems": problems, "rows": rows, "codewords": codewords, "headDim": dims},
        problems * (rows * dims * element + 4 * rows),
        flops,
        arms,
        baseline="torch matmul + argmax + scatter_add",
    )
    rate, source = bench.tensor_flops()
    floor = flops / rate * 1000
    setting["facts"]["floor ms by products"] = floor
    taken = setting["arms"][0]["milliseconds"]["median"]
    return {
        "op": "nearestCodeword",
        "what": "an iteration of spherical k-means: assignment by nearestCodeword, sums by reduceByLabel; "
        f"floor: the products at {source}",
        "baseline": "torch matmul + argmax + scatter_add",
        "settings": [setting],
        "goals": [at_most("k-means iteration, time over floor", 2.5, taken / floor)],
    }


def _check_kmeans(bench, problem, rows, codewords, dims, index):
    """The first rows of the last problem, by the CPU backend."""
    cpu = bench.trusted
    if cpu is None:
        return
    element, checked = SIZES[DTYPE], min(rows, 512)
    own = bench.abi.SkvNearestProblem(
        x=cpu.allocate(checked * dims * element),
        codewords=cpu.allocate(codewords * dims * element),
        x_stride=dims,
        codeword_stride=dims,
        n=checked,
        c=codewords,
        index=cpu.allocate(4 * checked),
    )
    cpu.upload(own.x, bench.backend.download(problem.x, checked * dims * element))
    cpu.upload(own.codewords, bench.backend.download(problem.codewords, codewords * dims * element))
    params = bench.abi.SkvNearestCodewordParams(
        dtype=bench.abi.SKV_F16,
        head_dim=dims,
        n_problems=1,
        normalize=0,
        problems=bench.host(bench.abi.SkvNearestProblem, [own]),
    )
    cpu.run("nearest_codeword", params)
    if cpu.download(own.index, 4 * checked) != bench.backend.download(index, 4 * checked):
        raise AssertionError("nearest_codeword: the last problem differs from the CPU's")


def cover(bench):
    """A job: the codebooks of one layer, keys and values of 8 heads, 8k rows each."""
    problems, rows = bench.size(16, 2), bench.size(8192, 120)
    dims, abi = bench.size(128, 64), bench.abi
    element = SIZES[DTYPE]
    # Rows near random directions: a tenth as many directions as rows, as a block of real keys has.
    near = bench.values.clustered(DTYPE, rows, dims, rows // 10, 0.1)
    x = bench.put(near * problems)
    theta = 0.9
    each, outputs = [], []
    for i in range(problems):
        out = {
            "labels": bench.zeros("i32", rows),
            "leaders": bench.zeros("i32", rows),
            "count": bench.zeros("i32", 1),
            "codewords": bench.zeros(DTYPE, rows * dims),
            "refs": bench.zeros("u16", rows),
            "magnitudes": bench.zeros(DTYPE, rows),
        }
        outputs.append(out)
        each.append(
            abi.SkvCodebookProblem(
                x=x + i * rows * dims * element,
                x_stride=dims,
                n=rows,
                n_rows=rows,
                theta=theta,
                capacity=rows,
                **out,
            )
        )
    params = abi.SkvBuildCodebookParams(
        dtype=abi.SKV_F16,
        head_dim=dims,
        n_problems=problems,
        stages=abi.SKV_STAGE_COVER | abi.SKV_STAGE_EMIT,
        ref_bytes=2,
        problems=bench.host(abi.SkvCodebookProblem, each),
    )
    arms = [Arm("cover and emit", [bench.op("build_codebook", params)], commands=100)]
    if bench.torch:
        tensor = bench.torch.tensor(x, DTYPE, (problems, rows, dims))
        work = bench.torch.similarity(tensor, theta)
        arms.append(
            Arm("torch similarity matrix", [bench.peer(work)], commands=10 * problems, is_peer=True)
        )
    arms[0].enqueue()
    bench.backend.synchronize()
    count = unpack("i32", bench.read(outputs[0]["count"], "i32", 1))[0]
    if not 0 < count <= rows:
        raise AssertionError(f"build_codebook: {count} codewords of {rows} rows")
    setting = bench.setting(
        "one-layer-8k",
        {"problems": problems, "rows": rows, "headDim": dims, "codewords": count},
        problems * rows * dims * element,
        problems * rows * rows * dims,
        arms,
        baseline="torch similarity matrix",
    )
    return {
        "op": "buildCodebook",
        "what": "greedy cover at 0.9 and codewords of one layer's keys and values; the peer only makes the "
        "matrix of similarities",
        "baseline": "torch similarity matrix",
        "settings": [setting],
        "goals": [],
    }
