"""What the rows are measured with: rotated memory, arms beside the copy bandwidth, results."""

from gpu import results
from gpu.backend import HostArrays
from gpu.peers import Torch, import_torch
from gpu.timing import Arm, CudaClock, HostClock, measure, spread_of
from gpu.values import SIZES, Values, pack

_BLOCK_BYTES = 64 << 20
# H100 and H200 SXM, dense f16 with f32 sums, as sustained by large products.
_TENSOR_FLOPS = {"H100": 798e12, "H200": 798e12}


class Workbench(HostArrays):
    """One backend with a clock. `is_tiny`: sizes and samples just large enough to go through it all."""

    def __init__(self, backend, driver, trusted, is_tiny):
        super().__init__(backend.abi)
        self.backend = backend
        self.trusted = trusted
        self.is_tiny = is_tiny
        self.values = Values(11)
        self.driver = driver
        self.clock = CudaClock(driver, backend) if driver else HostClock(backend)
        torch = import_torch()
        has_peer = torch is not None and (driver is None or torch.cuda.is_available())
        self.torch = Torch(torch, backend) if has_peer else None
        self.workspace = (None, 0)
        self.blocks = {}
        l2 = driver.l2_bytes() if driver else 1 << 16
        self.cold_bytes = 4 * l2 + (0 if is_tiny else 64 << 20)
        self.rounds = 3 if is_tiny else 25

    def size(self, full, tiny):
        return tiny if self.is_tiny else full

    def copies_of(self, size_bytes):
        """How many inputs of this size rotate, so that none is left in the L2 cache."""
        return max(2, -(-self.cold_bytes // max(size_bytes, 1)))

    # --- memory ----------------------------------------------------------------------------------

    def filled(self, dtype, count):
        """Memory with numbers in +-[0.5, 1), different in every part."""
        size = count * SIZES[dtype]
        limit = 1 << 16 if self.is_tiny else _BLOCK_BYTES
        if dtype not in self.blocks:
            self.blocks[dtype] = self.put(self.values.uniform(dtype, limit // SIZES[dtype]))
        memory = self.backend.allocate(size)
        done = 0
        while done < size:
            start = self.values.random.randrange(limit // 512) * 256
            piece = min(size - done, limit - start)
            self.backend.copy_within(memory + done, self.blocks[dtype] + start, piece)
            done += piece
        self.backend.synchronize()
        return memory

    def put(self, data):
        memory = self.backend.allocate(len(data))
        self.backend.upload(memory, data)
        return memory

    def numbers(self, dtype, numbers):
        return self.put(pack(dtype, numbers))

    def zeros(self, dtype, count):
        memory = self.backend.allocate(count * SIZES[dtype])
        self.backend.fill(memory, 0, count * SIZES[dtype])
        return memory

    def read(self, address, dtype, count):
        return self.backend.download(address, count * SIZES[dtype])

    # --- calls -----------------------------------------------------------------------------------

    def op(self, name, params):
        """A function that enqueues the op; all share one workspace, being on one stream."""
        needed = self.backend.workspace_of(name, params)
        if needed > self.workspace[1]:
            self.workspace = (self.backend.allocate(needed), needed)
        return self.backend.prepare(name, params, self.workspace)

    def peer(self, work):
        return self.torch.on_stream(work)

    def tensor_flops(self):
        """(rate, where it comes from) of the floor for products."""
        name = self.backend.describe().name.decode()
        for model, rate in _TENSOR_FLOPS.items():
            if model in name:
                return rate, f"{rate / 1e12:.0f} TFLOP/s ({model})"
        if self.torch is not None:
            rate = self.torch.matmul_rate(self.clock, Arm, self.size(8192, 64))
            return rate, "the rate of an f16 matrix product in torch"
        return 1e12, "1 TFLOP/s (no torch to measure it)"

    # --- measuring -------------------------------------------------------------------------------

    def _copy_arm(self):
        size = self.size(512 << 20, 1 << 16)
        memory = [self.backend.allocate(size) for _ in range(4)]
        for address in memory:
            self.backend.fill(address, 1, size)

        def copy(i):
            return lambda: self.backend.copy_within(memory[2 * i], memory[2 * i + 1], size)

        return Arm("copy", [copy(0), copy(1)], commands=1, bytes=2 * size)

    def setting(self, shape, sizes, size_bytes, flops, arms, baseline=None, facts=None):
        """Times arms and the copy in turn: a setting of a result, and samples on the arms."""
        if self.torch is not None:
            self.torch.wait()
        copy = self._copy_arm()
        seconds = self.size(8, 0.2)
        measure(self.clock, [copy, *arms], self.rounds, self.size(3, 1), seconds)
        rates = [copy.bytes / 1e6 / ms for ms in copy.samples]
        based = next((arm for arm in arms if arm.name == baseline), None)
        shown = [
            results.arm_result(
                arm,
                size_bytes,
                flops,
                rates,
                first=arms[0] if i > 0 else None,
                baseline=None if arm.is_peer else based,
            )
            for i, arm in enumerate(arms)
        ]
        gated = {f"gated: {arm.name}": int(arm.is_gated) for arm in arms}
        return {
            "shape": shape,
            "sizes": sizes,
            "bytes": size_bytes,
            "flops": flops,
            "facts": {**(facts or {}), **(gated if self.driver else {})},
            "bandwidthOf": f"copying on the device (read and written bytes), {self.clock.unit}",
            "bandwidth": {"copy": spread_of(rates)},
            "arms": shown,
        }
