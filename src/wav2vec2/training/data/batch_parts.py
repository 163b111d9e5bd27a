"""Dividing a global batch: which clips each process takes at each of its micro-batches.

A clip is padded to the longest of its micro-batch, so clips of like length belong together; and the processes wait
for each other, so all micro-batches should cost the same.

Letters: n clips, P processes, K parts of a process, G = P K groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Halvings of the interval in which the smallest possible largest group is looked for: finer than a sample.
_STEPS = 40


@dataclass(frozen=True)
class Division:
    """`groups[process][part]` are indices into the global batch, longest clip first. Some may be empty."""

    parts: int
    groups: list[list[NDArray[np.int64]]]


def divide(seconds: Sequence[float] | NDArray[np.float64], processes: int, seconds_per_batch: float) -> Division:
    """Divide clips of these `seconds` (n,) over `processes`, in the fewest parts that fit into `seconds_per_batch`.

    A group is contiguous in the order of length and takes (its longest clip) x (its clips) seconds, padding included:
    at most `seconds_per_batch`, or one clip alone that is longer. Of all ways to make G = P K such groups, the one
    whose largest group is smallest is taken. Of the P groups of each part, the largest goes to the process that has had
    the least so far.
    """
    lengths = np.asarray(seconds, np.float64)
    order = np.lexsort((np.arange(len(lengths)), -lengths))
    ordered = lengths[order]
    parts = max(1, -(-len(_cuts(ordered, seconds_per_batch)) // processes))
    starts = _filled_up(ordered, _balanced_cuts(ordered, seconds_per_batch, parts * processes), parts * processes)
    pieces = np.split(order, starts[1:]) if starts else []
    pieces += [np.empty(0, np.int64)] * (parts * processes - len(pieces))
    work = np.zeros(processes)
    groups: list[list[NDArray[np.int64]]] = [[] for _ in range(processes)]
    for part in range(parts):
        handed = sorted(pieces[part * processes : (part + 1) * processes], key=lambda one: -_cost(lengths, one))
        for piece, process in zip(handed, np.argsort(work, kind="stable"), strict=True):
            groups[process].append(piece)
            work[process] += _cost(lengths, piece)
    return Division(parts, groups)


def _cost(lengths: NDArray[np.float64], group: NDArray[np.int64]) -> float:
    """Seconds of a group with its padding."""
    return float(lengths[group].max() * len(group)) if len(group) else 0.0


def _cuts(ordered: NDArray[np.float64], limit: float) -> list[int]:
    """Where groups start if each is filled up to `limit`, longest clips first.

    What fits still fits with clips taken away, so filling greedily gives the fewest groups.
    """
    starts, start = [], 0
    while start < len(ordered):
        starts.append(start)
        start += max(1, int(limit / max(ordered[start], 1e-9) + 1e-9))
    return starts


def _balanced_cuts(ordered: NDArray[np.float64], limit: float, groups: int) -> list[int]:
    """Where groups start if the largest of at most `groups` is as small as can be."""
    if not len(ordered):
        return []
    low, high = 0.0, max(limit, float(ordered[0]))
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if len(_cuts(ordered, middle)) <= groups:
            high = middle
        else:
            low = middle
    return _cuts(ordered, high)


def _filled_up(ordered: NDArray[np.float64], starts: list[int], groups: int) -> list[int]:
    """Halve the largest groups until there are as many as `groups`, so that no process idles that could work."""
    starts = list(starts)
    while len(starts) < min(groups, len(ordered)):
        ends = [*starts[1:], len(ordered)]
        sizes = [end - start for start, end in zip(starts, ends, strict=True)]
        costs = [ordered[start] * size if size > 1 else 0.0 for start, size in zip(starts, sizes, strict=True)]
        largest = int(np.argmax(costs))
        starts.insert(largest + 1, starts[largest] + sizes[largest] // 2)
    return starts
