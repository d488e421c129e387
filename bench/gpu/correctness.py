"""Every op on two backends with the same inputs: outputs agree bit for bit (any NaN equals any NaN),
but for those that a case verifies itself."""

from gpu import checks_attention, checks_codebook, checks_scores, checks_slots, checks_stats
from gpu.scene import Scene
from gpu.values import SIZES, Values, unpack


def all_cases():
    modules = (checks_attention, checks_slots, checks_scores, checks_codebook, checks_stats)
    return [case for module in modules for case in module.cases()]


def small_cases():
    """One case an op, for the sanitizers and for a first look."""
    seen, cases = set(), []
    for case in all_cases():
        if case.op not in seen:
            seen.add(case.op)
            cases.append(case)
    return cases


def _same_bits(dtype, one, other):
    """First index where the outputs differ, NaN being equal to NaN; None when nowhere."""
    if one == other:
        return None
    size = SIZES[dtype]
    pairs = zip(unpack(dtype, one), unpack(dtype, other), strict=True)
    for i, (a, b) in enumerate(pairs):
        if one[i * size : (i + 1) * size] == other[i * size : (i + 1) * size]:
            continue
        if not (a != a and b != b):
            return i
    return None


def _run(case, backend, seed):
    scene = Scene(backend, Values(seed))
    params = case.build(scene)
    backend.run(case.op, params)
    faults = (
        [f"{backend.name}: {fault}" for fault in case.verify(scene, params)] if case.verify else []
    )
    return scene, {name: scene.read(name) for name in scene.outputs}, faults


def compare(case, tested, trusted, seed=7):
    """Faults of a case on `tested`; `trusted` is the CPU backend, None when there is only one."""
    scene, outputs, faults = _run(case, tested, seed)
    if trusted is not None:
        other_scene, wanted, own_faults = _run(case, trusted, seed)
        faults += own_faults
        for name, data in outputs.items():
            dtype = scene.outputs[name][1]
            if name in case.loose:
                faults += _loose_fault(case, scene, name, data, wanted[name])
                continue
            at = _same_bits(dtype, data, wanted[name])
            if at is not None:
                a, b = (unpack(dtype, side)[at] for side in (data, wanted[name]))
                faults.append(f"{name}[{at}] is {a!r} on {tested.name}, {b!r} on {trusted.name}")
        other_scene.close()
    scene.close()
    return faults


def _loose_fault(case, scene, name, data, wanted):
    """Outputs that are equal in part (codebooks up to their count) or nearly (entropy, lse)."""
    dtype = scene.outputs[name][1]
    if case.op == "build_codebook":
        count = scene.numbers_of(f"{name.split()[0]} count")[0]
        rows = scene.outputs[f"{name.split()[0]} labels"][2]
        size = len(data) // rows * count
        same = data[:size] == wanted[:size]
        return [] if same else [f"{name}: the first {count} rows differ"]
    if case.op == "window_scores":
        pairs = zip(unpack(dtype, data), unpack(dtype, wanted), strict=True)
        wrong = [(a, b) for a, b in pairs if not abs(a - b) <= 1e-4 * max(1.0, abs(b))]
        return [f"{name} is {wrong[0][0]!r}, on the CPU {wrong[0][1]!r}"] if wrong else []
    return []  # attention: both were compared with float64
