"""How much of the beam agrees with a word: the posterior mass of the best texts that hold it at the same time.

Late words of an utterance have rivals in the beam, early ones have outlived theirs: this says little where all agree,
and much where they do not.
"""

import math
from collections import defaultdict
from collections.abc import Sequence

from wav2vec2.decoding.spelling import Speller, Spelling

#: Texts that are asked; those below have hardly any mass.
JURY = 10


def word_places(tokens: Sequence[int], speller: Speller) -> list[tuple[Spelling, int, int]]:
    """The words in a row of tokens, one a frame (a number outside the vocabulary where none was added), and when."""
    words: list[tuple[Spelling, int, int]] = []
    spelling: list[int] = []
    start = last = 0
    for frame, token in enumerate(tokens):
        if token >= len(speller.vocabulary):
            continue
        if spelling and (token == speller.delimiter or speller.delimiter is None):
            words.append((tuple(spelling), start, last))
            spelling = []
        if token != speller.delimiter:
            start, last = (start if spelling else frame), frame
            spelling.append(token)
    return [*words, (tuple(spelling), start, last)] if spelling else words


def support(texts: Sequence[Sequence[tuple[Spelling, int, int]]], scores: Sequence[float]) -> list[list[float]]:
    """For each word of each text, the share of the texts' mass (their scores are logs) that agrees with it."""
    jury = list(zip(texts[:JURY], _posteriors(scores[:JURY]), strict=True))
    places: dict[Spelling, list[tuple[int, int, int]]] = defaultdict(list)
    for juror, (words, _) in enumerate(jury):
        for spelling, start, end in words:
            places[spelling].append((juror, start, end))
    return [
        [_agreement(places[spelling], start, end, [share for _, share in jury]) for spelling, start, end in words]
        for words in texts
    ]


def _agreement(places: Sequence[tuple[int, int, int]], start: int, end: int, shares: Sequence[float]) -> float:
    jurors = {juror for juror, other_start, other_end in places if other_start <= end and start <= other_end}
    return min(1.0, sum(shares[juror] for juror in jurors))


def _posteriors(scores: Sequence[float]) -> list[float]:
    best = max(scores)
    if best == -math.inf:
        return [1.0 / len(scores)] * len(scores)
    weights = [math.exp(score - best) for score in scores]
    return [weight / sum(weights) for weight in weights]
