"""What a decoder answers: texts, and from their token ids words and tokens with times and confidences.

Shapes: N texts, T frames, V tokens.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from wav2vec2.alignment.forced_alignment import PADDING, Span, align, silence_as_blank
from wav2vec2.alignment.frame_times import FrameTimes
from wav2vec2.decoding.confidences import Calibration, features
from wav2vec2.decoding.spelling import Speller, Spelling

#: The best texts of a beam that are asked about a word; those below have hardly any mass.
JURY = 10


@dataclass(frozen=True)
class Token:
    """One letter (or other entry of the vocabulary) with its time in seconds."""

    text: str
    start: float
    end: float
    #: The mean of its probability in its frames.
    confidence: float


@dataclass(frozen=True)
class Word:
    """One word, from the start of its first token to the end of its last, in seconds."""

    text: str
    start: float
    end: float
    #: How likely it is to be right.
    confidence: float
    #: What the confidence was computed from (see `confidences.features`).
    evidence: tuple[float, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True)
class Hypothesis:
    """One text an utterance may hold."""

    text: str
    #: What the search ranks by: `acoustic_score` + alpha x `language_score` + beta per word + the bonuses of hotwords
    #: and unknown words. `-inf` says that no path spells anything allowed.
    score: float
    words: list[Word] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    #: Natural log of the summed probability of all paths that spell the text; of the one best path for greedy search.
    acoustic_score: float = 0.0
    #: Natural log of the language model's probability, with the end of the sentence.
    language_score: float = 0.0


@dataclass(frozen=True)
class Reader:
    """What turns spans of tokens into words with times and confidences."""

    speller: Speller
    #: The word that a spelling stands for.
    name: Callable[[Spelling], str]
    times: FrameTimes
    calibration: Calibration

    def words(
        self, spellings: Sequence[Spelling], spans: Sequence[Span], frames: int, measured: Sequence[tuple[float, ...]]
    ) -> tuple[list[Word], list[Token]]:
        """Words and tokens of one text from the spans of all its tokens, and the features of its words."""
        starts, ends = [span.start for span in spans], [span.end for span in spans]
        intervals = self.times.intervals(starts, ends, self.times.duration(frames))
        tokens = [
            Token(self.speller.vocabulary[span.token], start, end, span.confidence)
            for span, (start, end) in zip(spans, intervals, strict=True)
        ]
        words, place = [], 0
        for spelling, of_word, sure in zip(spellings, measured, self.calibration.confidences(measured), strict=True):
            start, end = tokens[place].start, tokens[place + len(spelling) - 1].end
            words.append(Word(self.name(spelling), start, end, sure, of_word))
            place += len(spelling)
        return words, tokens


def locate(
    log_probs: Tensor, lengths: Tensor, texts: Sequence[Sequence[Spelling]], speller: Speller
) -> list[list[Span]]:
    """The spans of the tokens of each text in log_probs (N, T, V): one list per text, delimiters left out.

    Between and around tokens a word delimiter is as good as a blank, since hypotheses may have any number of either.
    """
    rows = [[token for spelling in text for token in spelling] for text in texts]
    some = [number for number, row in enumerate(rows) if row]
    spans: list[list[Span]] = [[] for _ in rows]
    if not some:
        return spans
    targets = torch.nn.utils.rnn.pad_sequence([torch.tensor(rows[number]) for number in some], True, PADDING)
    quiet = _quiet(log_probs[some], speller)
    for number, alignment in zip(some, align(quiet, targets, lengths[some], blank=speller.blank), strict=True):
        spans[number] = list(alignment)
    return spans


def _quiet(log_probs: Tensor, speller: Speller) -> Tensor:
    """Log-probabilities (..., V) with the better of blank and word delimiter as the blank.

    It is the maximum because a frame is compared with single tokens: the lag of a word counts by how much the best of
    them beats the aligned one.
    """
    return silence_as_blank(log_probs, speller.blank, speller.delimiter, torch.maximum)


def measure(
    log_probs: Tensor,
    of: Sequence[int],
    texts: Sequence[Sequence[Spelling]],
    spans: Sequence[Sequence[Span]],
    speller: Speller,
    agreement: Sequence[Sequence[float]],
) -> list[list[tuple[float, ...]]]:
    """The features of each word of each text.

    `of` (N,) says which of the log_probs (B, T, V), on a CPU, a text was found in; `agreement` is the beam's, one a
    word.
    """
    quiet = _quiet(log_probs, speller)
    lengths = np.array([len(of_text) for of_text in spans], dtype=np.int64)
    every = np.array([span[:3] for one in spans for span in one], dtype=np.int64).reshape(-1, 3)
    token, start, end = every.T  # of all texts, one after the other
    text, size = np.repeat(np.arange(len(spans)), lengths), end - start
    state = np.full((len(spans), quiet.shape[1]), speller.blank)
    inside = np.arange(size.sum()) - np.repeat(size.cumsum() - size - start, size)
    state[np.repeat(text, size), inside] = np.repeat(token, size)
    row = torch.tensor(of, dtype=torch.long)
    of_path = quiet[row[:, None], torch.arange(quiet.shape[1]), torch.from_numpy(state)].clamp(min=-50.0)  # (N, T)
    lag, summed = (
        torch.nn.functional.pad(values.cumsum(1), (1, 0)).double().numpy()
        for values in (quiet.amax(2)[row] - of_path, of_path)
    )
    means = iter(((summed[text, end] - summed[text, start]) / size).tolist())
    behind = iter(zip(lag[text, start].tolist(), lag[text, end].tolist(), strict=True))
    return [
        [_of_word(list(islice(means, len(word))), list(islice(behind, len(word))), agreed) for word, agreed in words]
        for words in (zip(*each, strict=True) for each in zip(texts, agreement, strict=True))
    ]


def _of_word(means: Sequence[float], lags: Sequence[tuple[float, float]], agreed: float) -> tuple[float, ...]:
    """The features of a word, from each token's mean and the lags before and behind it."""
    return features(means, lags[-1][1] - lags[0][0], agreed)


