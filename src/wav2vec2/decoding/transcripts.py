"""From token ids to words and tokens with times and confidences.

Shapes: N texts, T frames, V tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wav2vec2.alignment.forced_alignment import PADDING, Span, align
from wav2vec2.alignment.frame_times import FrameTimes, in_order
from wav2vec2.decoding.confidences import Calibration, features
from wav2vec2.decoding.hypotheses import Token, Word
from wav2vec2.decoding.spelling import Speller, Spelling


@dataclass(frozen=True)
class Reader:
    """What turns spans of tokens into words: spellings, names of words, times, confidences."""

    speller: Speller
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
    quiet = silence(log_probs[some], speller)
    for number, alignment in zip(some, align(quiet, targets, lengths[some], blank=speller.blank), strict=True):
        spans[number] = list(alignment)
    return spans


def silence(log_probs: Tensor, speller: Speller) -> Tensor:
    """Log-probabilities (N, T, V) with the better of blank and word delimiter in the column of the blank."""
    log_probs = log_probs.clone()
    if speller.delimiter is not None:
        blank, delimiter = log_probs[..., speller.blank], log_probs[..., speller.delimiter]
        log_probs[..., speller.blank] = torch.maximum(blank, delimiter)
    return log_probs


def measure(
    log_probs: Tensor, text: Sequence[Spelling], spans: Sequence[Span], speller: Speller, agreement: Sequence[float]
) -> list[tuple[float, ...]]:
    """The features of each word of a text in log_probs (T, V); `agreement` is the beam's, one a word."""
    if not spans:
        return []
    quiet = silence(log_probs, speller).cpu()
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
