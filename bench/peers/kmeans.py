"""Seconds of one iteration of scikit-learn's KMeans (Lloyd, float32), what nearestCodeword and
reduceByLabel are compared with.

    kmeans.py [--rows N] [--centres N] [--dims N] [--threads N] [--repeats N]

An iteration is the difference of two fits that share rows and first centres and stop after few and
after many iterations, divided by the difference: copying, checking and the last assignment cancel.
Prints one line of JSON and writes nothing. Exit status 3: scikit-learn is not installed.
"""

import argparse
import json
import os
import statistics
import sys
import time
import warnings

FEW, MANY = 2, 10  # iterations of the two fits


def options():
    parser = argparse.ArgumentParser(description="scikit-learn's k-means iteration")
    parser.add_argument("--rows", type=int, default=32768)
    parser.add_argument("--centres", type=int, default=1024)
    parser.add_argument("--dims", type=int, default=128)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=7)
    return parser.parse_args()


def main():
    chosen = options()
    # Read when the libraries load: OpenMP runs the iteration, BLAS the products inside it.
    os.environ["OMP_NUM_THREADS"] = str(chosen.threads)
    try:
        import numpy
        import sklearn
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        print(f"kmeans.py: expected scikit-learn, got: {error}", file=sys.stderr)
        print("kmeans.py: install it with: python -m pip install scikit-learn", file=sys.stderr)
        return 3
    warnings.filterwarnings("ignore", message="Number of distinct clusters")

    random = numpy.random.default_rng(20250703)
    rows = random.standard_normal((chosen.rows, chosen.dims), dtype=numpy.float32)
    rows /= numpy.linalg.norm(rows, axis=1, keepdims=True)
    centres = rows[: chosen.centres].copy()

    def seconds_of(iterations):
        model = KMeans(
            n_clusters=chosen.centres,
            init=centres,
            n_init=1,
            max_iter=iterations,
            tol=0.0,
            algorithm="lloyd",
        )
        start = time.perf_counter()
        model.fit(rows)
        seconds = time.perf_counter() - start
        if model.n_iter_ != iterations:
            raise SystemExit(
                f"kmeans.py: expected {iterations} iterations, got {model.n_iter_}: too few rows"
            )
        return seconds

    with threadpool_limits(limits=chosen.threads):
        seconds_of(FEW)  # warm-up
        samples = [
            (seconds_of(MANY) - seconds_of(FEW)) / (MANY - FEW) for _ in range(chosen.repeats)
        ]
    low, _, high = (
        statistics.quantiles(samples, n=4, method="inclusive") if len(samples) > 1 else samples * 3
    )
    print(
        json.dumps(
            {
                "peer": "scikit-learn KMeans, lloyd, float32",
                "version": sklearn.__version__,
                "rows": chosen.rows,
                "centres": chosen.centres,
                "dims": chosen.dims,
                "threads": chosen.threads,
                "repeats": chosen.repeats,
                "unit": "seconds per iteration",
                "median": statistics.median(samples),
                "quartiles": [low, high],
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
