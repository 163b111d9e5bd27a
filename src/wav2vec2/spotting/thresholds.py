"""Thresholds by false alarms: how high a score must be so that on given audio no more than so many an hour are false.

The audio is known not to hold the keyword, so every hit in it is a false alarm. The threshold is the lowest with no
more hits there than were asked for, or rather halfway down to the next score that would be one too many. Whether other
audio has as many is a question of how much was listened to: false alarms come by chance, and few hours hold few.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, floor, inf, nextafter
from pathlib import Path

import numpy as np

from wav2vec2.alignment.keyword_scores import Floats, Integers
from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.files.strict_records import record_from_json, record_to_json
from wav2vec2.spotting.picked_hits import HitPicker, Peak

#: The name of the file in the folder of a model.
THRESHOLDS_FILE = "keyword_thresholds.json"

#: Nothing below this score is a hit, however quiet the audio was.
LEAST = 0.01

#: How sure it is that there are fewer false alarms than is said.
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class KeywordThreshold:
    """The threshold of a keyword, and what it was chosen on."""

    keyword: str
    #: What the model says it with, as its vocabulary writes it.
    tokens: list[str]
    #: A hit has at least this score.
    threshold: float
    #: How many false alarms an hour were asked for.
    asked_per_hour: float
    #: How many there are above the threshold, in how many hours.
    false_alarms: int
    hours: float
    #: What was listened to.
    background: str
    #: The latency of the streams it was heard as; None if it was heard in windows, as files are.
    latency: float | None

    def most_per_hour(self) -> float:
        """False alarms an hour that other audio of the kind stays below, at 95 % confidence."""
        return poisson_limit(self.false_alarms) / self.hours

    def in_words(self) -> str:
        """What was found, and what may be said of it."""
        alarms = "1 false alarm" if self.false_alarms == 1 else f"{self.false_alarms} false alarms"
        return (
            f"{self.keyword}: threshold {self.threshold:.3f}; {alarms} in {self.hours:.2f} h of {self.background}: "
            f"below {self.most_per_hour():.2g} an hour at 95 % confidence, {self.asked_per_hour:g} asked for"
        )

    def doubt(self) -> str | None:
        """Why the audio says nothing of what was asked for; None if it does."""
        if self.asked_per_hour * self.hours >= 1:
            return None
        return (
            f"{self.keyword}: {self.hours:.2f} h say nothing of {self.asked_per_hour:g} false alarms an hour: give at "
            f"least {1 / self.asked_per_hour:.3g} h, better ten times as much"
        )


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of keywords for one model."""

    #: The SHA-256 of its head.
    model_sha256: str
    thresholds: list[KeywordThreshold] = field(default_factory=list)

    def of(self, tokens: Sequence[str]) -> KeywordThreshold | None:
        """That of the keyword with these tokens, if there is one."""
        return next((one for one in self.thresholds if one.tokens == list(tokens)), None)

    def with_others(self, new: Sequence[KeywordThreshold]) -> "Thresholds":
        """These and new ones, which replace those of the same keyword."""
        kept = [one for one in self.thresholds if one.tokens not in [other.tokens for other in new]]
        return Thresholds(self.model_sha256, [*kept, *new])

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(path) as stream:
            stream.write(record_to_json(self).encode())


def read_thresholds(path: Path, model_sha256: str) -> Thresholds:
    """The thresholds in a file; a ValueError that names it if it holds none, or those of another model."""
    try:
        found = record_from_json(Thresholds, path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if found.model_sha256 != model_sha256:
        raise ValueError(f"{path}: the thresholds are of another model: calibrate this one into another file")
    return found


class KeptScores:
    """The scores of one keyword in one recording, as far as they may matter."""

    def __init__(self, name: str) -> None:
        self.name, self.frames = name, 0
        self._at: list[Integers] = []
        self._scores: list[Floats] = []
        self._began: list[Integers] = []

    def add(self, scores: Floats, began: Integers) -> None:
        """Of the next frames (T,)."""
        kept = np.flatnonzero(scores >= LEAST)
        self._at.append(kept + self.frames)
        self._scores.append(scores[kept])
        self._began.append(began[kept])
        self.frames += len(scores)

    def scores(self) -> Floats:
        """All that were kept."""
        return np.concatenate([np.zeros(0), *self._scores])

    def hits(self, threshold: float, patience: int) -> list[Peak]:
        """What a search with this threshold tells."""
        at, scores, began = (np.concatenate([[], *rows]) for rows in (self._at, self._scores, self._began))
        picker, found, before = HitPicker([threshold], patience), list[Peak](), 0
        for place in np.flatnonzero(scores >= threshold):
            picker.skip(int(at[place]) - before)
            found += picker.add(scores[None, [place]], began[None, [place]].astype(np.int64))
            before = int(at[place]) + 1
        return found + picker.finish()


def chosen_threshold(recordings: Sequence[KeptScores], allowed: int, patience: int) -> float | None:
    """The lowest threshold with no more than so many hits in all of them; None if even a perfect score has more."""
    levels = np.unique(np.concatenate([np.zeros(0), *(one.scores() for one in recordings)]))

    def too_many(threshold: float) -> bool:
        return sum(len(one.hits(threshold, patience)) for one in recordings) > allowed

    if not len(levels) or not too_many(levels[0]):
        return LEAST
    low, high = 0, len(levels)  # too many at the one, not at the other
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if too_many(levels[middle]) else (low, middle)
    if high == len(levels):
        just_above = nextafter(float(levels[low]), inf)
        return just_above if just_above <= 1 else None
    return float(levels[low] + levels[high]) / 2


def allowed_alarms(per_hour: float, hours: float) -> int:
    """How many false alarms so many hours may have.

    >>> allowed_alarms(1.0, 2.5), allowed_alarms(0.1, 10.0), allowed_alarms(0.1, 2.0)
    (2, 1, 0)
    """
    return floor(per_hour * hours + 1e-9)


def poisson_limit(count: int) -> float:
    """The rate for which so few events, or fewer, are seen with a probability of 5 %.

    >>> [round(poisson_limit(count), 2) for count in (0, 1, 10)]
    [3.0, 4.74, 16.96]
    """

    def so_few(rate: float) -> float:
        term = total = exp(-rate)
        for number in range(1, count + 1):
            term *= rate / number
            total += term
        return total

    low, high = float(count), 2.0 * count + 10.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if so_few(middle) > 1 - _CONFIDENCE else (low, middle)
    return high
