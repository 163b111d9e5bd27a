"""Which clips an update is made of, by the seed and the update's number alone.

An *epoch* uses every clip once (sources that are drawn more or less often than they are long: their share of times).
A *round* is one epoch, or a few of them where an epoch is only a few updates long; it is shuffled, cut into windows of
`bucket_updates` updates, sorted by length within each, and cut into its whole number of batches of equal seconds, which
then come in random order. So there is no last, smaller batch, no clip is left over, and the batches of any round can be
made without those before it: a run may begin anywhere at once.

Letters: n clips, B batches of a round.
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
