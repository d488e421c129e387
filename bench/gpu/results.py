"""Result files in the form of bench/harness/result.ts, so that `npm run bench -- report` shows them."""

import json
import os
import platform
import shutil
import subprocess
from datetime import datetime, timezone
from pathlib import Path

from gpu.timing import spread_of

SUITE = "gpu"


def _git(root, *words):
    """What git prints, or None: the tree may be an unpacked archive, and git not installed."""
    if shutil.which("git") is None:
        return None
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def environment(root, backend, details):
    """Where and from what a result comes. `details`: further words on device and tools."""
    info = backend.describe()
    changed = _git(root, "status", "--porcelain", "--", "core", "cuda", "cpu", "bench")
    system = platform.uname()
    return {
        "kind": backend.name,
        "device": info.name.decode(),
        "detail": ", ".join([info.detail.decode(), f"{info.threads} SMs", *details]),
        "threads": info.threads,
        "os": f"{system.system} {system.release} {system.machine}",
        "node": None,
        "memoryBytes": info.memory_total,
        "commit": os.environ.get("SPINDLEKV_COMMIT")
        or _git(root, "rev-parse", "HEAD")
        or "unknown",
        "modified": bool(changed),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "load": os.getloadavg()[0],
    }


def arm_result(arm, size_bytes, flops, copy_samples, first=None, baseline=None):
    """One arm; `copy_samples` are GB/s of the same rounds."""
    used = size_bytes if arm.bytes is None else arm.bytes
    times = spread_of(arm.samples)
    rates = [used / 1e6 / ms for ms in arm.samples]
    shares = [rate / copied for rate, copied in zip(rates, copy_samples, strict=True)]
    result = {
        "name": arm.name,
        "milliseconds": times,
        "gigabytesPerSecond": used / 1e6 / times["median"],
        "gigaflopsPerSecond": flops / 1e6 / times["median"],
        "share": spread_of(shares),
    }
    if first is not None:
        pairs = zip(arm.samples, first.samples, strict=True)
        result["ratioToFirst"] = spread_of([own / other for own, other in pairs])
    if arm.is_peer:
        result["peer"] = "torch"
    if arm.bytes is not None:
        result["bytes"] = arm.bytes
    if baseline is not None:
        result["baselineMilliseconds"] = spread_of(baseline.samples)
    return result


def goal(what, asked, measured, met):
    return {"what": what, "asked": asked, "measured": measured, "met": bool(met)}


def at_least(what, limit, measured):
    return goal(what, f">= {limit:g}", measured, measured >= limit)


def at_most(what, limit, measured):
    return goal(what, f"<= {limit:g}", measured, measured <= limit)


def faster_than_peer(what, limit, own, peers):
    """At least `limit` times faster than the fastest of the peers' times, if there is one."""
    if peers:
        return at_least(what, limit, min(peers) / own)
    missing = {"measured": None, "met": None, "because": "torch is not installed"}
    return {"what": what, "asked": f">= {limit:g}", **missing}


def write(folder, result):
    """Writes <folder>/gpu-<name>.json at once, whole or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{SUITE}-{result['name']}.json"
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(result, indent=2) + "\n")
    unfinished.rename(path)
    return path
