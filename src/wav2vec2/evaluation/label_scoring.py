"""How well labels were given: rates for each label and for all, with intervals, and what was taken for what.

A clip has a set of true labels and a set of answers; a clip to which none of the labels belongs has an empty one. Where
each clip has one label, "none" is as others in the confusion table and in accuracy, but not in the means over labels.

Shapes: C clips, G groups (clips or speakers), N labels, R resamples.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wav2vec2.evaluation.bootstrap import Interval, Resampling, by_group, percentiles, resampled_sums
from wav2vec2.inference.label_rule import NONE

Sums = NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """A `value` with its `interval` for other clips (None for fewer than two) and its `speaker_interval` for other
    speakers (None where not every speaker is known)."""

    value: float
    interval: Interval | None
    speaker_interval: Interval | None


@dataclass(frozen=True)
class LabelFigures:
    """How well one label was given."""

    #: The label.
    label: str
    #: Clips that have it.
    clips: int
    #: Clips that were given it.
    given: int
    #: Clips that have it and were given it.
    right: int

    def __post_init__(self) -> None:
        if not 0 <= self.right <= min(self.clips, self.given):
            raise ValueError(f"{self.label!r}: right={self.right} of {self.clips} clips, {self.given} given")

    @property
    def precision(self) -> float:
        """The share of those given that is right; 0 where it was never given."""
        return self.right / self.given if self.given else 0.0

    @property
    def recall(self) -> float:
        """The share of the clips that have it that were given it; 0 where none has it."""
        return self.right / self.clips if self.clips else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        return 2 * self.right / (self.clips + self.given) if self.right else 0.0


@dataclass(frozen=True)
class LabelScores:
    """The figures of all clips together."""

    #: The share of clips whose answer is exactly right, none of these among them.
    accuracy: Figure
    #: The share of clips that were given no label.
    rejected: Figure
    #: The same of the clips to which none belongs; None where there is no such clip.
    rejected_of_none: Figure | None
    #: The means over the labels that occur.
    macro_precision: Figure
    #: Of the right among all that have a label.
    macro_recall: Figure
    #: Of both.
    macro_f1: Figure
    #: Over all pairs of a clip and a label.
    micro_precision: Figure
    #: The same of recall.
    micro_recall: Figure
    #: The same of both.
    micro_f1: Figure
    #: The figures of each label.
    labels: list[LabelFigures]


def score_labels(
    true: Sequence[Sequence[str]],
    given: Sequence[Sequence[str]],
    labels: Sequence[str],
    speakers: Sequence[str] | None,
    how: Resampling,
) -> LabelScores:
    """The figures of clips with their true labels and those that they were given."""
    has, got = (np.array([[label in one for label in labels] for one in sets], bool) for sets in (true, given))
    has, got = has.reshape(len(true), len(labels)), got.reshape(len(true), len(labels))
    exact = np.array([set(own) == set(answer) for own, answer in zip(true, given, strict=True)], bool)
    empty = np.array([not answer for answer in given], bool)
    none = np.array([not own for own in true], bool)
    columns = np.stack([exact, empty, none, empty & none, np.ones_like(exact)])  # (5, C)
    pairs = np.concatenate([columns, has.T, got.T, (has & got).T]).astype(np.int64)  # (5 + 3 N, C)
    clips = resampled_sums(pairs, how) if len(true) > 1 else None
    of_speakers = None
    if speakers is not None and len(set(speakers)) > 1:
        of_speakers = resampled_sums(_by_group(pairs, speakers), how)
    whole = pairs.sum(1, keepdims=True).astype(np.float64)

    def figure(kind: str) -> Figure:
        intervals = [
            None if sums is None else percentiles(_RATES[kind](sums), how.level) for sums in (clips, of_speakers)
        ]
        return Figure(float(_RATES[kind](whole)[0]), *intervals)

    counts = whole[5:, 0].astype(int).reshape(3, len(labels)).T.tolist()
    return LabelScores(
        labels=[LabelFigures(label, *values) for label, values in zip(labels, counts, strict=True)],
        rejected_of_none=figure("rejected_of_none") if none.any() else None,
        **{kind: figure(kind) for kind in _RATES if kind != "rejected_of_none"},
    )


def confusion(true: Sequence[str], given: Sequence[str], labels: Sequence[str]) -> list[list[int]]:
    """How often each of the labels and none (rows) was taken for each of them and none (columns): N + 1 square, of
    clips with one label, as text. N is without "none" where that is one of the labels."""
    names = [label for label in labels if label != NONE] + [NONE]
    number = {name: place for place, name in enumerate(names)}
    table = np.zeros((len(names), len(names)), int)
    for own, answer in zip(true, given, strict=True):
        table[number[own], number[answer]] += 1
    found: list[list[int]] = table.tolist()
    return found


def _by_group(columns: NDArray[np.int64], groups: Sequence[Hashable]) -> NDArray[np.int64]:
    return np.stack([by_group(column.tolist(), groups) for column in columns])


def _divided(above: Sums, below: Sums) -> Sums:
    """0 where there is nothing to divide by."""
    return np.divide(above, below, out=np.zeros(np.broadcast_shapes(above.shape, below.shape)), where=below > 0)


def _thirds(sums: Sums) -> tuple[Sums, Sums, Sums]:
    """Clips that have each label, that were given it, and both: (N, R) each."""
    has, got, right = np.split(sums[5:], 3)
    return has, got, right


def _macro(values: Sums, has: Sums) -> Sums:
    """The mean (R,) over the labels that occur."""
    occur = has > 0
    return _divided((values * occur).sum(0), occur.sum(0).astype(np.float64))


def _macro_precision(sums: Sums) -> Sums:
    has, got, right = _thirds(sums)
    return _macro(_divided(right, got), has)


def _macro_recall(sums: Sums) -> Sums:
    has, _, right = _thirds(sums)
    return _macro(_divided(right, has), has)


def _macro_f1(sums: Sums) -> Sums:
    has, got, right = _thirds(sums)
    return _macro(_divided(2 * right, has + got), has)


def _micro_precision(sums: Sums) -> Sums:
    _, got, right = _thirds(sums)
    return _divided(right.sum(0), got.sum(0))


def _micro_recall(sums: Sums) -> Sums:
    has, _, right = _thirds(sums)
    return _divided(right.sum(0), has.sum(0))


def _micro_f1(sums: Sums) -> Sums:
    has, got, right = _thirds(sums)
    return _divided(2 * right.sum(0), has.sum(0) + got.sum(0))


#: Each rate (R,) from the sums (5 + 3 N, R): exact answers, empty ones, clips of none, both, clips; then of labels.
_RATES = {
    "accuracy": lambda sums: _divided(sums[0], sums[4]),
    "rejected": lambda sums: _divided(sums[1], sums[4]),
    "rejected_of_none": lambda sums: _divided(sums[3], sums[2]),
    "macro_precision": _macro_precision,
    "macro_recall": _macro_recall,
    "macro_f1": _macro_f1,
    "micro_precision": _micro_precision,
    "micro_recall": _micro_recall,
    "micro_f1": _micro_f1,
}
