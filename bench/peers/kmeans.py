"""One iteration of scikit-learn's KMeans (Lloyd, float32), what nearestCodeword and reduceByLabel are compared with.

An iteration is the difference of two fits that share rows and first centres and stop after few and after many
iterations, divided by the difference: copying, checking and the last assignment cancel.
"""

import sys
import time
import warnings

import serve

FEW, MANY = 2, 10  # iterations of the two fits
DEFAULTS = {"rows": 32768, "centres": 1024, "dims": 128}


def prepare(sizes):
    import numpy
    from sklearn.cluster import KMeans

    warnings.filterwarnings("ignore", message="Number of distinct clusters")
    random = numpy.random.default_rng(20250703)
    rows = random.standard_normal((sizes["rows"], sizes["dims"]), dtype=numpy.float32)
    rows /= numpy.linalg.norm(rows, axis=1, keepdims=True)
    centres = rows[: sizes["centres"]].copy()

    def seconds_of(iterations):
        model = KMeans(
            n_clusters=sizes["centres"],
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

    return {
        "KMeans lloyd f32": lambda number: (seconds_of(MANY) - seconds_of(FEW)) / (MANY - FEW)
    }


if __name__ == "__main__":
    sys.exit(serve.main(__doc__, {"sklearn": "scikit-learn", "numpy": "numpy"}, DEFAULTS, prepare))
