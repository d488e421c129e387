"""float64 definitions of a few ops (core/ops.h), in plain loops, for inputs given as lists of numbers."""

from math import exp, inf, log


def rotate(row, table, position, dims):
    """A row after RoPE, half-split pairs (neox)."""
    turned = list(row)
    half = dims // 2
    for pair in range(half):
        cosine, sine = table[(position * half + pair) * 2 : (position * half + pair) * 2 + 2]
        x, y = row[pair], row[pair + half]
        turned[pair], turned[pair + half] = x * cosine - y * sine, y * cosine + x * sine
    return turned


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def exact(row):
    return row


def probabilities(queries, slots, scale, positions_of_queries, stored=exact):
    """For each query (weights, their sum, lse) over slots: dicts of k, v, position, is_visible, beta.
    `stored` rounds the weights as a plain implementation would on writing them to memory."""
    rows = []
    for query, position in zip(queries, positions_of_queries, strict=True):
        logits = [
            scale * dot(query, slot["k"]) + slot["beta"]
            if slot["is_visible"] and slot["position"] <= position
            else -inf
            for slot in slots
        ]
        largest = max(logits, default=-inf)
        if largest == -inf:
            rows.append(([0.0] * len(slots), 1.0, -inf))
            continue
        weights = [exp(logit - largest) for logit in logits]
        total = sum(weights)
        rows.append((stored(weights), total, largest + log(total)))
    return rows


def attend(queries, slots, scale, positions_of_queries, stored=exact):
    """(outputs, lses, score sums) of the queries of one query head. With a rounding for `stored`, the
    naive implementation of docs/tolerance.md: what lies in memory between steps is rounded."""
    queries = [stored(query) for query in queries]
    slots = [{**slot, "k": stored(slot["k"]), "v": stored(slot["v"])} for slot in slots]
    rows = probabilities(queries, slots, scale, positions_of_queries, stored)
    outputs = []
    for weights, total, _ in rows:
        out = [0.0] * len(queries[0])
        for weight, slot in zip(weights, slots, strict=True):
            if weight > 0:
                out = [o + weight * v for o, v in zip(out, slot["v"], strict=True)]
        outputs.append(stored([o / total for o in out]))
    sums = [sum(weights[s] / total for weights, total, _ in rows) for s in range(len(slots))]
    return outputs, [lse for _, _, lse in rows], sums


def select_topk(scores, length, k, sinks, recent):
    """Ascending indices of one row."""
    protected = set(range(min(sinks, length))) | set(range(max(0, length - recent), length))
    rest = [i for i in range(length) if i not in protected]

    def rank(i):
        score = scores[i]
        return (1, 0.0, i) if score != score else (0, -score, i)

    return sorted(protected | set(sorted(rest, key=rank)[:k]))


def nearest_codeword(rows, codewords):
    """For each row the dots with all codewords."""
    return [[dot(row, codeword) for codeword in codewords] for row in rows]


def reduce_by_label(rows, labels, weights, count):
    """(sums, counts, order) of rows by label."""
    dims = len(rows[0])
    sums = [[0.0] * dims for _ in range(count)]
    order = [[] for _ in range(count)]
    for i, label in enumerate(labels):
        if 0 <= label < count:
            order[label].append(i)
            sums[label] = [s + weights[i] * x for s, x in zip(sums[label], rows[i], strict=True)]
    return sums, [len(part) for part in order], [i for part in order for i in part]
