"""The same work in torch, on the same memory; nothing here is needed where torch is not installed."""

import contextlib
import ctypes
from math import prod

from gpu.values import SIZES


def import_torch():
    """torch, or None where it cannot be imported."""
    try:
        import torch
    except (ImportError, OSError):
        return None
    return torch


class _Memory:
    """Device memory as torch takes it: the CUDA array interface."""

    def __init__(self, address, shape, kind):
        self.__cuda_array_interface__ = {
            "shape": tuple(shape),
            "typestr": kind,
            "data": (address, False),
            "version": 3,
        }


class Torch:
    """Tensors over the backend's memory, and torch's way of each op."""

    _KINDS = {"f16": "<f2", "f32": "<f4", "i32": "<i4"}

    def __init__(self, torch, backend):
        self.torch = torch
        self.is_cuda = backend.name == "cuda"
        self.dtypes = {"f16": torch.float16, "f32": torch.float32, "i32": torch.int32}
        torch.set_grad_enabled(False)
        if self.is_cuda:
            self.stream = torch.cuda.ExternalStream(backend.stream.value)
        self.device = "cuda" if self.is_cuda else "cpu"

    def tensor(self, address, dtype, shape):
        """A view of memory that the caller keeps."""
        if self.is_cuda:
            memory = _Memory(address, shape, self._KINDS[dtype])
            return self.torch.as_tensor(memory, device="cuda")
        data = (ctypes.c_char * (prod(shape) * SIZES[dtype])).from_address(address)
        return self.torch.frombuffer(data, dtype=self.dtypes[dtype]).view(*shape)

    def on_stream(self, work):
        """A function that runs `work` on the backend's stream."""
        context = (
            (lambda: self.torch.cuda.stream(self.stream))
            if self.is_cuda
            else (contextlib.nullcontext)
        )

        def run():
            with context():
                work()

        return run

    def wait(self):
        """Until torch's own stream is done, which the backend's knows nothing of."""
        if self.is_cuda:
            self.torch.cuda.synchronize()

    def require_same(self, what, work, tensor):
        """Runs a peer and raises where its result is not `tensor` (root mean square, 2 %)."""
        self.wait()
        got = work().reshape(tensor.shape).float()
        wanted = tensor.float()
        off, size = (float(x.square().mean().sqrt()) for x in (got - wanted, wanted))
        if not off <= 0.02 * size + 1e-4:
            raise AssertionError(f"{what}: torch's result differs by {off:.3g} of {size:.3g}")

    def attention(self, q, k, v):
        """Forms of decode attention by name. q [B, Hq, 1, D], k and v [B, Hkv, T, D]."""
        sdpa = self.torch.nn.functional.scaled_dot_product_attention
        batch, query_heads, _, dims = q.shape
        kv_heads = k.shape[1]
        group = query_heads // kv_heads
        grouped = q.view(batch, kv_heads, group, dims)
        return {
            "torch SDPA enable_gqa": lambda: sdpa(q, k, v, enable_gqa=True),
            "torch repeat_kv + SDPA": lambda: sdpa(
                q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
            ),
            "torch SDPA, group as rows": lambda: sdpa(grouped, k, v),
        }

    def window_scores(self, q, k):
        """Column sums of the window's softmax as SnapKV's code does it. q [Hq, W, D], k [Hkv, T, D]."""
        torch = self.torch
        query_heads, window, dims = q.shape
        kv_heads, slots, _ = k.shape

        def work():
            keys = k.repeat_interleave(query_heads // kv_heads, 0)
            logits = torch.matmul(q, keys.transpose(1, 2)) * dims**-0.5
            mask = torch.ones(window, slots, dtype=torch.bool, device=q.device)
            mask = mask.tril(slots - window)
            logits = logits.masked_fill(~mask, float("-inf"))
            return torch.softmax(logits, -1, dtype=torch.float32).sum(1)

        return work

    def topk(self, scores, k, is_sorted):
        return lambda: self.torch.topk(scores, k, dim=-1, sorted=is_sorted)

    def gather(self, rows, indices):
        """Rows [heads, T, D] by [heads, kept] indices, expanded as torch.gather wants them."""
        wide = indices.long().unsqueeze(-1).expand(-1, -1, rows.shape[-1])
        return lambda: self.torch.gather(rows, 1, wide)

    def kmeans_iteration(self, x, codewords, chunk):
        """Assignment by dot product and sums by label, a chunk of problems at a time."""
        torch = self.torch
        problems, _, dims = x.shape
        count = codewords.shape[1]

        def work():
            for first in range(0, problems, chunk):
                part = x[first : first + chunk]
                labels = torch.matmul(
                    part, codewords[first : first + chunk].transpose(1, 2)
                ).argmax(-1)
                sums = torch.zeros(part.shape[0], count, dims, device=x.device)
                sums.scatter_add_(1, labels.unsqueeze(-1).expand(-1, -1, dims), part.float())

        return work

    def similarity(self, x, theta):
        """The full matrix of cosines of each problem, one after the other, as bits above theta."""
        torch = self.torch

        def work():
            for rows in x:
                unit = torch.nn.functional.normalize(rows.float(), dim=-1).to(rows.dtype)
                torch.matmul(unit, unit.T) > theta  # noqa: B015

        return work

    def matmul_rate(self, clock, arm_class, size):
        """FLOP/s of an f16 matrix product: what the tensor cores give here."""
        a = self.torch.randn(size, size, device=self.device).to(self.torch.float16)
        b = self.torch.randn(size, size, device=self.device).to(self.torch.float16)
        self.wait()
        arm = arm_class("matmul", [self.on_stream(lambda: self.torch.matmul(a, b))])
        for _ in range(3):
            clock.sample(arm)
        return 2 * size**3 / (min(clock.sample(arm) for _ in range(5)) / 1000)
