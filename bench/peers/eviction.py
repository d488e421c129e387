"""Milliseconds of one eviction of one layer in PyTorch on the CPU, what windowScores, poolScores,
reduceGroup, selectTopk and compact together are compared with.

    eviction.py [--slots N] [--query-heads N] [--kv-heads N] [--head-dim N] [--window N] [--keep F]
                [--pool N] [--threads N] [--repeats N] [--seconds F]

The step: softmax of the last `window` queries over all slots, summed over the window, mean over the
query heads of a KV head, maximum over `pool` neighbours if given, the best slots beside the window,
ascending, and K and V of those slots and the window, copied. f16 K, V and Q, f32 softmax. Forms:

    grouped-f32   K made f32, one product for the heads of a group, in-place softmax, rows by
                  index_select
    grouped-f16   the same with the product in f16
    repeated      as kvpress writes it: K repeated for its query heads, the whole mask, softmax in
                  f32 rounded to f16, gather with an expanded index

The forms take turns, on two layers' worth of memory. Prints one line of JSON and writes nothing.
Exit status 3: PyTorch is not installed.
"""

import argparse
import json
import math
import os
import statistics
import sys
import time

LAYERS = 2


def options():
    parser = argparse.ArgumentParser(description="an eviction in PyTorch")
    parser.add_argument("--slots", type=int, default=16384)
    parser.add_argument("--query-heads", type=int, default=32)
    parser.add_argument("--kv-heads", type=int, default=8)
    parser.add_argument("--head-dim", type=int, default=128)
    parser.add_argument("--window", type=int, default=32)
    parser.add_argument("--keep", type=float, default=0.2)
    parser.add_argument("--pool", type=int, default=1, help="odd; 1: none")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=15, help="at most")
    parser.add_argument("--seconds", type=float, default=20.0, help="no further repeat after these")
    return parser.parse_args()


def forms_of(torch, chosen):
    """name -> function of (q [Hq, W, D], k [Hkv, N, D], v) that returns the kept K and V."""
    functional = torch.nn.functional
    slots, window, dim = chosen.slots, chosen.window, chosen.head_dim
    kv_heads, group = chosen.kv_heads, chosen.query_heads // chosen.kv_heads
    best = round(chosen.keep * slots) - window
    scale = 1.0 / math.sqrt(dim)
    recent = torch.arange(slots - window, slots)
    # Only the window's own columns are ever hidden from one of its queries.
    corner = torch.full((window, window), -math.inf).triu(1)

    def pooled(scores):
        if chosen.pool == 1:
            return scores
        return functional.max_pool1d(scores, chosen.pool, stride=1, padding=chosen.pool // 2)

    def kept_slots(scores):
        chosen_slots = scores[:, : slots - window].topk(best, dim=-1, sorted=False).indices
        chosen_slots = chosen_slots.sort(dim=-1).values
        return torch.cat([chosen_slots, recent.expand(kv_heads, window)], dim=-1)

    def grouped(dtype):
        first_row = torch.arange(kv_heads)[:, None] * slots

        def evict(q, k, v):
            rows = (q * scale).view(kv_heads, group * window, dim).to(dtype)
            logits = torch.bmm(rows, k.to(dtype).transpose(1, 2)).float()
            logits = logits.view(kv_heads, group, window, slots)
            logits[..., slots - window :] += corner
            torch.softmax(logits, dim=-1, out=logits)
            kept = kept_slots(pooled(logits.sum(dim=2).mean(dim=1)))
            flat = (kept + first_row).flatten()
            return [x.view(-1, dim).index_select(0, flat).view(kv_heads, -1, dim) for x in (k, v)]

        return evict

    def repeated(q, k, v):
        keys = k[:, None].expand(kv_heads, group, slots, dim).reshape(-1, slots, dim)
        weights = torch.matmul(q, keys.transpose(1, 2)) * scale
        mask = torch.ones_like(weights) * float("-inf")
        weights += torch.triu(mask, diagonal=slots - window + 1)
        weights = torch.softmax(weights, dim=-1, dtype=torch.float32).to(q.dtype)
        scores = pooled(weights.mean(dim=-2)).view(kv_heads, group, slots).mean(dim=1)
        index = kept_slots(scores)[..., None].expand(-1, -1, dim)
        return [x.gather(1, index).contiguous() for x in (k, v)]

    return {
        "grouped-f32": grouped(torch.float32),
        "grouped-f16": grouped(torch.float16),
        "repeated": repeated,
    }


def main():
    chosen = options()
    os.environ["OMP_NUM_THREADS"] = str(chosen.threads)
    try:
        import torch
    except ImportError as error:
        print(f"eviction.py: expected PyTorch, got: {error}", file=sys.stderr)
        print("eviction.py: install it with: python -m pip install torch", file=sys.stderr)
        return 3
    torch.set_num_threads(chosen.threads)
    torch.set_grad_enabled(False)
    random = torch.Generator().manual_seed(20250703)

    def normal(*shape):
        return torch.randn(shape, generator=random).half()

    layers = [
        (
            normal(chosen.query_heads, chosen.window, chosen.head_dim),
            normal(chosen.kv_heads, chosen.slots, chosen.head_dim),
            normal(chosen.kv_heads, chosen.slots, chosen.head_dim),
        )
        for _ in range(LAYERS)
    ]
    forms = forms_of(torch, chosen)
    samples = {name: [] for name in forms}
    for evict in forms.values():
        evict(*layers[-1])  # warm-up
    begin = time.perf_counter()
    for repeat in range(chosen.repeats):
        if repeat >= 3 and time.perf_counter() - begin > chosen.seconds:
            break
        for name, evict in forms.items():
            start = time.perf_counter()
            evict(*layers[repeat % LAYERS])
            samples[name].append((time.perf_counter() - start) * 1000.0)

    def spread(values):
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return {"median": median, "quartiles": [low, high], "repeats": len(values)}

    print(
        json.dumps(
            {
                "peer": "PyTorch, eviction of one layer",
                "version": torch.__version__,
                "slots": chosen.slots,
                "queryHeads": chosen.query_heads,
                "kvHeads": chosen.kv_heads,
                "headDim": chosen.head_dim,
                "window": chosen.window,
                "keep": chosen.keep,
                "pool": chosen.pool,
                "threads": chosen.threads,
                "unit": "milliseconds",
                "forms": {name: spread(values) for name, values in samples.items()},
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
