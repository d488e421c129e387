"""Builds the CPU and the CUDA backend from the tree for one architecture, with CMake alone (no Node)."""

import os
import shutil
import subprocess


def find_nvcc():
    """Path of nvcc, or None."""
    homes = [os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH")] + ["/usr/local/cuda"]
    candidates = [shutil.which("nvcc")] + [f"{home}/bin/nvcc" for home in homes if home]
    return next((path for path in candidates if path and os.access(path, os.X_OK)), None)


def nvcc_version(nvcc):
    printed = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    return next((word for word in printed.split() if word.startswith("V")), "?")


def build(root, architecture, log):
    """The folder with libspindlekv_cpu.so and libspindlekv_cuda.so."""
    nvcc = find_nvcc()
    if nvcc is None:
        raise RuntimeError("expected nvcc on PATH, in CUDA_HOME or /usr/local/cuda, found none")
    folder, output = root / "build" / "cmake" / "gpu-all", root / "build" / "gpu-all"
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    configure = [
        "cmake", "-S", str(root), "-B", str(folder), *generator,
        "-DSPINDLEKV_ADDON=OFF", "-DSPINDLEKV_CUDA=ON", "-DSPINDLEKV_SIMT=OFF",
        f"-DSPINDLEKV_CUDA_ARCHITECTURES={architecture}", f"-DCMAKE_CUDA_COMPILER={nvcc}",
        f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={output}",
    ]  # fmt: skip
    targets = ["--target", "spindlekv_cpu", "--target", "spindlekv_cuda"]
    compile_all = ["cmake", "--build", str(folder), "--parallel", str(os.cpu_count()), *targets]
    for command in (configure, compile_all):
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"`{' '.join(command)}` ended with {done.returncode}")
    return output
