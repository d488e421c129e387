"""The parts of a run, each in a process of its own: checks of an op, timed jobs, sanitizer runs."""

from gpu import rows_attention, rows_codebook, rows_selection

# In the order of the goals. Name: job, longest time in seconds.
TIMED = {
    "decode-4k": (rows_attention.decode(4096, 130), 45),
    "decode-8k": (rows_attention.decode(8192, 200), 45),
    "decode-32k": (rows_attention.decode(32768, 300), 45),
    "decode-128k": (rows_attention.decode(131072, 400), 60),
    "spindlekv-32k": (rows_attention.spindlekv, 75),
    "window-32k": (rows_selection.window_scores(32768, 150), 45),
    "window-128k": (rows_selection.window_scores(131072, 200), 60),
    "topk-32k": (rows_selection.topk(32768, 700), 45),
    "topk-128k": (rows_selection.topk(131072, 2500), 60),
    "compact": (rows_selection.compact, 60),
    "kmeans": (rows_codebook.kmeans, 75),
    "shared-prefix": (rows_attention.shared_prefix, 60),
    "codebook-cover": (rows_codebook.cover, 60),
}
CHECK_SECONDS = 60
SANITIZER_SECONDS = 90
SANITIZERS = ("memcheck", "racecheck")
