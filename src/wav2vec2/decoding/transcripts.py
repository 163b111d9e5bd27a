"""What a decoder answers: texts, and from their token ids words and tokens with times and confidences.

Shapes: N texts, T frames, V tokens.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from wav2vec2.alignment.forced_alignment import PADDING, Span, align, silence_as_blank
from wav2vec2.alignment.frame_times import FrameTimes, in_order
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
        duration = self.times.duration(frames)
        intervals = in_order([self.times.interval(span.start, span.end, duration) for span in spans])
        tokens = [
            Token(self.speller.vocabulary[span.token], start, end, span.confidence)
            for span, (start, end) in zip(spans, intervals, strict=True)
        ]
        words, place = [], 0
        for spelling, of_word in zip(spellings, measured, strict=True):
            start, end = tokens[place].start, tokens[place + len(spelling) - 1].end
            words.append(Word(self.name(spelling), start, end, self.calibration.confidence(of_word), of_word))
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
    log_probs: Tensor, text: Sequence[Spelling], spans: Sequence[Span], speller: Speller, agreement: Sequence[float]
) -> list[tuple[float, ...]]:
    """The features of each word of a text in log_probs (T, V) on a CPU; `agreement` is the beam's, one a word."""
    if not spans:
        return []
    quiet = _quiet(log_probs, speller)
    state = torch.full((len(quiet),), speller.blank)
    for span in spans:
        state[span.start : span.end] = span.token
    of_path = quiet.gather(1, state[:, None])[:, 0].clamp(min=-50.0)
    lag = torch.nn.functional.pad((quiet.amax(1) - of_path).cumsum(0), (1, 0)).tolist()
    summed = torch.nn.functional.pad(of_path.cumsum(0), (1, 0)).tolist()
    measured, place = [], 0
    for spelling, agreed in zip(text, agreement, strict=True):
        of_word = spans[place : place + len(spelling)]
        means = [(summed[span.end] - summed[span.start]) / (span.end - span.start) for span in of_word]
        measured.append(features(means, lag[of_word[-1].end] - lag[of_word[0].start], agreed))
        place += len(spelling)
    return measured


def words_of_beams(tokens: Tensor, speller: Speller) -> list[list[list[tuple[Spelling, int, int]]]]:
    """The words of each text of each beam, with the first and the last frame of each, from one copy off the device.

    `tokens` (B, K, T) are what the frames added; a number outside the vocabulary stands where that was nothing.
    """
    table = tokens.cpu().numpy()
    added = table < len(speller.vocabulary)
    pairs = zip(added.nonzero()[2].tolist(), table[added].tolist(), strict=True)  # of all texts, one after the other
    return [[_word_places(islice(pairs, count), speller) for count in counts] for counts in added.sum(2).tolist()]


def _word_places(added: Iterable[tuple[int, int]], speller: Speller) -> list[tuple[Spelling, int, int]]:
    """The words that tokens spell, which stand behind their frames, each with its first and its last frame."""
    words: list[tuple[Spelling, int, int]] = []
    spelling: list[int] = []
    start = last = 0
    for frame, token in added:
        if spelling and (token == speller.delimiter or speller.delimiter is None):
            words.append((tuple(spelling), start, last))
            spelling = []
        if token != speller.delimiter:
            start, last = (start if spelling else frame), frame
            spelling.append(token)
    return [*words, (tuple(spelling), start, last)] if spelling else words


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
