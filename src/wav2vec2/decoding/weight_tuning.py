"""Alpha and beta from a dev set, and what the confidences are worth there.

A decode gives for each utterance its best texts with acoustic score, language score and words apart, so all weights
on a grid can be tried on them at once, without another decode (Och 2003, "Minimum error rate training"). The best are
then decoded with in earnest, which brings new texts into the pool, until nothing gets better.

Shapes: A alphas, E betas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wav2vec2.decoding.confidences import Calibration, ReliabilityBin, reliability_curve
from wav2vec2.decoding.hypotheses import Hypothesis
from wav2vec2.decoding.word_errors import compare_words
from wav2vec2.language_models.training_progress import Tell

if TYPE_CHECKING:
    from wav2vec2.decoding.ctc_decoder import CTCDecoder

_ALPHAS = np.linspace(0.0, 3.0, 31)
_BETAS = np.linspace(-3.0, 6.0, 37)
_NBEST, _ROUNDS, _BATCH = 20, 4, 8


@dataclass(frozen=True)
class TuningReport:
    """What was found: the weights, the word error rate on the dev set before and after, the words' reliability."""

    alpha: float
    beta: float
    error_rate_before: float
    error_rate: float
    reliability: list[ReliabilityBin]


class DevSet:
    """Utterances (T, V) and their texts, decoded in batches of similar length."""

    def __init__(
        self,
        log_probs: Tensor | Sequence[Tensor],
        references: Sequence[str],
        lengths: Tensor | None,
        tell: Tell | None = None,
    ) -> None:
        if isinstance(log_probs, Tensor) and lengths is not None:
            log_probs = [row[:length] for row, length in zip(log_probs, lengths.tolist(), strict=True)]
        self.utterances = list(log_probs)
        self.references = [reference.split() for reference in references]
        if len(self.utterances) != len(references) or not any(self.references):
            raise ValueError(
                f"tune: {len(self.utterances)} utterances and {len(references)} references; "
                "need one reference each, and some words in them"
            )
        self.words = sum(map(len, self.references))
        self._tell, self._rounds = tell, 0
        self.order = sorted(range(len(references)), key=lambda number: len(self.utterances[number]))

    def decode(self, decoder: CTCDecoder, nbest: int) -> list[list[Hypothesis]]:
        """The best texts of each utterance."""
        found: list[list[Hypothesis]] = [[] for _ in self.utterances]
        for first in range(0, len(self.order), _BATCH):
            numbers = self.order[first : first + _BATCH]
            utterances = [self.utterances[number] for number in numbers]
            lengths = torch.tensor([len(utterance) for utterance in utterances])
            padded = torch.nn.utils.rnn.pad_sequence(utterances, batch_first=True)
            for number, texts in zip(numbers, decoder.decode(padded, lengths, nbest), strict=True):
                found[number] = texts
            self._tell_share((first + len(numbers)) / len(self.order))
        self._rounds += 1
        return found

    def _tell_share(self, of_round: float) -> None:
        if self._tell is not None:
            step = f"decoding, round {self._rounds + 1} of {_ROUNDS + 1} at most"
            self._tell(step, (self._rounds + of_round) / (_ROUNDS + 1))

    def errors(self, texts: Sequence[list[Hypothesis]]) -> int:
        """Word errors of the best texts."""
        pairs = zip(texts, self.references, strict=True)
        return sum(compare_words(best[0].text.split(), reference).errors for best, reference in pairs)


class _Candidate(NamedTuple):
    """A text whatever the weights: the rest of its score, its language score, its words, its errors."""

    rest: float
    language: float
    words: int
    errors: int


def tune_decoder(
    decoder: CTCDecoder,
    log_probs: Tensor | Sequence[Tensor],
    references: Sequence[str],
    lengths: Tensor | None,
    tell: Tell | None = None,
) -> TuningReport:
    """Find the weights with the fewest word errors, calibrate the confidences with them, and store both in `decoder`.

    Weights are only ever kept that were decoded with and did better. Confidences stay as they were where the dev set
    has no right or no wrong words.
    """
    dev = DevSet(log_probs, references, lengths, tell)
    nbest = min(_NBEST, decoder.beam)
    texts = dev.decode(decoder, nbest)
    before = errors = dev.errors(texts)
    if decoder.language_model is not None:
        texts, errors = _search_weights(decoder, dev, texts, errors, nbest)
    curve = _calibrate(decoder, dev, texts)
    return TuningReport(decoder.alpha, decoder.beta, before / dev.words, errors / dev.words, curve)


def _search_weights(
    decoder: CTCDecoder, dev: DevSet, texts: list[list[Hypothesis]], errors: int, nbest: int
) -> tuple[list[list[Hypothesis]], int]:
    pool: list[dict[str, _Candidate]] = [{} for _ in texts]
    best = decoder.weights
    found = texts
    for _ in range(_ROUNDS):
        for candidates, of_utterance, reference in zip(pool, found, dev.references, strict=True):
            _add(candidates, of_utterance, reference, decoder.alpha, decoder.beta)
        alpha, beta = _best_on_grid(pool)
        if (alpha, beta) == (decoder.alpha, decoder.beta):
            break
        decoder.weights = replace(best, alpha=alpha, beta=beta)
        found = dev.decode(decoder, nbest)
        if (now := dev.errors(found)) < errors:
            best, errors, texts = decoder.weights, now, found
    decoder.weights = best
    return texts, errors


def _add(
    pool: dict[str, _Candidate], texts: Sequence[Hypothesis], reference: list[str], alpha: float, beta: float
) -> None:
    for text in texts:
        if text.text not in pool and text.score > -np.inf:
            words = text.text.split()
            rest = text.score - alpha * text.language_score - beta * len(words)
            errors = compare_words(words, reference).errors
            pool[text.text] = _Candidate(rest, text.language_score, len(words), errors)


def _best_on_grid(pool: Sequence[dict[str, _Candidate]]) -> tuple[float, float]:
    """The weights with the fewest errors, smoothed over neighbours on the grid: a wide valley beats a lucky point."""
    errors = np.zeros((len(_ALPHAS), len(_BETAS)))
    for candidates in pool:
        if candidates:
            rest, language, words, wrong = np.array(list(candidates.values())).T
            score = rest + _ALPHAS[:, None, None] * language + _BETAS[:, None] * words  # (A, E, texts)
            errors += wrong[score.argmax(-1)]
    padded = np.pad(errors, 1, mode="edge")
    rows, columns = errors.shape
    smooth = sum(padded[i : i + rows, j : j + columns] for i in range(3) for j in range(3))
    alpha, beta = np.unravel_index(np.argmin(smooth), errors.shape)
    return float(_ALPHAS[alpha]), float(_BETAS[beta])


def _calibrate(decoder: CTCDecoder, dev: DevSet, texts: Sequence[list[Hypothesis]]) -> list[ReliabilityBin]:
    words = [word for best in texts for word in best[0].words]
    correct: list[bool] = []
    for best, reference in zip(texts, dev.references, strict=True):
        correct += compare_words([word.text for word in best[0].words], reference).correct
    if len(set(correct)) == 2:
        decoder.calibration = Calibration.fit([word.evidence for word in words], correct)
    return reliability_curve([decoder.calibration.confidence(word.evidence) for word in words], correct)
