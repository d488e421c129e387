"""Checks of append_kv, compact and rope: canonical or exact, so bits."""

from gpu.check_case import DTYPES, Case, rope_of
from gpu.values import rope_table


def append_kv_case(dtype, src_dtype, rotate):
    def build(scene):
        dims, sizes = 64, (1, 70, 0)
        items = []
        for i, tokens in enumerate(sizes):
            room = tokens + 5
            run = scene.abi.SkvRun(
                codec=scene.abi.SKV_CODEC_RAW,
                k=scene.out(f"{i} k", dtype, room * dims),
                v=scene.out(f"{i} v", dtype, room * dims),
                positions=scene.out(f"{i} positions", "i32", room),
                mask=scene.out(f"{i} mask", "u16", room),
                beta=scene.out(f"{i} beta", "f32", room),
            )
            items.append(
                scene.abi.SkvAppendItem(
                    k=scene.normal(src_dtype, tokens * (dims + 8)),
                    v=scene.normal(src_dtype, tokens * dims),
                    k_stride_token=dims + 8,
                    v_stride_token=dims,
                    tokens=tokens,
                    first_position=100 + i,
                    dst=run,
                    dst_slot=3,
                    key_norms=scene.out(f"{i} norms", "f32", tokens),
                )
            )
        return scene.abi.SkvAppendKvParams(
            dtype=scene.dtype(dtype),
            src_dtype=scene.dtype(src_dtype),
            head_dim=dims,
            n_items=len(items),
            items=scene.host(scene.abi.SkvAppendItem, items),
            rotate=rotate,
            rope=rope_of(scene, dims),
        )

    return Case(f"{src_dtype} to {dtype}, rotate {rotate}", "append_kv", build)


def compact_case(dtype, codec):
    def build(scene):
        dims, items = 64, []
        for i, (slots, kept) in enumerate(((300, 60), (129, 129), (50, 0))):
            out = scene.out
            if codec == "raw":
                src = scene.raw_run(dtype, dims, slots, beta=scene.normal("f32", slots))
                mask = scene.numbers("u16", range(kept))
            else:
                src = scene.codebook_run(dtype, dims, slots, 40)
                mask = None
            dst = scene.abi.SkvRun(
                codec=src.codec,
                slots=kept + 2,
                ref_bytes=src.ref_bytes,
                positions=out(f"{i} positions", "i32", kept + 2),
                mask=out(f"{i} mask", "u16", kept + 2),
                beta=out(f"{i} beta", "f32", kept + 2),
            )
            parts = ("k_ref", "v_ref", "k_magnitude", "v_magnitude")
            if codec == "raw":
                dst.k = out(f"{i} k", dtype, (kept + 2) * dims)
                dst.v = out(f"{i} v", dtype, (kept + 2) * dims)
            else:
                for part in parts:
                    kind = "u16" if part.endswith("ref") else dtype
                    setattr(dst, part, out(f"{i} {part}", kind, kept + 2))
            indices = [7 + n for n in scene.values.ascending(kept, slots)]
            items.append(
                scene.abi.SkvCompactItem(
                    src=src,
                    dst=dst,
                    indices=scene.numbers("i32", indices),
                    mask_override=mask,
                    count=kept,
                    index_base=7,
                    dst_slot=2,
                )
            )
        return scene.abi.SkvCompactParams(
            dtype=scene.dtype(dtype),
            head_dim=dims,
            n_items=len(items),
            items=scene.host(scene.abi.SkvCompactItem, items),
        )

    return Case(f"{codec} {dtype}", "compact", build)


def rope_case(dtype, style, turn):
    def build(scene):
        dims, heads, tokens = 96, 2, 70
        rope = scene.rope(scene.put(rope_table(512, 64)), 512, 64, style)
        pick = scene.values.random.randrange
        start = scene.numbers("i32", (pick(200) for _ in range(tokens)))
        end = scene.numbers("i32", (pick(500) for _ in range(tokens)))
        return scene.abi.SkvRopeParams(
            **{"in": scene.normal(dtype, heads * tokens * dims)},
            out=scene.out("out", dtype, heads * tokens * dims),
            in_stride_head=tokens * dims,
            in_stride_token=dims,
            out_stride_head=tokens * dims,
            out_stride_token=dims,
            dtype=scene.dtype(dtype),
            head_dim=dims,
            heads=heads,
            tokens=tokens,
            positions_from=None if turn == "apply" else start,
            positions_to=None if turn == "undo" else end,
            rope=rope,
        )

    return Case(f"{dtype} {style} {turn}", "rope", build)


def cases():
    for dtype in DTYPES:
        yield append_kv_case(dtype, "f32", 1)
        yield append_kv_case(dtype, dtype, 0)
        yield compact_case(dtype, "raw")
        yield compact_case(dtype, "codebook")
        yield rope_case(dtype, "SKV_ROPE_NEOX", "apply")
        yield rope_case(dtype, "SKV_ROPE_NORM", "re-rotate")
        yield rope_case(dtype, "SKV_ROPE_NORM", "undo")
