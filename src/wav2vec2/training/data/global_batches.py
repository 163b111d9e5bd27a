"""Which clips an update is made of, by the seed and the update's number alone; and which process takes which of them.

An *epoch* uses every clip once (sources that are drawn more or less often than they are long: their share of times).
A *round* is one epoch, or a few of them where an epoch is only a few updates long; it is shuffled, cut into windows of
`bucket_updates` updates, sorted by length within each, and cut into its whole number of batches of equal seconds, which
then come in random order. So there is no last, smaller batch, no clip is left over, and the batches of any round can be
made without those before it: a run may begin anywhere at once.

A global batch is then divided: which clips each process takes at each of its micro-batches. A clip is padded to the
longest of its micro-batch, so clips of like length belong together; and the processes wait for each other, so all
micro-batches should cost the same.

Letters: n clips, B batches of a round, P processes, K parts of a process, G = P K groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from wav2vec2.training.settings.random_seeds import seed_of

#: A round has so many epochs that its batches differ from what was asked for by at most this share.
_UNEVENNESS = 1 / 16

#: But no more epochs than this.
_MOST_EPOCHS = 64

#: Halvings of the interval in which the smallest possible largest group is looked for: finer than a sample.
_STEPS = 40

_Indices = NDArray[np.int64]


@dataclass(frozen=True)
class SourceShare:
    """How often the clips of a source are used in an epoch: `copies` times, of which the fraction is drawn anew in each
    epoch."""

    clips: _Indices
    copies: float


def shares_of(hours: Sequence[float], weights: Sequence[float | None], balance: float) -> list[float]:
    """The share of each source in the audio of an epoch: its weight, or its hours to the power `balance`.

    That power is XLS-R's upsampling (Babu et al. 2021, section 3.2): p_i ~ (hours_i / hours) ** alpha.
    """
    given = [weight for weight in weights if weight is not None]
    if given and len(given) < len(weights):
        raise ValueError("some sources have a `weight` and some have none: give all of them one, or none")
    raw = given or [(one / max(hours)) ** balance if one > 0 else 0.0 for one in hours]
    total = sum(raw)
    return [one / total for one in raw]


class GlobalBatches:
    """The batches of a run over clips whose lengths are known."""

    def __init__(
        self,
        seconds: NDArray[np.float64],
        sources: Sequence[SourceShare],
        *,
        seed: int,
        seconds_per_update: float,
        bucket_updates: int,
    ) -> None:
        """`seconds` (n,) are what one use of each clip gives; `sources` say which clips are used, and how often."""
        self.seconds = seconds
        self.sources = list(sources)
        self.seed = seed
        self.bucket_updates = bucket_updates
        self.seconds_per_epoch = float(sum(seconds[one.clips].sum() * one.copies for one in sources))
        self.epochs_per_round, self.batches_per_round = _round_size(self.seconds_per_epoch / seconds_per_update)
        uses = sum(len(one.clips) * one.copies for one in sources) * self.epochs_per_round
        whole = all(one.copies == int(one.copies) for one in sources)
        # no batch may be without clips; a fraction of a source is so many seconds, of perhaps few clips
        self.batches_per_round = max(1, min(self.batches_per_round, int(uses if whole else uses / 2)))
        self._round = lru_cache(maxsize=1)(self._plan_round)

    def __getstate__(self) -> dict[str, object]:
        """All but the round at hand, which a worker plans for itself."""
        return {name: value for name, value in self.__dict__.items() if name != "_round"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._round = lru_cache(maxsize=1)(self._plan_round)

    def __call__(self, update: int) -> _Indices:
        """The clips of `update` (counted from 0), in an order that their seeds count by."""
        number, batch = divmod(update, self.batches_per_round)
        return self._round(number)[batch]

    def epoch_after(self, update: int) -> float:
        """How many epochs have been seen after `update`."""
        return (update + 1) * self.epochs_per_round / self.batches_per_round

    def _plan_round(self, number: int) -> list[_Indices]:
        """The batches of a round, in the order in which they are used."""
        epochs = range(number * self.epochs_per_round, (number + 1) * self.epochs_per_round)
        parts = [self._epoch(epoch) for epoch in epochs]
        clips = np.concatenate(parts)
        epoch_of = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        lengths, total = self.seconds[clips], self.batches_per_round
        window = even_groups(lengths, total) // self.bucket_updates
        # two uses of one clip are equally long: kept apart by their epochs, they do not meet in one batch
        order = np.lexsort((lengths, epoch_of, window))
        clips, lengths, window = clips[order], lengths[order], window[order]
        batches: list[_Indices] = []
        for one in range(int(window[-1]) + 1):
            inside = slice(*np.searchsorted(window, [one, one + 1]))
            count = min(self.bucket_updates, total - one * self.bucket_updates)
            ends = np.searchsorted(even_groups(lengths[inside], count), np.arange(1, count))
            batches.extend(np.split(clips[inside], ends))
        shuffled = _generator(self.seed, "round", number).permutation(len(batches))
        return [batches[index] for index in shuffled]

    def _epoch(self, epoch: int) -> _Indices:
        """Every use of a clip in one epoch, shuffled."""
        uses = [
            part
            for number, source in enumerate(self.sources)
            for part in (*[source.clips] * int(source.copies), self._fraction(number, source, epoch))
        ]
        clips = np.concatenate(uses)
        return clips[_generator(self.seed, "epoch", epoch).permutation(len(clips))]

    def _fraction(self, number: int, source: SourceShare, epoch: int) -> _Indices:
        """The uses of a source beyond its whole copies.

        They continue where the epoch before stopped in a shuffled order, so that each clip is used once before any is
        used again; when the order is through, a new one begins.
        """
        fraction = source.copies - int(source.copies)
        if fraction == 0:
            return source.clips[:0]
        begin, end = epoch * fraction, (epoch + 1) * fraction
        taken = []
        for turn in range(int(begin), int(end) + 1):
            order = source.clips[_generator(self.seed, f"source {number}", turn).permutation(len(source.clips))]
            lengths = self.seconds[order]
            middle = turn + (np.cumsum(lengths) - lengths / 2) / lengths.sum()
            taken.append(order[(middle >= begin) & (middle < end)])
        return np.concatenate(taken)


def _round_size(updates_per_epoch: float) -> tuple[int, int]:
    """Epochs and batches of a round: the fewest epochs that make nearly a whole number of updates."""
    best, least = (1, 1), float("inf")
    for epochs in range(1, _MOST_EPOCHS + 1):
        exact = epochs * updates_per_epoch
        batches = max(1, round(exact))
        off = abs(exact / batches - 1)
        if off < least:
            best, least = (epochs, batches), off
        if off <= _UNEVENNESS:
            break
    return best


def even_groups(weights: NDArray[np.float64], groups: int) -> _Indices:
    """Which of `groups` each item falls into, contiguous and of equal weight; by number where one would be empty."""
    ends = np.cumsum(weights)
    if len(ends) and ends[-1] > 0:
        found = np.minimum(((ends - weights / 2) / ends[-1] * groups).astype(np.int64), groups - 1)
        if len(np.unique(found)) == groups:
            return found
    return np.arange(len(weights)) * groups // max(1, len(weights))


def _generator(seed: int, purpose: str, number: int) -> np.random.Generator:
    """Random numbers for one purpose, by PCG64 with a hashed seed: the same on every platform."""
    return np.random.Generator(np.random.PCG64(seed_of(seed, purpose, number)))


@dataclass(frozen=True)
class Division:
    """A global batch in so many `parts` for each process: `groups[process][part]` are indices into the global batch,
    longest clip first. Some may be empty."""

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
