"""A backend library opened through its table: device memory, copies, and calls of ops."""

import ctypes

from gpu.abi import Abi


class OpError(RuntimeError):
    """An op or a call of the table that returned an error."""


class HostArrays:
    """Arrays of structs in host memory, alive as long as their owner."""

    def __init__(self, abi):
        self.abi = abi
        self.kept = []

    def host(self, struct_type, entries):
        """Address of an array with these entries."""
        array = (struct_type * max(len(entries), 1))(*entries)
        self.kept.append(array)
        return ctypes.addressof(array)

    def host_ints(self, numbers):
        return self.host(ctypes.c_int32, list(numbers))

    def heads(self, runs_by_head):
        """(runs, n_runs, heads) of a list of runs for each KV head."""
        runs = [run for head in runs_by_head for run in head]
        heads, first = [], 0
        for head in runs_by_head:
            heads.append(self.abi.SkvHead(first, len(head), sum(run.slots for run in head), 0))
            first += len(head)
        return self.host(self.abi.SkvRun, runs), len(runs), self.host(self.abi.SkvHead, heads)


class Backend:
    """One device of one backend library."""

    def __init__(self, abi: Abi, library, threads=0):
        self.abi = abi
        self.library = ctypes.CDLL(str(library))
        entry = self.library.spindlekv_backend
        entry.restype = ctypes.POINTER(abi.SkvBackend)
        self.table = entry().contents
        if self.table.abi_version != abi.SKV_ABI_VERSION:
            raise OpError(f"{library}: ABI {self.table.abi_version}, not {abi.SKV_ABI_VERSION}")
        if self.table.struct_bytes != ctypes.sizeof(abi.SkvBackend):
            raise OpError(f"{library}: the table has {self.table.struct_bytes} bytes")
        self.name = ctypes.cast(self.table.name, ctypes.c_char_p).value.decode()
        device = ctypes.c_void_p()
        self.check(self.table.open(0, threads, ctypes.byref(device)))
        self.device = device
        self.stream = ctypes.c_void_p()
        self.check(self.table.create_stream(self.device, ctypes.byref(self.stream)))

    def check(self, status):
        if status.code != 0:
            op = ctypes.cast(status.op, ctypes.c_char_p).value or b"?"
            raise OpError(f"{self.name}: {op.decode()}: {status.message.decode()}")

    def describe(self):
        info = self.abi.SkvDeviceInfo()
        self.check(self.table.describe(self.device, ctypes.byref(info)))
        return info

    def allocate(self, size):
        """Address of `size` fresh bytes, 256-byte aligned (also where the table would give null)."""
        memory = ctypes.c_void_p()
        self.check(self.table.allocate(self.device, max(size, 1), ctypes.byref(memory)))
        return memory.value

    def release(self, address):
        self.table.release(self.device, address)

    def upload(self, address, data):
        """Copies bytes to the device."""
        if len(data) == 0:
            return
        source = (ctypes.c_char * len(data)).from_buffer_copy(data)
        kind = self.abi.SKV_COPY_TO_DEVICE
        self.check(self.table.copy(self.device, address, source, len(data), kind, self.stream))
        self.synchronize()

    def download(self, address, size):
        target = ctypes.create_string_buffer(max(size, 1))
        kind = self.abi.SKV_COPY_TO_HOST
        if size > 0:
            self.check(self.table.copy(self.device, target, address, size, kind, self.stream))
        self.synchronize()
        return target.raw[:size]

    def copy_within(self, target, source, size):
        """Enqueues a copy on the device."""
        kind = self.abi.SKV_COPY_ON_DEVICE
        self.check(self.table.copy(self.device, target, source, size, kind, self.stream))

    def fill(self, address, value, size):
        self.check(self.table.fill(self.device, address, value, size, self.stream))

    def synchronize(self):
        self.check(self.table.synchronize(self.device, self.stream))

    def workspace_of(self, op, params):
        size = ctypes.c_size_t()
        number = self.abi.constants[f"SKV_OP_{op}"]
        self.check(
            self.table.workspace_bytes(
                self.device, number, ctypes.byref(params), ctypes.byref(size)
            )
        )
        return size.value

    def prepare(self, op, params, workspace=None):
        """A function that enqueues the op; `workspace`: (address, bytes) to share between calls."""
        if workspace is None:
            needed = self.workspace_of(op, params)
            workspace = (self.allocate(needed), needed)
        call, device, check = getattr(self.table, op), self.device, self.check
        space = self.abi.SkvExec(self.stream, workspace[0], workspace[1], None)
        space_at, params_at = ctypes.byref(space), ctypes.byref(params)

        def enqueue():
            status = call(device, space_at, params_at)
            if status.code != 0:
                check(status)

        enqueue.workspace = workspace
        return enqueue

    def run(self, op, params):
        """The op, to its end."""
        enqueue = self.prepare(op, params)
        enqueue()
        self.synchronize()
        self.release(enqueue.workspace[0])
