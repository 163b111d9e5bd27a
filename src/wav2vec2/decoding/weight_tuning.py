"""Alpha and beta from a dev set, and what the confidences are worth there.

A decode gives for each utterance its best texts with acoustic score, language score and words apart, so all weights
on a grid can be tried on them at once, without another decode (Och 2003, "Minimum error rate training"). The best are
then decoded with in earnest, which brings new texts into the pool, until nothing gets better.

Shapes: A alphas, E betas.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from wav2vec2.decoding.beam import LanguageModel
from wav2vec2.decoding.confidences import Calibration, ReliabilityBin, reliability_curve
from wav2vec2.decoding.search_space import Weights
from wav2vec2.decoding.transcripts import Hypothesis

#: Told what is done now, and the share of all work that is done at most.
Tell = Callable[[str, float], None]

#: The grid of weights.
_ALPHAS = np.linspace(0.0, 3.0, 31)
_BETAS = np.linspace(-3.0, 6.0, 37)

#: Texts of each utterance that are kept of a decode; decodes with new weights at most; utterances decoded at a time.
_NBEST, _ROUNDS, _BATCH = 20, 4, 8


class TunableDecoder(Protocol):
    """What tuning needs of a decoder: to decode, and that it takes new weights and a new calibration."""

    beam: int
    weights: Weights
    calibration: Calibration
    language_model: LanguageModel | None

    def decode(self, log_probs: Tensor, lengths: Tensor | None = None, nbest: int = 1) -> list[list[Hypothesis]]:
        """The `nbest` texts of each utterance of log_probs (B, T, V), best first."""


@dataclass(frozen=True)
class TuningReport:
    """What was found on a dev set."""

    #: The best weights.
    alpha: float
    beta: float
    #: The word error rate with the weights there were.
    error_rate_before: float
    #: The word error rate with the best.
    error_rate: float
    #: How often words of each confidence were right, with the new calibration.
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

    def decode(self, decoder: TunableDecoder, nbest: int) -> list[list[Hypothesis]]:
        """The best texts of each utterance, from the decoder with the weights it has."""
        found: list[list[Hypothesis]] = [[] for _ in self.utterances]
        for first in range(0, len(self.order), _BATCH):
            numbers = self.order[first : first + _BATCH]
            utterances = [self.utterances[number] for number in numbers]
            lengths = torch.tensor([len(utterance) for utterance in utterances])
            padded = torch.nn.utils.rnn.pad_sequence(utterances, batch_first=True)
            for number, texts in zip(numbers, decoder.decode(padded, lengths, nbest), strict=True):
                found[number] = texts
            if self._tell is not None:
                share = (self._rounds + (first + len(numbers)) / len(self.order)) / (_ROUNDS + 1)
                self._tell(f"decoding, round {self._rounds + 1} of {_ROUNDS + 1} at most", share)
        self._rounds += 1
        return found

    def errors(self, texts: Sequence[list[Hypothesis]]) -> int:
        """The word errors of the best text of each utterance, summed."""
        pairs = zip(texts, self.references, strict=True)
        return sum(compare_words(best[0].text.split(), reference).errors for best, reference in pairs)


class _Candidate(NamedTuple):
    """What is known of a text whatever the weights."""

    #: Its score without the two parts that the weights are for.
    rest: float
    #: Its language score, not weighted.
    language: float
    words: int
    errors: int


def tune_decoder(
    decoder: TunableDecoder,
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
    weights = decoder.weights
    return TuningReport(weights.alpha, weights.beta, before / dev.words, errors / dev.words, curve)


def _search_weights(
    decoder: TunableDecoder, dev: DevSet, texts: list[list[Hypothesis]], errors: int, nbest: int
) -> tuple[list[list[Hypothesis]], int]:
    """Give the decoder the best weights, from those that `texts` were found with; the texts with them, their errors."""
    pool: list[dict[str, _Candidate]] = [{} for _ in texts]
    best = decoder.weights
    found = texts
    for _ in range(_ROUNDS):
        for candidates, of_utterance, reference in zip(pool, found, dev.references, strict=True):
            _add(candidates, of_utterance, reference, decoder.weights)
        alpha, beta = _best_on_grid(pool)
        if (alpha, beta) == (decoder.weights.alpha, decoder.weights.beta):
            break
        decoder.weights = replace(best, alpha=alpha, beta=beta)
        found = dev.decode(decoder, nbest)
        if (now := dev.errors(found)) < errors:
            best, errors, texts = decoder.weights, now, found
    decoder.weights = best
    return texts, errors


def _add(pool: dict[str, _Candidate], texts: Sequence[Hypothesis], reference: list[str], weights: Weights) -> None:
    """Put the texts of an utterance, decoded with these weights, into its pool."""
    for text in texts:
        if text.text not in pool and text.score > -np.inf:
            words = text.text.split()
            rest = text.score - weights.alpha * text.language_score - weights.beta * len(words)
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


def _calibrate(decoder: TunableDecoder, dev: DevSet, texts: Sequence[list[Hypothesis]]) -> list[ReliabilityBin]:
    """Fit the confidences to the words of the best texts, if some are right and some wrong; how reliable they are."""
    words = [word for best in texts for word in best[0].words]
    correct: list[bool] = []
    for best, reference in zip(texts, dev.references, strict=True):
        correct += compare_words([word.text for word in best[0].words], reference).correct
    if len(set(correct)) == 2:
        decoder.calibration = Calibration.fit([word.evidence for word in words], correct)
    return reliability_curve([decoder.calibration.confidence(word.evidence) for word in words], correct)


class ComparedWords(NamedTuple):
    """Word errors (substitutions, insertions, deletions), and for each word of the hypothesis whether it is right."""

    errors: int
    correct: list[bool]


def compare_words(hypothesis: Sequence[str], reference: Sequence[str]) -> ComparedWords:
    """Levenshtein's distance over words, and the matches on one shortest path: the cheapest edit of the reference.

    >>> compare_words("a cat sat down".split(), "the cat sat".split())
    ComparedWords(errors=2, correct=[False, True, True, False])
    """
    rows = [list(range(len(reference) + 1))]
    for number, word in enumerate(hypothesis, 1):
        row, above = [number], rows[-1]
        for place, other in enumerate(reference):
            row.append(min(above[place] + (word != other), above[place + 1] + 1, row[place] + 1))
        rows.append(row)
    correct = [False] * len(hypothesis)
    number, place = len(hypothesis), len(reference)
    while number and place:
        cost, match = rows[number][place], hypothesis[number - 1] == reference[place - 1]
        if cost == rows[number - 1][place - 1] + (not match):
            correct[number - 1] = match
            number, place = number - 1, place - 1
        elif cost == rows[number - 1][place] + 1:
            number -= 1
        else:
            place -= 1
    return ComparedWords(rows[-1][-1], correct)
