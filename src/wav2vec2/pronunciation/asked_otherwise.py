"""Recordings of which all is known to be right, and what to ask for instead, so that some of it is wrong.

Who has recordings that were transcribed has no speech with errors. But a "cat" of which "cap" is asked for is a t that
was said for a p, whoever says it; and where "carpt" is asked for, the t was left out.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from wav2vec2.alignment.spoken_text import Judged
from wav2vec2.pronunciation.asked_for import AskedWord

#: The share of tokens that are asked for otherwise; of those, the share beside which one more is asked for.
_SHARE, _MORE = 0.1, 1 / 3

#: What is asked for instead is one of so many that the model itself takes it for most easily: others are told apart by
#: any model, and would make it seem better than it is.
_NEAREST = 6


def nearest(places: Iterable[tuple[int, Judged]]) -> dict[int, list[int]]:
    """For each token that was said, those that the model finds the likeliest in its stead."""
    found: dict[int, Counter[int]] = defaultdict(Counter)
    for token, place in places:
        for other in place.candidates:
            if other.token not in (None, token):
                assert other.token is not None
                found[token][other.token] += other.probability  # type: ignore[assignment]
    return {token: [other for other, _ in shares.most_common(_NEAREST)] for token, shares in found.items()}


def asked_otherwise(
    words: Sequence[AskedWord], near: Mapping[int, Sequence[int]], tokens: Sequence[int], chance: random.Random
) -> list[AskedWord]:
    """The words with some tokens replaced, and others put in, of all `tokens` that may be asked for."""
    found = []
    for word in words:
        new: list[int] = []
        for token in word.tokens:
            others = near.get(token) or [other for other in tokens if other != token]
            drawn = chance.random()
            if drawn >= _SHARE or not others:
                new.append(token)
            elif drawn < _SHARE * _MORE:  # no double, of which nobody knows which one was left out
                new += [chance.choice([other for other in tokens if other not in (token, *new[-1:])] or others), token]
            else:
                new.append(chance.choice(others))
        found.append(word._replace(tokens=tuple(new)))
    return found
