"""Words gathered into captions that a viewer can read.

Where captions end is chosen for the whole recording at once: of all ways that fit the screen, the one whose breaks and
captions cost least (dynamic programming over the words). A break costs nothing after a sentence, little after a comma
or in a long pause, most where speech runs on; a caption costs something, and more the emptier it is.

Shapes: N words.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from wav2vec2.inference.timed_words import TimedWord, milliseconds

#: What fits on a screen and can be read in time: two lines of 42 characters, up to seven seconds.
LINE_LENGTH, LINES, CAPTION_SECONDS = 42, 2, 7.0

#: Silence, in seconds, after which a new caption begins.
PAUSE = 0.8

_SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？")
_CLAUSE_ENDS = (",", ";", ":", "–", "—", "،", "、", "，")

#: Costs, in parts of a break where speech runs on: a break after a clause, a caption, an empty one on top.
_CLAUSE, _CAPTION, _EMPTY = 0.3, 0.2, 0.3


@dataclass(frozen=True)
class Caption:
    """Lines of text shown from `start` to `end`, in milliseconds."""

    start: int
    end: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _Piece:
    text: str
    start: int
    end: int


def captions(words: Sequence[TimedWord], duration: float) -> list[Caption]:
    """Words in captions that fit the screen, in order, each word in exactly one.

    A caption ends in every long pause and after every sentence; where a sentence is too long for one, it is cut after
    a comma or in the longest pauses, into captions of similar length, with lines of similar length.
    """
    times = milliseconds(words, duration, 1)
    pieces = [_Piece(" ".join(word.text.split()), *time) for word, time in zip(words, times, strict=True)]
    pieces = [piece for piece in pieces if piece.text]
    least, begins = [0.0], [0]  # of the first n words: the cost of their best captions, where the last one begins
    for stop in range(1, len(pieces) + 1):
        cost, begin = min((least[first] + cost, first) for first, cost in _last_captions(pieces, stop))
        least.append(cost + _break_cost(pieces, stop))
        begins.append(begin)
    found: list[Caption] = []
    stop = len(pieces)
    while stop:
        shown = pieces[begins[stop] : stop]
        found.append(Caption(shown[0].start, shown[-1].end, _lines([piece.text for piece in shown])))
        stop = begins[stop]
    return found[::-1]


def _last_captions(pieces: Sequence[_Piece], stop: int) -> list[tuple[int, float]]:
    """Where a caption that ends before word `stop` may begin, and what it costs."""
    possible = []
    length = -1
    for first in range(stop - 1, -1, -1):
        length += 1 + len(pieces[first].text)
        alone = first == stop - 1
        if not alone and (_must_break(pieces, first + 1) or not _fits(pieces, first, stop, length)):
            break
        emptiness = max(0.0, 1 - length / (LINES * LINE_LENGTH))
        possible.append((first, _CAPTION + _EMPTY * emptiness**2))
    return possible


def _fits(pieces: Sequence[_Piece], first: int, stop: int, length: int) -> bool:
    if length > LINES * LINE_LENGTH + LINES - 1 or pieces[stop - 1].end - pieces[first].start > CAPTION_SECONDS * 1000:
        return False
    return length <= LINE_LENGTH or _split([piece.text for piece in pieces[first:stop]]) is not None


def _must_break(pieces: Sequence[_Piece], place: int) -> bool:
    """Whether a caption has to end before this word."""
    before, after = pieces[place - 1], pieces[place]
    return before.text.endswith(_SENTENCE_ENDS) or after.start - before.end >= PAUSE * 1000


def _break_cost(pieces: Sequence[_Piece], place: int) -> float:
    """What it costs to end a caption before this word: from 0 to 1."""
    if place == len(pieces) or _must_break(pieces, place):
        return 0.0
    cost = (1 - (pieces[place].start - pieces[place - 1].end) / (PAUSE * 1000)) ** 2
    return _CLAUSE * cost if pieces[place - 1].text.endswith(_CLAUSE_ENDS) else cost


def _lines(texts: Sequence[str]) -> tuple[str, ...]:
    whole = " ".join(texts)
    return (whole,) if len(whole) <= LINE_LENGTH else _split(texts) or (whole,)


def _split(texts: Sequence[str]) -> tuple[str, str] | None:
    """The texts in two lines of the most similar length; None where that does not fit."""
    halves = [(" ".join(texts[:place]), " ".join(texts[place:])) for place in range(1, len(texts))]
    fitting = [half for half in halves if max(map(len, half)) <= LINE_LENGTH]
    return min(fitting, key=lambda half: abs(len(half[0]) - len(half[1])), default=None)
