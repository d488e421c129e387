"""Bounds of docs/tolerance.md that attention results are held to. Every number is from that page."""

from math import floor, log2, sqrt

U32 = 2.0**-24
ROUNDOFF = {"f32": 2.0**-24, "f16": 2.0**-11, "bf16": 2.0**-8}
_SMALLEST = {"f32": -149, "f16": -24, "bf16": -133}
_MANTISSA = {"f32": 23, "f16": 10, "bf16": 7}
EXP_RELATIVE = 2e-7


def ulp(dtype, value):
    """Distance of neighbouring values of dtype at `value`."""
    value = abs(value)
    if value == 0:
        return 2.0 ** _SMALLEST[dtype]
    return 2.0 ** max(floor(log2(value)) - _MANTISSA[dtype], _SMALLEST[dtype])


def gamma(n):
    return n * U32 / (1 - n * U32)


# Times the error of the naive implementation in the same dtype.
NAIVE_FACTOR = 2


class LogitScale:
    """What one case's logits allow: slots, dims, largest scale * |q| |k| and largest |beta|."""

    def __init__(self, slots, head_dim, largest_term, largest_beta):
        self.slots = slots
        self.logits = gamma(head_dim + 6) * (largest_term + largest_beta)
        differences = 2 * U32 * (largest_term + largest_beta)
        self.probability = 2 * (self.logits + differences + EXP_RELATIVE) + gamma(slots + 4)

    def output(self, dtype, out_dtype, largest_output, largest_value):
        """The floor: what any correct order of operations may cost."""
        weights = 0.0 if dtype == "f32" else 2 * ROUNDOFF[dtype] * largest_value
        return (
            2 * ulp(out_dtype, largest_output)
            + weights
            + self.probability * largest_value
            + self.slots * ulp("f32", 0)
        )

    def lse(self, value):
        return self.logits + self.probability + 8 * ulp("f32", value)

    def score(self, value, count):
        return value * (self.probability + gamma(count)) + count * 2.0**-120


def length(row):
    return sqrt(sum(x * x for x in row))
