"""Eviction of a layer in torch, the ways people write it, what windowScores, reduceGroup, selectTopk and compact
together are compared with.

    grouped f32    K made f32, the query heads of a KV head as rows of one product, softmax in place, kept rows by
                   index_select
    grouped f16    the same with the product in f16
    repeat_kv f16  as kvpress writes it: K repeated for its query heads, the whole mask, softmax in f32 rounded to
                   f16, gather with an expanded index

The step: softmax in f32 of the last `window` queries over all slots, its sum or mean over the window, mean over the
query heads of a KV head, maximum over `pool` neighbours (1: none), the best slots beside the window, ascending, and
copies of their rows of K and V and of the window's. `keep`: share of the slots, the window counted.
Shapes: q [heads, window, dims], k and v [kv_heads, slots, dims], f16. Calls go round `copies` inputs.
"""

import math
import sys

import serve

DEFAULTS = {
    "slots": 16384,
    "heads": 32,
    "kv_heads": 8,
    "dims": 128,
    "window": 32,
    "keep": 0.2,
    "pool": 1,
    "copies": 2,
}


def prepare(sizes):
    import torch
    from torch.nn.functional import max_pool1d

    heads, kv_heads, dims, slots = (sizes[name] for name in ("heads", "kv_heads", "dims", "slots"))
    window, pool = sizes["window"], sizes["pool"]
    group = heads // kv_heads
    best = round(sizes["keep"] * slots) - window
    scale = dims**-0.5
    recent = torch.arange(slots - window, slots).expand(kv_heads, window)
    first_row = torch.arange(kv_heads)[:, None] * slots
    # Only the window's own slots are ever hidden from one of its queries.
    corner = torch.full((window, window), -math.inf).triu(1)
    torch.manual_seed(1)
    inputs = [
        tuple(
            torch.randn(shape, dtype=torch.float32).to(torch.float16)
            for shape in (
                (heads, window, dims),
                (kv_heads, slots, dims),
                (kv_heads, slots, dims),
            )
        )
        for _ in range(sizes["copies"])
    ]

    def pooled(scores):
        return scores if pool == 1 else max_pool1d(scores, pool, stride=1, padding=pool // 2)

    def kept_slots(scores):
        chosen = scores[:, : slots - window].topk(best, dim=-1, sorted=False).indices
        return torch.cat([chosen.sort(dim=-1).values, recent], dim=-1)

    def grouped(dtype, q, k, v):
        rows = (q.to(dtype) * scale).view(kv_heads, group * window, dims)
        logits = torch.bmm(rows, k.to(dtype).transpose(1, 2)).float()
        logits = logits.view(kv_heads, group, window, slots)
        logits[..., slots - window :] += corner
        torch.softmax(logits, dim=-1, out=logits)
        kept = kept_slots(pooled(logits.sum(dim=2).mean(dim=1)))
        flat = (kept + first_row).flatten()
        return kept, [x.view(-1, dims).index_select(0, flat) for x in (k, v)]

    def repeat_kv(q, k, v):
        keys = k[:, None].expand(kv_heads, group, slots, dims).reshape(heads, slots, dims)
        weights = torch.matmul(q, keys.transpose(1, 2)) * scale
        mask = torch.full_like(weights, -math.inf)
        weights += torch.triu(mask, diagonal=slots - window + 1)
        weights = torch.softmax(weights, dim=-1, dtype=torch.float32).to(q.dtype)
        scores = pooled(weights.mean(dim=-2)).view(kv_heads, group, slots).mean(dim=1)
        kept = kept_slots(scores)
        index = kept[..., None].expand(-1, -1, dims)
        return kept, [x.gather(1, index).contiguous() for x in (k, v)]

    forms = {
        "grouped f32": lambda *layer: grouped(torch.float32, *layer),
        "grouped f16": lambda *layer: grouped(torch.float16, *layer),
        "repeat_kv f16": repeat_kv,
    }
    expected = set(forms["grouped f32"](*inputs[0])[0][0].tolist())
    arms = {}
    for name, form in forms.items():
        kept = form(*inputs[0])[0][0].tolist()
        if len(expected.intersection(kept)) < 0.9 * len(kept):
            raise SystemExit(f"eviction.py: {name} keeps other slots")

        def call(number, form=form):
            with torch.inference_mode():
                form(*inputs[number % len(inputs)])

        arms[name] = call
    return arms


if __name__ == "__main__":
    sys.exit(serve.main(__doc__, {"torch": "torch"}, DEFAULTS, prepare))
