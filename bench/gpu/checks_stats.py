"""Checks of key_stats and row_cosine: canonical, so bits; cosines lie in [-1, 1] and are not all alike."""

from gpu.check_case import DTYPES, Case, rope_of


def _cosine_faults(scene, name, count):
    cosines = scene.numbers_of(name)[:count]
    if any(not abs(x) <= 1.00001 for x in cosines) or (count > 1 and len(set(cosines)) == 1):
        return [f"{name} are no cosines: {cosines[:4]}"]
    return []


def key_stats_case(dtype, head_dim, encoded, raw, kv_heads, **more):
    """Heads of a codebook segment, raw slots with keys before RoPE, and raw ones with keys after it."""
    slots = encoded + 2 * raw

    def head(scene):
        return [
            scene.codebook_run(dtype, head_dim, encoded, max(1, encoded // 3)),
            scene.raw_run(dtype, head_dim, raw, base=encoded, rotated=0),
            scene.raw_run(dtype, head_dim, raw, base=encoded + raw, rotated=more.get("last", 1)),
        ]

    def build(scene):
        runs, n_runs, heads = scene.heads([head(scene) for _ in range(kv_heads)])
        outputs = {
            name: scene.out(name, "f32", kv_heads * slots)
            for name in ("k_norm", "cos_to_mean", "v_norm", "v_l1")
        }
        return scene.abi.SkvKeyStatsParams(
            dtype=scene.dtype(dtype),
            head_dim=head_dim,
            kv_heads=kv_heads,
            reindex=more.get("reindex", 0),
            n_runs=n_runs,
            runs=runs,
            heads=heads,
            rope=rope_of(scene, head_dim),
            stride=slots,
            nonfinite=scene.out("nonfinite", "i32", 1, b"\0" * 4),
            **outputs,
        )

    def verify(scene, _params):
        return _cosine_faults(scene, "cos_to_mean", kv_heads * slots)

    return Case(f"{dtype} {head_dim} {slots} slots", "key_stats", build, verify)


def row_cosine_case(dtype, rows, width):
    def build(scene):
        return scene.abi.SkvRowCosineParams(
            dtype=scene.dtype(dtype),
            rows=rows,
            width=width,
            a=scene.normal(dtype, rows * width),
            b=scene.normal(dtype, rows * width),
            a_stride=width,
            b_stride=width,
            cosines=scene.out("cosines", "f32", rows),
            sum=scene.out("sum", "f32", 1, b"\0" * 4),
            nonfinite=scene.out("nonfinite", "i32", 1, b"\0" * 4),
        )

    def verify(scene, _params):
        return _cosine_faults(scene, "cosines", rows)

    return Case(f"{dtype} {rows} by {width}", "row_cosine", build, verify)


def cases():
    for dtype in DTYPES:
        yield key_stats_case(dtype, 64, 100, 45, 2)
        yield row_cosine_case(dtype, 131, 577)
    yield key_stats_case("f16", 128, 70, 130, 3, reindex=1, last=0)
    yield row_cosine_case("f32", 3, 4096)
