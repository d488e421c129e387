"""How long work on a stream takes: arms in turn, cold inputs, medians and quartiles.

On a GPU a sample is the time between two events around a few calls on rotated inputs, started together
behind a gate, so that neither launches nor Python count. On the SIMT host it is wall-clock time.
"""

import math
import statistics
import time

# What may wait behind a closed gate. Commands: a stream's queue has room for 1024. Steps: an op
# uploads its tables through a ring of 8 areas (cuda/common/staging.h), and waits when all are taken.
GATED_COMMANDS = 500
GATED_STEPS = 7
COMMANDS_A_STEP = 8


def spread_of(values):
    """Median and quartiles, in the form of bench/harness/statistics.ts."""
    values = sorted(values)

    def quantile(share):
        at = share * (len(values) - 1)
        low = math.floor(at)
        high = min(low + 1, len(values) - 1)
        return values[low] + (values[high] - values[low]) * (at - low)

    return {
        "median": quantile(0.5),
        "low": quantile(0.25),
        "high": quantile(0.75),
        "count": len(values),
    }


class Arm:
    """One way of doing the work. `runs`: the same on different memory, called in turn; each a function
    or a list of functions, its steps. `commands` is what a step puts on the stream, at most."""

    def __init__(self, name, runs, commands=COMMANDS_A_STEP, is_peer=False, bytes=None):
        self.name = name
        self.runs = [run if isinstance(run, list) else [run] for run in runs]
        self.commands = commands
        self.is_peer = is_peer
        self.bytes = bytes
        self.samples = []
        self.calls = 1
        self.next = 0
        self.is_gated = True

    def steps(self):
        """The steps of the next call."""
        self.next += 1
        return self.runs[(self.next - 1) % len(self.runs)]

    def enqueue(self):
        for step in self.steps():
            step()


class CudaClock:
    """Time on the device's stream."""

    unit = "device time between events"

    def __init__(self, driver, backend):
        self.driver = driver
        self.backend = backend
        self.start, self.end = driver.event(), driver.event()
        self.gate = driver.make_gate(backend.stream)

    def sample(self, arm):
        """Milliseconds a call: the sum over groups of steps that fit behind a gate."""
        steps = [step for _ in range(arm.calls) for step in arm.steps()]
        if self.gate is None or not arm.is_gated or arm.commands > GATED_COMMANDS:
            arm.is_gated = False
            arm.enqueue()  # so that the device is busy while the host gets to the first step
            return self._timed(steps) / arm.calls
        size = min(GATED_STEPS, GATED_COMMANDS // arm.commands)
        total = 0.0
        for first in range(0, len(steps), size):
            self.gate.close(self.backend.stream)
            try:
                total += self._timed(steps[first : first + size], self.gate)
            finally:
                arm.is_gated = arm.is_gated and self.gate.open()
        return total / arm.calls

    def _timed(self, steps, gate=None):
        stream = self.backend.stream
        self.driver.record(self.start, stream)
        for step in steps:
            step()
        self.driver.record(self.end, stream)
        if gate is not None:
            gate.open()
        self.driver.wait_for(self.end)
        return self.driver.milliseconds(self.start, self.end)


class HostClock:
    """Wall-clock time of work that has ended when the call returns."""

    unit = "wall-clock time on the host"

    def __init__(self, backend):
        self.backend = backend

    def sample(self, arm):
        start = time.perf_counter()
        for _ in range(arm.calls):
            arm.enqueue()
        self.backend.synchronize()
        return (time.perf_counter() - start) * 1000 / arm.calls


# A sample lasts about this long, where one call is shorter.
SAMPLE_MS = 1.5


def measure(clock, arms, rounds, warm_up, seconds):
    """Fills arm.samples (milliseconds a call), one sample of every arm a round, at most `seconds`
    long but at least three rounds."""
    for arm in arms:
        # Ungated at first: loading a kernel or allocating memory may wait for the whole device.
        arm.samples, arm.calls, arm.is_gated = [], 1, False
        for _ in range(warm_up):
            clock.sample(arm)
        arm.is_gated = True
        taken = statistics.median(clock.sample(arm) for _ in range(3))
        arm.calls = max(1, min(32, round(SAMPLE_MS / max(taken, 1e-4))))
    end = time.monotonic() + seconds
    for done in range(rounds):
        for arm in arms:
            arm.samples.append(clock.sample(arm))
        if done >= 2 and time.monotonic() > end:
            break
