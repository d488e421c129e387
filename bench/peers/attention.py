"""Decode attention of one token in torch, the ways people write it, what attend is compared with.

    sdpa enable_gqa    scaled_dot_product_attention(q, k, v, enable_gqa=True)
    sdpa repeat_kv     the same after every KV head is repeated for its query heads, as Hugging Face models do
    sdpa grouped       the query heads of a KV head as rows of one head: each K and V row serves its group
    eager bmm          softmax(q k^T) v by two batched products, the group as rows

Shapes: q [1, heads, 1, dims], k and v [1, kv-heads, slots, dims]. Calls go round `copies` inputs.
`dtypes` and `forms` are lists with commas; an arm is a form and a dtype.
"""

import sys

import serve

FORMS = ("sdpa enable_gqa", "sdpa repeat_kv", "sdpa grouped", "eager bmm")
DEFAULTS = {
    "slots": 8192,
    "heads": 32,
    "kv_heads": 8,
    "dims": 128,
    "copies": 2,
    "dtypes": "f16,bf16,f32",
    "forms": ",".join(FORMS),
}


def prepare(sizes):
    import torch
    from torch.nn.functional import scaled_dot_product_attention as sdpa

    heads, kv_heads, dims, slots = (sizes[name] for name in ("heads", "kv_heads", "dims", "slots"))
    group = heads // kv_heads
    scale = dims**-0.5
    dtypes = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}
    torch.manual_seed(1)

    def inputs_of(dtype):
        """A million normal values repeated: drawing all of them would take longer than the timing."""
        block = torch.randn(1 << 20, dtype=torch.float32).to(dtype)

        def normal(*shape):
            count = 1
            for size in shape:
                count *= size
            return block.repeat(-(-count // block.numel()))[:count].reshape(shape).clone()

        return [
            (
                normal(1, heads, 1, dims),
                normal(1, kv_heads, slots, dims),
                normal(1, kv_heads, slots, dims),
            )
            for _ in range(sizes["copies"])
        ]

    def enable_gqa(q, k, v):
        return sdpa(q, k, v, enable_gqa=True)

    def repeat_kv(q, k, v):
        return sdpa(q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1))

    def grouped(q, k, v):
        return sdpa(q.view(1, kv_heads, group, dims), k, v).view(1, heads, 1, dims)

    def eager(q, k, v):
        logits = torch.bmm(q.view(kv_heads, group, dims), k[0].transpose(1, 2)) * scale
        weights = torch.softmax(logits, dim=-1, dtype=torch.float32).to(v.dtype)
        return torch.bmm(weights, v[0]).view(1, heads, 1, dims)

    forms = dict(zip(FORMS, (enable_gqa, repeat_kv, grouped, eager)))
    arms = {}
    for dtype in sizes["dtypes"].split(","):
        inputs = inputs_of(dtypes[dtype])
        expected = grouped(*(part.float() for part in inputs[0]))
        for name in sizes["forms"].split(","):
            form = forms[name]
            error = (form(*inputs[0]).float() - expected).abs().max().item()
            if error > 0.02 * expected.abs().max().item():
                raise SystemExit(f"attention.py: {name} {dtype} differs by {error}")

            def call(number, form=form, inputs=inputs):
                with torch.inference_mode():
                    form(*inputs[number % len(inputs)])

            arms[f"{name} {dtype}"] = call
    return arms


if __name__ == "__main__":
    sys.exit(serve.main(__doc__, {"torch": "torch"}, DEFAULTS, prepare))
