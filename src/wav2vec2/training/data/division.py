"""Which process takes which clips of an update, in micro-batches of which shape.

A clip is padded to the longest of its micro-batch, so clips of like length belong together; and the processes wait for
each other, so all micro-batches should cost the same.

An accelerator plans its kernels anew for every shape (clips, samples), which takes it longer than to compute a
micro-batch. So shapes come from a small *grid*: lengths are rounded up to one of a few steps, and as many clips of that
length are taken as there is room for. What is added is padding, which changes no result. Small updates, of which it
would be a notable share, keep the shapes that their clips have.

Letters: n clips, P processes, K parts of a process, G = P K groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wav2vec2.training.data.audio_clips import SAMPLING_RATE

#: Halvings of the interval in which the smallest possible largest group is looked for: finer than a sample.
_HALVINGS = 40

#: Of short clips, a step of the grid is at most this share longer than the one below.
_LONGER = 1 / 10

#: At most this share of an update's clips is added to it as rows without a clip.
_EMPTY_ROWS = 1 / 32

#: No update may take longer by more than this share because of the grid.
_COSTS = 1 / 8

_Indices = NDArray[np.int64]


class Shape(NamedTuple):
    """What a micro-batch is padded to: so many rows of so many samples, or as its clips are where they are more."""

    rows: int = 0
    samples: int = 0


#: A micro-batch of as many rows as it has clips, as long as the longest.
AS_THE_CLIPS = Shape()


class LengthGrid:
    """The lengths that micro-batches have: `steps` equal ones up to `longest` seconds, and on above; below, where these
    would be a large share of a clip, each a tenth longer than the one before.

    >>> grid = LengthGrid(16.0, 32)
    >>> grid.rounded(np.array([16.0, 15.6, 15.5, 2.5, 2.0, 17.2])).round(2).tolist()
    [16.0, 16.0, 15.5, 2.57, 2.12, 17.5]
    """

    def __init__(self, longest: float, steps: int) -> None:
        top = int(_samples_in(np.array(longest)))
        self._equal = -(-top // steps)
        self._below = [top]
        while self._below[-1] > 1:
            below = self._below[-1]
            self._below.append(below - max(1, min(self._equal, int(below * _LONGER / (1 + _LONGER)))))
        self._below.reverse()

    def samples(self, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        """The samples of the next step for each of `wanted` (n,)."""
        steps = np.array(self._below)
        above = steps[-1] + -(-(wanted - steps[-1]) // self._equal) * self._equal
        within = steps[np.minimum(np.searchsorted(steps, wanted), len(steps) - 1)]
        return np.where(wanted > steps[-1], above, within)

    def rounded(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same of seconds (n,)."""
        return self.samples(_samples_in(seconds)) / SAMPLING_RATE


