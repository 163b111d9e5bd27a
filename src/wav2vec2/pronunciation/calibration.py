"""From the model's odds to a probability that held-out recordings bear out: Platt's logistic curve, in a small file.

A model is surer of itself than it is right, and no two are so in the same way. What was really said in recordings that
it never learnt from shows by how much: the curve that maps its log-odds to how often phones with such odds were as
asked. The file says which recordings those were, and so does every score that was made with it.

Platt, "Probabilistic outputs for support vector machines" (1999), with his prior on few examples.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.files.strict_records import record_from_json, record_to_json

#: The name of the file in the folder of a model.
CALIBRATION_FILE = "pronunciation_calibration.json"

#: Fewer right or wrong phones than that say nothing of a curve.
FEWEST = 10

#: Odds beyond that, in nats (22,000 to one), are as good as certain: a few that are far beyond, and wrong, would else
#: bend the curve for all others.
_MOST = 10.0


@dataclass(frozen=True)
class Calibration:
    """A curve, and what it was made on."""

    #: What the log-odds of a phone are multiplied with.
    slope: float
    #: What is added then; the logistic function of that is the probability.
    intercept: float
    #: The name of the manifest, and the SHA-256 of its content.
    data: str
    data_sha256: str
    #: Of whose scores it is: the SHA-256 of the model's head.
    model_sha256: str
    recordings: int
    #: How many different speakers the manifest names; 0 if it names none.
    speakers: int
    #: The phones (or letters) that were asked for, and how many of them were not said so.
    phones: int
    wrong: int
    #: The chance that a phone that was said as asked has a higher score than one that was not: of the raw scores too.
    auc: float
    #: How far the probabilities are from what was said, as the mean of the squares: before and after.
    brier_before: float
    brier: float

    def probability(self, log_odds: float) -> float:
        """How probable it is that a phone with these odds was said as asked."""
        return logistic(self.slope * min(max(log_odds, -_MOST), _MOST) + self.intercept)

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(path) as stream:
            stream.write(record_to_json(self).encode())

    def in_words(self) -> str:
        """What the scores were calibrated on."""
        speakers = f" of {self.speakers} speakers" if self.speakers else ""
        return (
            f"calibrated on {self.data}: {self.recordings} recordings{speakers}, {self.phones} sounds of which "
            f"{self.wrong} were said otherwise (AUC {self.auc:.3f})"
        )


def read_calibration(path: Path) -> Calibration:
    """The calibration in a file; a ValueError that names it if it is none."""
    try:
        return record_from_json(Calibration, path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def logistic(value: float) -> float:
    """The probability that has these log-odds.

    >>> logistic(0.0), logistic(-1000.0), logistic(1000.0)
    (0.5, 0.0, 1.0)
    """
    return 1 / (1 + exp(-value)) if value > -700 else 0.0


def fitted(log_odds: Sequence[float], right: Sequence[bool]) -> tuple[float, float]:
    """The slope and the intercept with which the logistic curve tells best which phones were right.

    Newton's method; the targets are drawn in from 0 and 1 by as much as one more example of each would (Platt).
    """
    said = np.asarray(right)
    if min(said.sum(), (~said).sum()) < FEWEST:
        raise ValueError(
            f"{len(said)} phones of which {int((~said).sum())} were not said as asked: "
            f"at least {FEWEST} of each kind are needed"
        )
    odds = np.clip(np.asarray(log_odds, dtype=np.float64), -_MOST, _MOST)
    high, low = (said.sum() + 1) / (said.sum() + 2), 1 / ((~said).sum() + 2)
    target = np.where(said, high, low)
    inputs = np.stack([odds, np.ones_like(odds)], 1)  # (N, 2)
    weights = np.array([1.0, 0.0])
    for _ in range(100):
        guessed = _logistic(inputs @ weights)
        slack = np.maximum(guessed * (1 - guessed), 1e-9)
        step = np.linalg.solve((inputs * slack[:, None]).T @ inputs + 1e-9 * np.eye(2), inputs.T @ (guessed - target))
        step *= min(1.0, 1.0 / max(float(np.abs(step).max()), 1e-12))  # no leap out of where the curve is curved
        weights = weights - step
        if float(np.abs(step).max()) < 1e-10:
            break
    if weights[0] <= 0:
        raise ValueError("scores are no higher where phones were said as asked: the manifest, or the model, is wrong")
    return float(weights[0]), float(weights[1])


def area_under_curve(scores: Sequence[float], right: Sequence[bool]) -> float:
    """The chance that a right one scores higher than a wrong one; of equals, half.

    >>> area_under_curve([3.0, 1.0, 2.0, 1.0], [True, True, False, False])
    0.625
    """
    values, said = np.asarray(scores, dtype=np.float64), np.asarray(right)
    order = np.sort(values[~said])
    below, upto = np.searchsorted(order, values[said]), np.searchsorted(order, values[said], side="right")
    return float((below + upto).mean() / 2 / len(order))


def brier_score(probabilities: Sequence[float], right: Sequence[bool]) -> float:
    """The mean of the squares of how far probabilities are from what was."""
    return float(np.square(np.asarray(probabilities) - np.asarray(right, dtype=np.float64)).mean())


def sha256_of(content: bytes) -> str:
    """The SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _logistic(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -700, 700))))
