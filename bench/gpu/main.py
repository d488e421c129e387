"""bench/gpu-all: builds, checks and times the CUDA backend, part by part. See --help."""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from gpu import building, correctness, results
from gpu.abi import Abi
from gpu.backend import Backend
from gpu.cuda_driver import CudaDriver, DriverError
from gpu.parts import CHECK_SECONDS, SANITIZER_SECONDS, SANITIZERS, TIMED
from gpu.peers import import_torch
from gpu.workbench import Workbench

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "bench" / "gpu-all"


def arguments():
    parser = argparse.ArgumentParser(
        prog="bench/gpu-all",
        description="Measures the GPU rows of the benchmarks on device 0: builds the CUDA backend for it, "
        "compares every op with the CPU backend and with float64, then times each row beside the copy "
        "bandwidth and torch. Needs nvcc, cmake and python3; uses torch and compute-sanitizer if there.",
    )
    parser.add_argument("--out", type=Path, help="folder of the results; bench/results/<device>")
    parser.add_argument(
        "--only", default="", help="parts to run, by the start of their names, with commas"
    )
    parser.add_argument("--budget", type=float, default=480, help="seconds for everything (480)")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="everything at small sizes on the SIMT host library, without a GPU; no results to believe",
    )
    parser.add_argument("--small", action="store_true", help="one check an op instead of all")
    parser.add_argument(
        "--libraries", type=Path, help="folder of built backends; nothing is built then"
    )
    parser.add_argument("--part", help=argparse.SUPPRESS)
    return parser.parse_args()


# --- the parent -----------------------------------------------------------------------------------


class Run:
    """Starts the parts one after the other and keeps what came of them."""

    def __init__(self, options, libraries, out, log):
        self.options, self.libraries, self.out, self.log = options, libraries, out, log
        self.end = time.monotonic() + options.budget
        self.parts = []

    def is_wanted(self, name):
        wanted = [word for word in self.options.only.split(",") if word]
        return not wanted or any(name.startswith(word) for word in wanted)

    def note(self, name, status, seconds, detail=""):
        self.parts.append(
            {"part": name, "status": status, "seconds": round(seconds, 1), "detail": detail}
        )
        print(f"{name}: {status} ({seconds:.1f} s){' - ' + detail if detail else ''}", flush=True)
        state = {"parts": self.parts, "dryRun": self.options.dry_run}
        (self.out / "gpu-all.json").write_text(json.dumps(state, indent=2) + "\n")

    def start(self, name, limit, before=()):
        """A part in a process group of its own, ended with all it started when its time is over."""
        if not self.is_wanted(name):
            return
        limit = min(limit, self.end - time.monotonic())
        if limit < 5:
            self.note(name, "left out", 0, "the budget is spent")
            return
        command = [*before, sys.executable, str(PROGRAM), "--part", name, "--out", str(self.out)]
        command += ["--libraries", str(self.libraries)]
        command += [
            f"--{flag}"
            for flag in ("dry-run", "small")
            if getattr(self.options, flag.replace("-", "_"))
        ]
        start = time.monotonic()
        log = (self.log / f"{name.replace(':', '-')}.log").open("w+")
        child = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, cwd=ROOT
        )
        try:
            code = child.wait(limit)
            status = {0: "ok", 3: "skipped"}.get(code, "failed")
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            status = "out of time"
        log.seek(0)
        lines = log.read().strip().splitlines()
        log.close()
        detail = lines[-1] if lines else ""
        if status in ("failed", "out of time"):
            for line in lines[-12:]:
                print(f"    {line}")
        self.note(name, status, time.monotonic() - start, detail)


def device_folder(name):
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def summary(out, parts, is_dry_run):
    """The goals of all results, and what went wrong, as text."""
    lines = []
    if is_dry_run:
        lines += ["Dry run on the SIMT host: everything was called, no number means anything.", ""]
    for path in sorted(out.glob(f"{results.SUITE}-*.json")):
        result = json.loads(path.read_text())
        if result.get("suite") != results.SUITE:
            continue
        if not any(" commit " in line for line in lines):
            place = result["environment"]
            lines += [f"{place['device']}, {place['detail']}, commit {place['commit'][:12]}", ""]
        for goal in result["goals"]:
            if goal["measured"] is None:
                lines.append(f"{result['name']:15} {goal['what']:62} {goal['because']}")
                continue
            state = "met" if goal["met"] else "missed"
            lines.append(
                f"{result['name']:15} {goal['what']:62} {goal['asked']:>8} {goal['measured']:9.3f}  {state}"
            )
    wrong = [part for part in parts if part["status"] not in ("ok", "skipped")]
    lines += ["", f"{len(parts)} parts, {len(wrong)} not ok"]
    lines += [f"{part['part']}: {part['status']}: {part['detail']}" for part in wrong]
    return "\n".join(lines) + "\n"


