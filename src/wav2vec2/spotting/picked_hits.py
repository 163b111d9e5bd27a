"""From scores of frames to hits: one for one utterance.

In each frame the score says how well the keyword fits that ends there. While a word is said it rises over a few frames
and falls again, so a hit is the best of what belongs together: the first frame at or above the threshold opens one, a
better one that overlaps it takes its place, and once no better one has come for a while it is told. What overlaps a hit
that was told is the same utterance, and no hit.

Shapes: T frames, K keywords.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from wav2vec2.alignment.keyword_scores import Floats, Integers

#: Seconds in which a better score may still come.
PATIENCE = 0.3


class Peak(NamedTuple):
    """A keyword by its number, its first and its last frame, and its score between 0 and 1."""

    keyword: int
    first: int
    last: int
    score: float


class _Told(NamedTuple):
    """A hit, and the frame that settled it."""

    frame: int
    peak: Peak


class HitPicker:
    """Follows the scores of one stream. It depends on the frames alone, not on the pieces in which they come."""

    def __init__(self, thresholds: Sequence[float], patience: int) -> None:
        self._thresholds, self._patience = thresholds, patience
        self._open: dict[int, Peak] = {}
        #: By keyword, the frame behind its last hit.
        self._free = [0] * len(thresholds)
        self._frames = 0

    def add(self, scores: Floats, began: Integers) -> list[Peak]:
        """The hits that the next frames settle, in the order in which they are settled: scores (T, K) from 0 to 1."""
        told: list[_Told] = []
        for keyword, threshold in enumerate(self._thresholds):
            for frame in np.flatnonzero(scores[:, keyword] >= threshold):
                first, last = int(began[frame, keyword]), self._frames + int(frame)
                told += self._one(Peak(keyword, first, last, float(scores[frame, keyword])))
        self._frames += len(scores)
        told += [one for keyword in list(self._open) for one in self._settled(keyword, self._frames - 1)]
        return [one.peak for one in sorted(told)]

    def skip(self, frames: int) -> None:
        """So many frames follow in which no score is at its threshold."""
        self._frames += frames

    def finish(self) -> list[Peak]:
        """No more frames come."""
        found = sorted(self._open.values(), key=lambda hit: (hit.last, hit.keyword))
        self._open = {}
        return found

    def _one(self, peak: Peak) -> Iterator["_Told"]:
        """A frame at or above the threshold, and the hit that it settles."""
        yield from self._settled(peak.keyword, peak.last)
        opened = self._open.get(peak.keyword)
        if opened is not None and peak.first > opened.last:  # another utterance, right behind it
            yield self._tell(opened, peak.last)
            opened = None
        if peak.first >= self._free[peak.keyword] and (opened is None or peak.score > opened.score):
            self._open[peak.keyword] = peak

    def _settled(self, keyword: int, frame: int) -> Iterator["_Told"]:
        opened = self._open.get(keyword)
        if opened is not None and frame - opened.last >= self._patience:
            yield self._tell(opened, opened.last + self._patience)

    def _tell(self, peak: Peak, frame: int) -> "_Told":
        del self._open[peak.keyword]
        self._free[peak.keyword] = peak.last + 1
        return _Told(frame, peak)