def _samples_in(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    """As many samples as are begun, but for what is no more than rounding."""
    return np.ceil(np.round(seconds * SAMPLING_RATE, 3)).astype(np.int64)


@dataclass(frozen=True)
class Division:
    """A global batch in so many `parts` for each process: `groups[process][part]` are indices into the global batch,
    longest clip first, and `shapes[process][part]` what they are padded to. Groups may be empty."""

    parts: int
    groups: list[list[_Indices]]
    shapes: list[list[Shape]]


@dataclass(frozen=True)
class _Pieces:
    """A global batch cut into groups, before any process has one."""

    #: The clips of each group.
    groups: list[_Indices]
    #: What each is padded to.
    shapes: list[Shape]
    #: Seconds of each, padding included; in descending order of the length of the clips.
    costs: list[float]
    #: How many groups each process takes.
    parts: int

    def time(self, processes: int) -> float:
        """Seconds of audio, as long as the processes take to hear which when they wait for each other at every part."""
        return sum(max(self.costs[one : one + processes]) for one in range(0, len(self.costs), processes))


def divide(
    seconds: Sequence[float] | NDArray[np.float64],
    processes: int,
    seconds_per_batch: float,
    grid: LengthGrid | None = None,
) -> Division:
    """Divide clips of these `seconds` (n,) over `processes`, in the fewest parts that fit into `seconds_per_batch`.

    A group is contiguous in the order of length and takes (its longest clip) x (its clips) seconds, padding included:
    at most `seconds_per_batch`, or one clip alone that is longer. Of all ways to make G = P K such groups, the one
    whose largest group is smallest is taken; on a `grid`, of all that have the same room for each group. Of the P
    groups of each part, the largest goes to the process that has had the least so far.
    """
    lengths = np.asarray(seconds, np.float64)
    pieces = _as_they_are(lengths, processes, seconds_per_batch)
    if grid is not None and len(lengths):
        fitted = _on_grid(lengths, processes, seconds_per_batch, grid)
        cheap = fitted.time(processes) <= pieces.time(processes) * (1 + _COSTS)
        if cheap and (fitted.parts == pieces.parts or pieces.parts > 1):
            pieces = fitted
    return _handed_out(pieces, processes)


def divide_by_lane(
    seconds: NDArray[np.float64],
    lanes: NDArray[np.int64],
    processes: int,
    seconds_per_batch: float,
    grid: LengthGrid | None = None,
) -> Division:
    """The same where the clips of lane l all go to process l modulo P, so that no other reads what they are read from.

    Which part of an update a clip is in then depends on the clips of its process alone; all have as many parts as the
    one that needs most.
    """
    mine = [np.flatnonzero(lanes % processes == process) for process in range(processes)]
    divided = [divide(seconds[own], 1, seconds_per_batch, grid) for own in mine]
    parts = max(one.parts for one in divided)
    groups, shapes = [], []
    for own, one in zip(mine, divided, strict=True):
        missing = parts - one.parts
        groups.append([own[group] for group in one.groups[0]] + [np.empty(0, np.int64)] * missing)
        shapes.append(one.shapes[0] + [AS_THE_CLIPS] * missing)
    return Division(parts, groups, shapes)


def processes_of(lanes: NDArray[np.int64], processes: int) -> int:
    """How many of the processes have a clip in these lanes."""
    return len(np.unique(lanes % processes))


def _handed_out(pieces: _Pieces, processes: int) -> Division:
    """Which process takes which group."""
    work = np.zeros(processes)
    groups: list[list[_Indices]] = [[] for _ in range(processes)]
    shapes: list[list[Shape]] = [[] for _ in range(processes)]
    for part in range(pieces.parts):
        of_part = range(part * processes, (part + 1) * processes)
        handed = sorted(of_part, key=lambda one: -pieces.costs[one])
        for piece, process in zip(handed, np.argsort(work, kind="stable"), strict=True):
            groups[process].append(pieces.groups[piece])
            shapes[process].append(pieces.shapes[piece])
            work[process] += pieces.costs[piece]
    return Division(pieces.parts, groups, shapes)


def _as_they_are(lengths: NDArray[np.float64], processes: int, limit: float) -> _Pieces:
    """Groups that are as long as their longest clip and all cost about the same."""
    order = _longest_first(lengths)
    ordered: list[float] = lengths[order].tolist()
    parts = _parts(ordered, processes, limit)
    room = _least_room(ordered, limit, parts * processes)
    starts = _filled_up(ordered, _cuts(ordered, room), parts * processes)
    return _pieces(order, starts, [], ordered, parts, processes)


def _on_grid(lengths: NDArray[np.float64], processes: int, limit: float, grid: LengthGrid) -> _Pieces:
    """Groups as long as a step of the grid, with as many rows as there is room for.

    One process alone waits for nobody, so its groups may take all the room that there is: then a length has one number
    of rows, whatever the update is made of. Several take as little at each part as leaves enough for the rest.
    """
    order = _longest_first(lengths)
    ordered: list[float] = grid.rounded(lengths[order]).tolist()
    parts = _parts(ordered, processes, limit)
    unit = max(1, int(len(ordered) * _EMPTY_ROWS))
    together = processes if processes > 1 else parts
    starts: list[int] = []
    shapes: list[Shape] = []
    done = 0
    for first in range(0, parts * processes, together):
        rest = ordered[done:]
        room = limit if processes == 1 else _least_room(rest, limit, parts * processes - first)
        for start in _cuts(rest, room)[:together]:
            fit = _fit(room, rest[start])
            taken = min(fit, len(rest) - start)
            starts.append(done + start)
            shapes.append(Shape(min(fit, -(-taken // unit) * unit), round(rest[start] * SAMPLING_RATE)))
        done = starts[-1] + taken
    return _pieces(order, starts, shapes, ordered, parts, processes)


def _pieces(
    order: _Indices, starts: list[int], shapes: list[Shape], ordered: list[float], parts: int, processes: int
) -> _Pieces:
    """The groups that begin at `starts`, and empty ones up to what the processes take."""
    groups = np.split(order, starts[1:]) if starts else []
    rows = [shape.rows for shape in shapes] or [len(group) for group in groups]
    costs = [ordered[start] * count for start, count in zip(starts, rows, strict=True)]
    missing = parts * processes - len(groups)
    shapes = (shapes or [AS_THE_CLIPS] * len(groups)) + [AS_THE_CLIPS] * missing
    return _Pieces(groups + [np.empty(0, np.int64)] * missing, shapes, costs + [0.0] * missing, parts)


def _longest_first(lengths: NDArray[np.float64]) -> _Indices:
    """The clips in descending order of length, and of equally long ones in the order of their numbers."""
    return np.lexsort((np.arange(len(lengths)), -lengths))


def _parts(ordered: list[float], processes: int, limit: float) -> int:
    """The fewest groups for each process."""
    return max(1, -(-len(_cuts(ordered, limit)) // processes))


def _fit(room: float, seconds: float) -> int:
    """How many clips of this length there is room for; always for one."""
    return max(1, int(room / max(seconds, 1e-9) + 1e-9))


def _cuts(ordered: list[float], room: float) -> list[int]:
    """Where groups start if each is filled up to `room`, longest clips first.

    What fits still fits with clips taken away, so filling greedily gives the fewest groups.
    """
    starts, start = [], 0
    while start < len(ordered):
        starts.append(start)
        start += _fit(room, ordered[start])
    return starts


def _least_room(ordered: list[float], limit: float, groups: int) -> float:
    """The room, of at most `limit` or one clip, that is enough for as many groups."""
    if not len(ordered):
        return limit
    low, high = 0.0, max(limit, ordered[0])
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if len(_cuts(ordered, middle)) <= groups:
            high = middle
        else:
            low = middle
    return high


def _filled_up(ordered: list[float], starts: list[int], groups: int) -> list[int]:
    """Halve the largest groups until there are as many as `groups`, so that no process idles that could work."""
    starts = list(starts)
    while len(starts) < min(groups, len(ordered)):
        ends = [*starts[1:], len(ordered)]
        sizes = [end - start for start, end in zip(starts, ends, strict=True)]
        costs = [ordered[start] * size if size > 1 else 0.0 for start, size in zip(starts, sizes, strict=True)]
        largest = int(np.argmax(costs))
        starts.insert(largest + 1, starts[largest] + sizes[largest] // 2)
    return starts