def parent(options):
    libraries, log = options.libraries, ROOT / "build" / "bench" / "gpu-all-logs"
    log.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    if options.dry_run:
        libraries = libraries or ROOT / "build" / "Release"
        if not (libraries / "libspindlekv_simt.so").exists():
            print(
                f"gpu-all: expected libspindlekv_simt.so in {libraries}; `npm run build` makes it"
            )
            return 2
        out = options.out or ROOT / "build" / "bench" / "gpu-dry-run"
    else:
        try:
            driver = CudaDriver()
        except (DriverError, OSError) as error:
            print(f"gpu-all: no GPU: {error}. `bench/gpu-all --dry-run` needs none.")
            return 2
        if libraries is None:
            print(f"building for compute capability {driver.compute_capability()}", flush=True)
            with (log / "build.log").open("w") as file:
                try:
                    libraries = building.build(ROOT, driver.compute_capability(), file)
                except RuntimeError as error:
                    print(f"gpu-all: {error}; the log is {log / 'build.log'}")
                    print((log / "build.log").read_text()[-4000:])
                    return 1
        out = options.out or ROOT / "bench" / "results" / device_folder(driver.name())
    libraries, out = libraries.resolve(), out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob(f"{results.SUITE}-*.json"):
        old.unlink()
    run = Run(options, libraries, out, log)
    run.end -= time.monotonic() - started
    run.start("layout", 60)
    for op in Abi(ROOT / "core").ops:
        run.start(f"check:{op}", CHECK_SECONDS)
    for name, (_, limit) in TIMED.items():
        run.start(f"time:{name}", limit)
    sanitizer = None if options.dry_run else shutil.which("compute-sanitizer")
    for tool in SANITIZERS:
        if sanitizer:
            before = [sanitizer, "--tool", tool, "--error-exitcode", "9", "--print-limit", "5"]
            run.start(f"sanitize:{tool}", SANITIZER_SECONDS, before)
        elif run.is_wanted(f"sanitize:{tool}"):
            run.note(f"sanitize:{tool}", "skipped", 0, "no compute-sanitizer here")
    text = summary(out, run.parts, options.dry_run)
    (out / "gpu-all.txt").write_text(text)
    print(f"\n{text}\nresults: {out}, {time.monotonic() - started:.0f} s in all")
    return 1 if any(part["status"] not in ("ok", "skipped") for part in run.parts) else 0


# --- the children ---------------------------------------------------------------------------------


def open_backends(options):
    """(tested, the CPU backend)."""
    abi = Abi(ROOT / "core")
    kind = "simt" if options.dry_run else "cuda"
    tested = Backend(abi, options.libraries / f"libspindlekv_{kind}.so")
    return tested, Backend(abi, options.libraries / "libspindlekv_cpu.so")


def check_layout():
    compiler = next((name for name in ("g++", "c++", "clang++") if shutil.which(name)), None)
    if compiler is None:
        print("no C++ compiler to ask")
        return 3
    abi = Abi(ROOT / "core")
    wrong = abi.layout_check(compiler)
    for line in wrong:
        print(line)
    print(
        f"{len(abi.structs)} structs laid out as C++ has them"
        if not wrong
        else f"{len(wrong)} differ"
    )
    return 1 if wrong else 0


def check_cases(options, cases):
    tested, trusted = open_backends(options)
    failed = 0
    for case in cases:
        try:
            faults = correctness.compare(case, tested, trusted)
        except Exception as error:  # noqa: BLE001 - the next cases still count
            faults = [repr(error)]
        for fault in faults:
            print(f"{case.op}, {case.name}: {fault}")
        failed += bool(faults)
    print(f"{len(cases) - failed} of {len(cases)} cases agree")
    return 1 if failed else 0


def is_checked(options, op):
    """False when a part that checked this op is known not to have passed."""
    state = options.out / "gpu-all.json"
    if not state.exists():
        return True
    statuses = {part["part"]: part["status"] for part in json.loads(state.read_text())["parts"]}
    return statuses.get(f"check:{op}", "ok") == "ok"


def time_job(options, name):
    tested, trusted = open_backends(options)
    driver = None if options.dry_run else CudaDriver()
    bench = Workbench(tested, driver, trusted, options.dry_run)
    details = [f"Python {sys.version.split()[0]}"]
    torch = import_torch()
    details.append(f"torch {torch.__version__}" if torch is not None else "no torch")
    if driver:
        facts = driver.facts()
        details.append(f"up to {facts['clockMHz']:.0f} MHz, memory {facts['memoryMHz']:.0f} MHz")
        if building.find_nvcc():
            details.append(f"nvcc {building.nvcc_version(building.find_nvcc())}")
    result = TIMED[name][0](bench)
    op = re.sub(r"[A-Z]", lambda letter: "_" + letter.group().lower(), result["op"])
    if not is_checked(options, op):
        for goal in result["goals"]:
            goal["met"] = False
            goal["what"] += f" (but {op} failed its checks)"
    results.write(
        options.out,
        {
            "suite": results.SUITE,
            "name": name,
            "quick": options.dry_run,
            "environment": results.environment(ROOT, tested, details),
            **({"peers": {"torch": torch.__version__}} if torch is not None else {}),
            **result,
        },
    )
    measured = [goal for goal in result["goals"] if goal["measured"] is not None]
    texts = [f"{goal['what']} {goal['measured']:.3f}" for goal in measured]
    print("; ".join(texts) or "no goal")
    return 0


def child(options):
    kind, _, name = options.part.partition(":")
    if kind == "layout":
        return check_layout()
    if kind == "check":
        cases = correctness.small_cases() if options.small else correctness.all_cases()
        return check_cases(options, [case for case in cases if case.op == name])
    if kind == "sanitize":
        return check_cases(options, correctness.small_cases())
    return time_job(options, name)


def main():
    options = arguments()
    if options.part:
        return child(options)
    return parent(options)
