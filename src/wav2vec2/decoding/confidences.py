"""How likely a decoded word is to be right, from how well the audio and the beam support it.

Four things are measured of each word: the mean and the least log-probability of its tokens in the frames they are
aligned to, by how much the best token of each frame of the word beats the aligned one, per token, and how much of the
beam agrees (`transcripts.support`; as log-odds, 0 where there was no beam). A logistic regression turns them into a
probability. Its weights are fitted on decoded words with known truth (`fit`); a decoder that never was fitted uses
weights set by hand, which say little more than the order of its words.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: The log-probability below which a token is as wrong as can be, and the share of the beam below which none agrees.
_FLOOR, _LEAST_SUPPORT = -10.0, 1e-3

#: The pull of all weights towards 0, which keeps them finite where the words are told apart perfectly.
_RIDGE = 1e-2


@dataclass(frozen=True)
class Calibration:
    """The weights of a constant and of each of the `features` of a word."""

    constant: float = 3.0
    mean: float = 1.0
    least: float = 0.25
    lag: float = -0.5
    support: float = 0.5

    def confidence(self, measured: Sequence[float]) -> float:
        """The probability that a word with these features is right."""
        return self.confidences([measured])[0]

    def confidences(self, measured: Sequence[Sequence[float]]) -> list[float]:
        """The same for many words."""
        if not measured:
            return []
        weights = np.array([self.constant, self.mean, self.least, self.lag, self.support])
        inputs = np.array([(1.0, *of_word) for of_word in measured])
        likely: list[float] = _logistic(
            (inputs[:, None] @ weights)[:, 0]
        ).tolist()  # word by word: no sum depends on others
        return likely

    @classmethod
    def fit(cls, measured: Sequence[Sequence[float]], correct: Sequence[bool]) -> "Calibration":
        """Logistic regression (Newton's method, a slight ridge) of correctness on the features of decoded words."""
        if len(measured) != len(correct) or len(set(correct)) < 2:
            raise ValueError(
                f"calibration needs words that are right and words that are wrong; got {len(correct)} words, "
                f"{sum(correct)} right"
            )
        inputs = np.column_stack([np.ones(len(measured)), np.asarray(measured, dtype=np.float64)])
        truth = np.asarray(correct, dtype=np.float64)
        weights = np.zeros(inputs.shape[1])
        for _ in range(50):
            likely = _logistic(inputs @ weights)
            slope = inputs.T @ (likely - truth) + _RIDGE * weights
            curve = (inputs * (likely * (1 - likely))[:, None]).T @ inputs + _RIDGE * np.eye(len(weights))
            step = np.linalg.solve(curve, slope)
            weights -= step / max(1.0, float(np.abs(step).max()))
            if np.abs(step).max() < 1e-6:
                break
        return cls(*weights.tolist())


def features(token_log_probs: Sequence[float], lag: float, support: float = 0.5) -> tuple[float, ...]:
    """The evidence for one word.

    Mean and least log-probability of its tokens; its lag, in nats a token, behind the best path through its frames;
    the log-odds of `support`, the share of the beam that agrees.
    """
    bounded = [max(value, _FLOOR) for value in token_log_probs]
    odds = math.log(max(support, _LEAST_SUPPORT) / max(1 - support, _LEAST_SUPPORT))
    return sum(bounded) / len(bounded), min(bounded), min(lag / len(bounded), -_FLOOR), odds


@dataclass(frozen=True)
class ReliabilityBin:
    """Words whose confidence is in [lower, upper)."""

    lower: float
    upper: float
    #: How many words.
    count: int
    #: The mean of their confidences.
    confidence: float
    #: The share of them that is right.
    accuracy: float


def reliability_curve(confidences: Sequence[float], correct: Sequence[bool], bins: int = 10) -> list[ReliabilityBin]:
    """Confidence against correctness in equal bins, the empty ones left out: calibrated words lie on the diagonal.

    >>> reliability_curve([0.9, 0.94, 0.2], [True, True, False], bins=2)[0]
    ReliabilityBin(lower=0.0, upper=0.5, count=1, confidence=0.2, accuracy=0.0)
    """
    if len(confidences) != len(correct):
        raise ValueError(f"{len(confidences)} confidences but {len(correct)} verdicts")
    likely, right = np.asarray(confidences, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    place = np.minimum((likely * bins).astype(int), bins - 1)
    curve = []
    for number in np.unique(place).tolist():
        inside = place == number
        mean, accuracy = float(likely[inside].mean()), float(right[inside].mean())
        curve.append(ReliabilityBin(number / bins, (number + 1) / bins, int(inside.sum()), mean, accuracy))
    return curve


def _logistic(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(values, -50, 50)))
