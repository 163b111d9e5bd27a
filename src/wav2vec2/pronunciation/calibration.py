"""From the model's odds to a probability that held-out recordings bear out: a logistic curve, in a small file.

A model is surer of itself than it is right, and no two are so in the same way; nor is it as sure of one phone as of
another. Recordings that it never learnt from, of which is known what was said, show by how much: the curve maps its
log-odds, and how much it doubts such a phone where it was said as asked, to how often such phones were as asked. The
same recordings say below which probability a phone is told as a fault: so low that hardly a word that was said well has
one. The file says which recordings those were, and so does every score that was made with it.

Platt, "Probabilistic outputs for support vector machines" (1999), with his prior on few examples.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.files.strict_records import record_from_json, record_to_json

#: The name of the file in the folder of a model.
CALIBRATION_FILE = "pronunciation_calibration.json"

#: Fewer right or wrong phones than that say nothing of a curve.
FEWEST = 10

#: Odds beyond that, in nats, are as good as certain: a few that are far beyond, and wrong, would else bend the curve
#: for all others.
_MOST = 20.0

#: So many phones with the usual doubt are added to each phone's own, of which there may be few.
_ADDED = 20


@dataclass(frozen=True)
class Calibration:
    """A curve, and what it was made on."""

    #: What the log-odds of a phone are multiplied with.
    slope: float
    #: What the logarithm of its doubt is multiplied with.
    doubt_weight: float
    #: What is added then; the logistic function of the sum is the probability.
    intercept: float
    #: By phone, how probable others are, on average, where it was said as asked.
    doubts: dict[str, float]
    #: The mean of all phones, for one that was not in the recordings.
    usual_doubt: float
    #: A phone with a lower probability is a fault.
    threshold: float
    #: And one that was put in, if the model's own probability that nothing was is lower.
    insertion_threshold: float
    #: Words that were said as asked, and how many of them these thresholds take for wrong.
    right_words: int
    flagged_words: int
    #: Whether all was said well, and what was wrong is that other phones were asked for.
    asked_otherwise: bool
    #: The names of the manifests, and the SHA-256 of their content.
    data: str
    data_sha256: str
    #: Of whose scores it is: the SHA-256 of the model's head.
    model_sha256: str
    recordings: int
    #: How many different speakers the manifests name; 0 if they name none.
    speakers: int
    #: The phones (or letters) that were asked for, and how many of them were not said so.
    phones: int
    wrong: int
    #: The chance that a phone that was said as asked has a higher probability than one that was not.
    auc: float
    #: How far the probabilities are from what was said, as the mean of the squares: before and after.
    brier_before: float
    brier: float

    def probability(self, log_odds: float, phone: str) -> float:
        """How probable it is that a phone with these odds was said as asked."""
        doubt = log(self.doubts.get(phone, self.usual_doubt))
        return logistic(self.slope * min(max(log_odds, -_MOST), _MOST) + self.doubt_weight * doubt + self.intercept)

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(path) as stream:
            stream.write(record_to_json(self).encode())

    def in_words(self) -> str:
        """What the scores were calibrated on."""
        speakers = f" of {self.speakers} speaker{'s' * (self.speakers > 1)}" if self.speakers else ""
        how = "asked for otherwise than said" if self.asked_otherwise else "said otherwise"
        return (
            f"calibrated on {self.data}: {self.recordings} recordings{speakers}, {self.phones} sounds of which "
            f"{self.wrong} were {how} (AUC {self.auc:.3f}); {self.flagged_words} of {self.right_words} words that were "
            "said well are marked"
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


def fitted(log_odds: Sequence[float], doubts: Sequence[float], right: Sequence[bool]) -> tuple[float, float, float]:
    """The slope, the weight of the logarithms of doubts and the intercept with which the logistic curve tells best
    which phones were right.

    Newton's method; the targets are drawn in from 0 and 1 by as much as one more example of each would (Platt).
    """
    said = np.asarray(right)
    if min(said.sum(), (~said).sum()) < FEWEST:
        raise ValueError(
            f"{len(said)} phones of which {int((~said).sum())} were not said as asked: "
            f"at least {FEWEST} of each kind are needed"
        )
    odds = np.clip(np.asarray(log_odds, dtype=np.float64), -_MOST, _MOST)
    ones = np.ones_like(odds)
    slope, weight, intercept = _newton(np.stack([odds, np.log(doubts), ones], 1), said)
    if weight < 0:  # that a phone is often doubted never tells against the one who says it
        (slope, intercept), weight = _newton(np.stack([odds, ones], 1), said), 0.0
    if slope <= 0:
        raise ValueError("scores are no higher where phones were said as asked: the manifest, or the model, is wrong")
    return float(slope), float(weight), float(intercept)


def _newton(inputs: NDArray[np.float64], said: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The weights of inputs (N, weights)."""
    high, low = (said.sum() + 1) / (said.sum() + 2), 1 / ((~said).sum() + 2)
    target = np.where(said, high, low)
    weights = np.zeros(inputs.shape[1])
    weights[0] = 1.0
    for _ in range(200):
        guessed = _logistic(inputs @ weights)
        slack = np.maximum(guessed * (1 - guessed), 1e-9)
        curvature = (inputs * slack[:, None]).T @ inputs + 1e-9 * np.eye(len(weights))
        step = np.linalg.solve(curvature, inputs.T @ (guessed - target))
        step *= min(1.0, 1.0 / max(float(np.abs(step).max()), 1e-12))  # no leap out of where the curve is curved
        weights = weights - step
        if float(np.abs(step).max()) < 1e-10:
            break
    return weights


def smoothed_doubt(total: float, count: int, usual: float) -> float:
    """The mean doubt of a phone of which there were `count` with so much doubt in all.

    >>> smoothed_doubt(0.0, 0, 0.2)
    0.2
    """
    return (total + _ADDED * usual) / (count + _ADDED)


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
