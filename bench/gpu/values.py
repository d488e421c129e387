"""Seeded input data as bytes, by the standard library alone and fast enough for gigabytes."""

import random
import struct
from array import array

# struct codes and sizes of the dtypes; bf16 is the upper half of f32.
SIZES = {"f32": 4, "f16": 2, "bf16": 2, "i32": 4, "u16": 2, "u64": 8}


def pack(dtype, numbers):
    """Numbers as bytes of dtype; floats are rounded to nearest, ties to even."""
    numbers = list(numbers)
    if dtype == "f32":
        return array("f", numbers).tobytes()
    if dtype == "f16":
        return struct.pack(f"<{len(numbers)}e", *numbers)
    if dtype == "bf16":
        bits = array("I", array("f", numbers).tobytes())
        halves = ((b + 0x7FFF + ((b >> 16) & 1)) >> 16 for b in bits)
        return array("H", halves).tobytes()
    return array({"i32": "i", "u16": "H", "u64": "Q"}[dtype], numbers).tobytes()


def unpack(dtype, data):
    """The numbers in bytes of dtype."""
    if dtype == "f16":
        return list(struct.unpack(f"<{len(data) // 2}e", data))
    if dtype == "bf16":
        return list(array("f", array("I", (h << 16 for h in array("H", data))).tobytes()))
    return list(array({"f32": "f", "i32": "i", "u16": "H", "u64": "Q"}[dtype], data))


class Values:
    """A stream of seeded values."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.pools = {}

    def normal(self, dtype, count, deviation=1.0):
        """Normally distributed numbers, drawn from 8192 different ones."""
        key = (dtype, deviation)
        if key not in self.pools:
            numbers = [self.random.gauss(0.0, deviation) for _ in range(8192)]
            size = SIZES[dtype]
            data = pack(dtype, numbers)
            self.pools[key] = [data[i : i + size] for i in range(0, len(data), size)]
        pool = self.pools[key]
        picks = array("H", self.random.randbytes(2 * count))
        return b"".join([pool[pick & 8191] for pick in picks])

    def uniform(self, dtype, count):
        """Numbers in +-[0.5, 1), every mantissa alike, made from random bits without a loop."""
        sign_and_mantissa, exponent = {
            "f32": (0x807FFFFF, 0x3F000000),
            "f16": (0x83FF83FF, 0x38003800),
            "bf16": (0x807F807F, 0x3F003F00),
        }[dtype]
        size = count * SIZES[dtype]
        words = (size + 3) // 4
        bits = int.from_bytes(self.random.randbytes(4 * words), "little")
        keep = int.from_bytes(sign_and_mantissa.to_bytes(4, "little") * words, "little")
        add = int.from_bytes(exponent.to_bytes(4, "little") * words, "little")
        return ((bits & keep) | add).to_bytes(4 * words, "little")[:size]

    def ascending(self, count, below):
        """`count` different numbers under `below`, ascending."""
        return sorted(self.random.sample(range(below), count))

    def clustered(self, dtype, rows, dims, centres, spread):
        """Rows near one of `centres` random directions, of various lengths."""
        middle = [[self.random.gauss(0, 1) for _ in range(dims)] for _ in range(centres)]
        numbers = []
        for _ in range(rows):
            centre = middle[self.random.randrange(centres)]
            length = 0.5 + self.random.random()
            noise = unpack("f32", self.normal("f32", dims, spread))
            numbers += [length * (c + n) for c, n in zip(centre, noise, strict=True)]
        return pack(dtype, numbers)


def rope_table(positions, dims, base=10000.0):
    """cos and sine of every position and pair, [positions, dims / 2, 2] f32."""
    from math import cos, sin

    numbers = []
    for position in range(positions):
        for pair in range(dims // 2):
            angle = position * base ** (-2 * pair / dims)
            numbers += [cos(angle), sin(angle)]
    return pack("f32", numbers)
