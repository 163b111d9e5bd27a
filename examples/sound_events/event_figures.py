"""How well events were found: by frames and by events, as sed_eval defines the latter (Mesaros, Heittola and Virtanen
2016, "Metrics for polyphonic sound event detection").

An event is found if one of its label begins within a collar of its beginning and ends within the larger of the collar
and half its length of its end; each counts once (the largest matching there is).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

Stretch = tuple[float, float, str]


class Counts(NamedTuple):
    """Found and there, found, and there."""

    right: int = 0
    found: int = 0
    there: int = 0

    def __add__(self, other: object) -> "Counts":
        """Both together."""
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))  # type: ignore[call-overload]

    @property
    def f1(self) -> float:
        """Of what is there and what was found, as one number; 1 where there is nothing of either."""
        return 2 * self.right / (self.found + self.there) if self.found + self.there else 1.0


def frame_labels(stretches: Sequence[Stretch], seconds: float, background: str, step: float = 0.02) -> list[str]:
    """The label in the middle of every step."""
    labels = [background] * round(seconds / step)
    for start, end, label in stretches:
        for frame in range(max(0, -(-round((start - step / 2) * 1e6) // round(step * 1e6))), len(labels)):
            if (frame + 0.5) * step >= end:
                break
            labels[frame] = label
    return labels


def matched(there: Sequence[Stretch], found: Sequence[Stretch], label: str, collar: float) -> Counts:
    """The events of a label that were found."""
    wanted = [one for one in there if one[2] == label]
    given = [one for one in found if one[2] == label]
    near = [[number for number, other in enumerate(given) if _is_near(one, other, collar)] for one in wanted]
    partner: dict[int, int] = {}  # of a found event

    def placed(number: int, tried: set[int]) -> bool:
        for other in near[number]:
            if other in tried:
                continue
            tried.add(other)
            if other not in partner or placed(partner[other], tried):
                partner[other] = number
                return True
        return False

    return Counts(sum(placed(number, set()) for number in range(len(wanted))), len(given), len(wanted))


def _is_near(there: Stretch, found: Stretch, collar: float) -> bool:
    end = max(collar, 0.5 * (there[1] - there[0]))
    return abs(there[0] - found[0]) <= collar + 1e-9 and abs(there[1] - found[1]) <= end + 1e-9


class Figures:
    """Figures over recordings: `add` each, then `summary`."""

    def __init__(self, labels: Sequence[str], collars: Sequence[float] = (0.2, 0.5)) -> None:
        self.labels, self.collars = list(labels), list(collars)
        self.confusion = [[0] * len(labels) for _ in labels]
        self.events = {(label, collar): Counts() for label in labels for collar in collars}

    def add(self, there: Sequence[Stretch], found: Sequence[Stretch], seconds: float) -> None:
        """One more recording: what is in it, and what was found. The first label is the background."""
        background = self.labels[0]
        truth, answer = (frame_labels(stretches, seconds, background) for stretches in (there, found))
        for one, other in zip(truth, answer, strict=True):
            self.confusion[self.labels.index(one)][self.labels.index(other)] += 1
        for label, collar in self.events:
            self.events[label, collar] += matched(there, found, label, collar)

    def summary(self) -> dict[str, Any]:
        """F1 by label: of frames, and of events by collar; the confusion of frames (rows: what is there)."""
        rows = {}
        for number, label in enumerate(self.labels):
            taken = sum(row[number] for row in self.confusion)
            counts = Counts(self.confusion[number][number], taken, sum(self.confusion[number]))
            rows[label] = {"frames": round(counts.f1, 4)}
            for collar in self.collars:
                events = self.events[label, collar]
                rows[label] |= {f"events_{collar}": round(events.f1, 4), "count": events.there}
        right = sum(self.confusion[number][number] for number in range(len(self.labels)))
        accuracy = right / max(sum(map(sum, self.confusion)), 1)
        return {"labels": self.labels, "by_label": rows, "accuracy": round(accuracy, 4), "confusion": self.confusion}
