"""The few calls of the CUDA driver that timing needs, without torch: events, and a gate on a stream.

The driver's primary context is the one that the CUDA runtime inside the backend and torch use, so their
streams and memory are this module's too.
"""

import ctypes
import threading

# Numbers of CUdevice_attribute.
_CLOCK_KHZ, _MEMORY_KHZ, _L2_BYTES, _MAJOR, _MINOR = 13, 36, 38, 75, 76
_WAIT_GREATER_OR_EQUAL = 0
_NOT_READY = 600
# Longest that a gate may stay closed: an op that waits for the stream would else never return.
GATE_SECONDS = 0.3


class DriverError(RuntimeError):
    """A driver call that failed."""


class CudaDriver:
    """Device 0 through libcuda."""

    def __init__(self):
        self.library = ctypes.CDLL("libcuda.so.1")
        self._call("cuInit", 0)
        self.ordinal = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(self.ordinal), 0)
        context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self.ordinal)
        self._call("cuCtxSetCurrent", context)

    def _call(self, name, *arguments):
        code = getattr(self.library, name)(*arguments)
        if code != 0:
            text = ctypes.c_char_p()
            self.library.cuGetErrorName(code, ctypes.byref(text))
            raise DriverError(f"{name}: {(text.value or b'?').decode()}")

    def _attribute(self, number):
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), number, self.ordinal)
        return value.value

    def name(self):
        text = ctypes.create_string_buffer(128)
        self._call("cuDeviceGetName", text, 128, self.ordinal)
        return text.value.decode()

    def compute_capability(self):
        """80, 90 ..."""
        return 10 * self._attribute(_MAJOR) + self._attribute(_MINOR)

    def facts(self):
        """Clocks in MHz."""
        return {
            "clockMHz": self._attribute(_CLOCK_KHZ) / 1000,
            "memoryMHz": self._attribute(_MEMORY_KHZ) / 1000,
        }

    def l2_bytes(self):
        return self._attribute(_L2_BYTES)

    def event(self):
        handle = ctypes.c_void_p()
        self._call("cuEventCreate", ctypes.byref(handle), 0)
        return handle

    def record(self, event, stream):
        self._call("cuEventRecord", event, stream)

    def wait_for(self, event):
        self._call("cuEventSynchronize", event)

    def milliseconds(self, start, end):
        value = ctypes.c_float()
        self._call("cuEventElapsedTime", ctypes.byref(value), start, end)
        return value.value

    def make_gate(self, stream):
        """A gate that was seen to hold `stream` back and let it go; None where there is no such thing."""
        try:
            gate = Gate(self)
            gate.close(stream)
        except (DriverError, AttributeError):
            return None
        event = self.event()
        self.record(event, stream)
        was_closed = self.library.cuEventQuery(event) == _NOT_READY
        is_free = gate.open()
        self.wait_for(event)
        return gate if was_closed and is_free else None


class Gate:
    """Holds back a stream until the host has enqueued everything, so that the host's own time stays
    out of what the events see. Opens by itself after GATE_SECONDS."""

    def __init__(self, driver):
        self.driver = driver
        memory = ctypes.c_void_p()
        driver._call("cuMemHostAlloc", ctypes.byref(memory), ctypes.c_size_t(64), 2)
        address = ctypes.c_uint64()
        driver._call("cuMemHostGetDevicePointer_v2", ctypes.byref(address), memory, 0)
        self.flag = ctypes.cast(memory, ctypes.POINTER(ctypes.c_uint32))
        self.flag[0] = 0
        self.address = address
        self.turn = 0
        self.wait = driver.library.cuStreamWaitValue32_v2
        self.timer = None
        self.was_forced = False

    def close(self, stream):
        """Everything enqueued on the stream from now on waits for open()."""
        self.turn += 1
        self.was_forced = False
        code = self.wait(stream, self.address, ctypes.c_uint32(self.turn), _WAIT_GREATER_OR_EQUAL)
        if code != 0:
            raise DriverError(f"cuStreamWaitValue32: error {code}")
        self.timer = threading.Timer(GATE_SECONDS, self._force)
        self.timer.start()

    def _force(self):
        self.was_forced = True
        self.flag[0] = self.turn

    def open(self):
        """Lets the stream go, if it is still held; False when the gate had to open by itself."""
        self.timer.cancel()
        self.flag[0] = self.turn
        return not self.was_forced
