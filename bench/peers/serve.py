"""How a peer is timed: side by side with ours, one call at a time.

A script of this folder gives main() its sizes with their defaults and a function that sets them up:

    prepare(sizes) -> {name of an arm: function of the call's number}

The function does the work once; it may return the seconds, where not all of its time counts. With --serve the
script answers requests on stdin, a line each, by a line of JSON on stdout:

    (at the start)    {"versions": {package: version}} or {"missing": package}
    setup {sizes}     {"arms": [names]}
    run <arm>         {"seconds": s}

so that the caller alternates between its own calls and these, and this process sleeps while the other works.
Without --serve it times --rounds calls of each arm and prints one JSON object.

The threads of OpenMP must not wait actively between calls, or they would slow down the other side: the environment
below says so, and is set before the packages are loaded.
"""

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time

MISSING = 3  # exit status
WARM_UP = 2


def _limit_threads(threads):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ["GOMP_SPINCOUNT"] = "0"
    os.environ["KMP_BLOCKTIME"] = "0"


def _say(value):
    print(json.dumps(value), flush=True)


def _missing(needed):
    for module, package in needed.items():
        try:
            importlib.import_module(module)
        except ImportError:
            return package
    return None


def _versions(needed):
    versions = {package: importlib.metadata.version(package) for package in needed.values()}
    return {"Python": platform.python_version(), **versions}


def _seconds(call, number):
    start = time.perf_counter()
    measured = call(number)
    return time.perf_counter() - start if measured is None else measured


def _serve(prepare):
    arms, calls = {}, 0
    for line in sys.stdin:
        request, _, rest = line.strip().partition(" ")
        if request == "setup":
            arms = prepare(json.loads(rest))
            _say({"arms": list(arms)})
        elif request == "run":
            _say({"seconds": _seconds(arms[rest], calls)})
            calls += 1
        else:
            raise SystemExit(f"expected setup or run for request, got {request}")


def _time_alone(prepare, sizes, rounds):
    result = {}
    for name, call in prepare(sizes).items():
        for number in range(WARM_UP):
            call(number)
        samples = [1000 * _seconds(call, number) for number in range(rounds)]
        low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
        result[name] = {"median": median, "low": low, "high": high, "count": rounds}
    return result


def main(description, needed, defaults, prepare):
    """needed: {module: package}; defaults: {size: number or text}."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--serve", action="store_true", help="answer requests on stdin")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=10)
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    chosen = vars(parser.parse_args())
    _limit_threads(chosen["threads"])
    package = _missing(needed)
    if package is not None:
        _say({"missing": package})
        return MISSING
    if "torch" in needed:
        importlib.import_module("torch").set_num_threads(chosen["threads"])
    if chosen["serve"]:
        _say({"versions": _versions(needed)})
        _serve(lambda sizes: prepare({**defaults, **sizes}))
    else:
        sizes = {name: chosen[name] for name in defaults}
        result = {"versions": _versions(needed), "sizes": sizes, "threads": chosen["threads"]}
        _say({**result, "milliseconds": _time_alone(prepare, sizes, max(2, chosen["rounds"]))})
    return 0