def words_of_beams(tokens: Tensor, speller: Speller) -> list[list[list[tuple[Spelling, int, int]]]]:
    """The words of each text of each beam, with the first and the last frame of each, from one copy off the device.

    `tokens` (B, K, T) are what the frames added; a number outside the vocabulary stands where that was nothing.
    """
    table = tokens.flatten(0, 1).cpu().numpy()  # (B K, T)
    letters = table < len(speller.vocabulary)
    if speller.delimiter is not None:
        letters &= table != speller.delimiter
    text, frame = letters.nonzero()  # of all texts, one after the other
    begins = np.ones(len(frame), dtype=bool)
    if speller.delimiter is not None:  # a letter goes on with a word that no delimiter has ended since the last letter
        ended = (table == speller.delimiter).cumsum(1)[text, frame]
        begins[1:] = (text[1:] != text[:-1]) | (ended[1:] != ended[:-1])
    starts = begins.nonzero()[0]
    ends = np.append(starts[1:], len(frame))[: len(starts)]
    said = table[letters].tolist()
    spellings = [tuple(said[start:end]) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    words = iter(zip(spellings, frame[starts].tolist(), frame[ends - 1].tolist(), strict=True))
    counts = np.bincount(text[starts], minlength=len(table)).reshape(tokens.shape[:2])
    return [[list(islice(words, int(count))) for count in of_beam] for of_beam in counts]


def support(
    texts: Sequence[Sequence[tuple[Spelling, int, int]]], scores: Sequence[float], best: int
) -> list[list[float]]:
    """How much of the beam agrees with each word of the `best` texts, from all texts and their scores (logs), in order.

    It is the posterior mass of the best texts that hold the word at the same time. Late words of an utterance have
    rivals in the beam, early ones have outlived theirs: this says little where all agree, and much where they do not.
    """
    jury = list(zip(texts[:JURY], _posteriors(scores[:JURY]), strict=True))
    shares = [share for _, share in jury]
    places: dict[Spelling, list[tuple[int, int, int]]] = defaultdict(list)
    for juror, (words, _) in enumerate(jury):
        for spelling, start, end in words:
            places[spelling].append((juror, start, end))
    return [
        [_agreement(places[spelling], start, end, shares) for spelling, start, end in words] for words in texts[:best]
    ]


def _agreement(places: Sequence[tuple[int, int, int]], start: int, end: int, shares: Sequence[float]) -> float:
    jurors = {juror for juror, other_start, other_end in places if other_start <= end and start <= other_end}
    return min(1.0, sum(shares[juror] for juror in jurors))


def _posteriors(scores: Sequence[float]) -> list[float]:
    """The share of each text in the mass of all; equal shares where none has any."""
    best = max(scores)
    if best == -math.inf:
        return [1.0 / len(scores)] * len(scores)
    weights = [math.exp(score - best) for score in scores]
    return [weight / sum(weights) for weight in weights]
