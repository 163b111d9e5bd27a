"""How far a rate could be off: confidence intervals and comparisons by resampling what was measured.

A test set is one draw of utterances; drawing as many from it again and again, with replacement, shows how much the rate
depends on which were drawn (Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in ASR performance
evaluation"). Utterances of one speaker resemble each other, so where speakers are known, drawing whole speakers gives
the interval for other speakers; it is the wider one.

Shapes: N groups (utterances or speakers), R resamples.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

#: Numbers that are drawn at once at most, so that memory does not grow with the corpus.
_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Resampling:
    """How intervals are made: from so many `resamples`, drawn by `seed`, covering the share `level` of them."""

    resamples: int = 2000
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.resamples < 1 or not 0 < self.level < 1 or self.seed < 0:
            raise ValueError(
                f"resamples={self.resamples}, seed={self.seed}, level={self.level}: resamples must be positive, "
                "the seed at least 0, the level between 0 and 1"
            )


@dataclass(frozen=True)
class Interval:
    """Between `low` and `high` lies the rate of all resamples but the extreme ones."""

    low: float
    high: float


@dataclass(frozen=True)
class Improvement:
    """A second system beside a first on the same utterances.

    `probability` is the share of resamples in which the second makes fewer errors, ties counted half, so that it is 0.5
    for a system beside itself. `difference` is the rate of the second minus that of the first, `interval` is where it
    lies in all resamples but the extreme ones.
    """

    probability: float
    difference: float
    interval: Interval


def by_group(values: Sequence[int], groups: Sequence[Hashable]) -> Numbers:
    """(N,) sums of the values of each group, groups in the order in which they first appear."""
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    sums = np.zeros(len(numbers), np.int64)
    np.add.at(sums, [numbers[group] for group in groups], np.asarray(values, np.int64))
    return sums


def interval(errors: Numbers, lengths: Numbers, how: Resampling) -> Interval | None:
    """The interval of sum(errors) / sum(lengths), each (N,); None for fewer than two groups: nothing can vary."""
    if len(errors) < 2:
        return None
    return percentiles(_resampled_rates([errors], lengths, how)[0], how.level)


def improvement(first: Numbers, second: Numbers, lengths: Numbers, how: Resampling) -> Improvement | None:
    """Is the second system better? Errors (N,) of both in the same groups, drawn together; None for fewer than two."""
    if len(first) < 2:
        return None
    before, after = _resampled_rates([first, second], lengths, how)
    better = float(np.mean((after < before) + 0.5 * (after == before)))
    difference = (int(second.sum()) - int(first.sum())) / max(int(lengths.sum()), 1)
    return Improvement(better, difference, percentiles(after - before, how.level))


def percentiles(values: NDArray[np.float64], level: float) -> Interval:
    """Between which two the share `level` of the values (R,) lies."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Interval(low, high)


def _resampled_rates(errors: Sequence[Numbers], lengths: Numbers, how: Resampling) -> NDArray[np.float64]:
    """(systems, R): the rate of each system in each resample, the same groups drawn for all."""
    sums = resampled_sums(np.stack([*errors, lengths]).astype(np.int64), how)
    rates: NDArray[np.float64] = sums[:-1] / np.maximum(sums[-1], 1)
    return rates


def resampled_sums(columns: Numbers, how: Resampling) -> NDArray[np.float64]:
    """(columns, R): the sum of each column (columns, N) over the groups of each resample, the same for all."""
    generator, groups = np.random.default_rng(how.seed), columns.shape[1]
    size = max(_AT_ONCE // groups, 1)
    values, pieces = columns.T.astype(np.float64), []
    for start in range(0, how.resamples, size):
        drawn = generator.integers(groups, size=(min(size, how.resamples - start), groups))
        times = np.stack([np.bincount(row, minlength=groups) for row in drawn])  # how often each group was drawn
        pieces.append(times.astype(np.float64) @ values)  # whole numbers, which floats hold exactly
    sums: NDArray[np.float64] = np.concatenate(pieces).T
    return sums
