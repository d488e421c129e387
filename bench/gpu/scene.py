"""Builds the memory and the parameter structs of an op on a backend, from plain data.

The same calls with the same seed give the same bytes on every backend, which is what comparing two
backends rests on. A scene keeps everything alive and knows which memory is output.
"""

from gpu.backend import HostArrays
from gpu.values import SIZES, pack, unpack

DTYPES = {"f32": "SKV_F32", "f16": "SKV_F16", "bf16": "SKV_BF16"}
_CANARY = 0x5A


class Scene(HostArrays):
    """Inputs and outputs of calls on one backend."""

    def __init__(self, backend, values):
        super().__init__(backend.abi)
        self.backend = backend
        self.values = values
        self.owned = []
        self.outputs = {}

    def dtype(self, name):
        return getattr(self.abi, DTYPES[name])

    def put(self, data):
        """Bytes on the device."""
        address = self.backend.allocate(len(data))
        self.owned.append(address)
        self.backend.upload(address, data)
        return address

    def numbers(self, dtype, numbers):
        return self.put(pack(dtype, numbers))

    def normal(self, dtype, count, deviation=1.0):
        return self.put(self.values.normal(dtype, count, deviation))

    def space(self, dtype, count):
        """Memory that nothing was written to."""
        address = self.backend.allocate(count * SIZES[dtype])
        self.owned.append(address)
        return address

    def out(self, name, dtype, count, start=None):
        """Output memory, from bytes `start` or filled with a canary."""
        size = count * SIZES[dtype]
        address = self.backend.allocate(size)
        self.owned.append(address)
        if start is None:
            self.backend.fill(address, _CANARY, size)
            self.backend.synchronize()
        else:
            self.backend.upload(address, start)
        self.outputs[name] = (address, dtype, count)
        return address

    def read(self, name):
        """Bytes of an output."""
        address, dtype, count = self.outputs[name]
        return self.backend.download(address, count * SIZES[dtype])

    def numbers_of(self, name):
        return unpack(self.outputs[name][1], self.read(name))

    def close(self):
        self.backend.synchronize()
        for address in self.owned:
            self.backend.release(address)
        self.owned = []

    # --- slots ---------------------------------------------------------------------------------

    def raw_run(self, dtype, head_dim, slots, base=0, rotated=1, first_position=None, **more):
        """A raw run of random rows; members by keyword are set as given."""
        first = base if first_position is None else first_position
        return self.abi.SkvRun(
            codec=self.abi.SKV_CODEC_RAW,
            slots=slots,
            slot_base=base,
            rotated=rotated,
            k=self.normal(dtype, slots * head_dim),
            v=self.normal(dtype, slots * head_dim),
            positions=self.numbers("i32", range(first, first + slots)),
            **more,
        )

    def codebook_run(
        self, dtype, head_dim, slots, codewords, base=0, ref_bytes=2, rotated=0, **more
    ):
        """A run of references into `codewords` unit rows; members by keyword are set as given."""
        deviation = head_dim**-0.5
        pick = self.values.random.randrange
        refs = "u16" if ref_bytes == 2 else "i32"
        return self.abi.SkvRun(
            codec=self.abi.SKV_CODEC_CODEBOOK,
            slots=slots,
            slot_base=base,
            rotated=rotated,
            k=self.normal(dtype, codewords * head_dim, deviation),
            v=self.normal(dtype, codewords * head_dim, deviation),
            k_codewords=codewords,
            v_codewords=codewords,
            ref_bytes=ref_bytes,
            k_ref=self.numbers(refs, (pick(codewords) for _ in range(slots))),
            v_ref=self.numbers(refs, (pick(codewords) for _ in range(slots))),
            k_magnitude=self.normal(dtype, slots),
            v_magnitude=self.normal(dtype, slots),
            positions=self.numbers("i32", range(base, base + slots)),
            **more,
        )

    def rope(self, table, positions, dims, style="SKV_ROPE_NEOX"):
        return self.abi.SkvRope(table, positions, dims, getattr(self.abi, style), 0)
