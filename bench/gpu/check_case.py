"""What a check is: an op, its parameters built in a scene, and what else has to hold of its outputs."""

from gpu.values import rope_table

DTYPES = ("f16", "bf16", "f32")
_ROPE_ROWS = 2048


class Case:
    """`build(scene)` returns the params; `verify(scene, params)` returns faults beyond bitwise ones;
    outputs named in `loose` are left to verify."""

    def __init__(self, name, op, build, verify=None, loose=()):
        self.name = name
        self.op = op
        self.build = build
        self.verify = verify
        self.loose = loose


def rope_of(scene, dims):
    """RoPE over half-split pairs by a table of 2048 positions."""
    return scene.rope(scene.put(rope_table(_ROPE_ROWS, dims)), _ROPE_ROWS, dims)
