"""Is a keyword said in frames that come one after the other, and where? Its best alignment anywhere, beside the best
path of all over the same frames.

Let d(t, v) be the log-probability of token v in frame t, less that of the best token there: how much, in nats, it costs
to be at v instead. Every row of tokens is a path of CTC, so the best path of all costs nothing in any frame, and

    score(e) = max over starts s <= e and over alignments of the keyword with frames s ... e of the sum of d

is the logarithm of how likely the keyword is beside whatever is likeliest in the same frames. It is 0 where greedy
search writes the keyword, and lower everywhere else. The best start comes with the recursion: a path may begin in any
frame at no cost, and each state carries along the frame in which its best path began. One frame takes as many steps as
the keyword has tokens, whatever came before.

A score is divided by the tokens of the keyword, so that those of long and of short ones can be compared: it is what a
token loses on average. (Frames say nothing of how much there is to get wrong: CTC is silent in most of them.)

Shapes: B streams, T frames, V tokens, K keywords, U tokens of the longest, P = 2 U states: a start that no frame is
spent in, then the tokens with a blank between any two. In front of them stand two that are never reached.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_IMPOSSIBLE = -np.inf

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass
class KeywordPaths:
    """Where one stream stands: the best path into each state."""

    #: (K, 2 + P) what it costs.
    best: Floats
    #: (K, 2 + P) the frame in which it began.
    began: Integers
    #: How many frames were heard.
    frames: int = 0


class KeywordScores(NamedTuple):
    """For each frame (T, K): the score of the keyword that ends in it, and the frame in which that one began."""

    scores: Floats
    began: Integers


class KeywordTrellis:
    """Scores of keywords, each a row of tokens, frame by frame; keywords and streams are computed side by side."""

    def __init__(self, keywords: Sequence[Sequence[int]], blank: int) -> None:
        if not keywords or not all(keywords):
            raise ValueError("keywords: at least one is needed, and none may be empty")
        longest = max(map(len, keywords))
        self._labels = np.full((len(keywords), 2 * longest), blank)  # (K, P)
        self._skips = np.zeros((len(keywords), 2 * longest), bool)  # into a state from two before
        for row, tokens in enumerate(keywords):
            self._labels[row, 1 : 2 * len(tokens) : 2] = tokens
            self._skips[row, 3 : 2 * len(tokens) : 2] = np.diff(tokens) != 0
        self._lengths = np.array([len(tokens) for tokens in keywords])
        self._last = 1 + 2 * self._lengths  # the state of the last token, behind the two

    def begin(self) -> KeywordPaths:
        """Of a stream of which nothing was heard."""
        shape = (len(self._labels), 2 + self._labels.shape[1])
        return KeywordPaths(np.full(shape, _IMPOSSIBLE), np.zeros(shape, np.int64))

    def advance(self, streams: Sequence[KeywordPaths], costs: Sequence[Floats]) -> list[KeywordScores]:
        """The scores of the next frames of each stream, whose d (T, V) are `costs`: any number of frames."""
        lengths = np.array([len(one) for one in costs])
        order = np.argsort(-lengths, kind="stable")  # longest first: those that still run are the first so many
        best, began = (np.stack([getattr(streams[row], name) for row in order]) for name in ("best", "began"))
        heard = np.array([streams[row].frames for row in order])
        padded = np.zeros((len(order), lengths.max(initial=0), costs[0].shape[1]))  # (B, T, V)
        for place, row in enumerate(order):
            padded[place, : lengths[row]] = costs[row]
        scores = np.empty((*padded.shape[:2], len(self._lengths)))
        begins = np.empty(scores.shape, np.int64)
        keyword = np.arange(len(self._lengths))
        for frame in range(padded.shape[1]):
            running = int((lengths > frame).sum())
            now, since = best[:running], began[:running]
            self._step(now, since, heard[:running] + frame, padded[:running, frame])
            scores[:running, frame] = now[:, keyword, self._last] / self._lengths
            begins[:running, frame] = since[:, keyword, self._last]
        found: list[KeywordScores] = [KeywordScores(scores[0], begins[0])] * len(order)
        for place, row in enumerate(order):
            streams[row].best, streams[row].began = best[place], began[place]
            streams[row].frames += int(lengths[row])
            found[row] = KeywordScores(scores[place, : lengths[row]], begins[place, : lengths[row]])
        return found

    def _step(self, best: Floats, began: Integers, frame: Integers, costs: Floats) -> None:
        """From each state (B, K, 2 + P) into the next frame, whose number is `frame` (B,), with d (B, V)."""
        best[:, :, 2], began[:, :, 2] = 0.0, frame[:, None]  # it may begin here
        into, since = best[:, :, 2:].copy(), began[:, :, 2:].copy()
        for back, allowed in ((1, True), (2, self._skips)):
            other = best[:, :, 2 - back : -back]
            better = (other > into) & allowed
            np.copyto(into, other, where=better)
            np.copyto(since, began[:, :, 2 - back : -back], where=better)
        into += costs[:, self._labels]
        best[:, :, 2:], began[:, :, 2:] = into, since
