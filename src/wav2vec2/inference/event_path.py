"""From what a model thinks of every frame to stretches of one label: the best path on which every label lasts.

Of all ways to cut a recording into stretches, each at least as long as its label's minimum, the one is taken whose
frames are likeliest in all, where every change of label costs a little (Viterbi). A median over neighbouring frames
would move the ends of short sounds and promises no shortest one; a path decides all of this at once, by two numbers
with a meaning: no stretch is shorter than its minimum, and a label must be so many nats likelier than its neighbours
over its whole stretch to be worth two changes. What the recording's beginning or end cuts off may be shorter.

Frames are taken one by one, whatever the pieces they come in, and a stretch is given as soon as no frame to come can
change it: the memory is that of the longest minimum and of what is still open.

Shapes: T frames, N labels.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Stretch:
    """Frames `start` ... `end` - 1 of one label."""

    #: The number of the label.
    label: int
    start: int
    end: int
    #: The mean over its frames of the label's probability.
    confidence: float


@dataclass(eq=False)
class _Begun:
    """A stretch on a path, and the path before it."""

    label: int
    start: int
    #: The probabilities (N,) of all frames before it, added up.
    sums: NDArray[np.float64]
    before: "_Begun | None"


class EventPath:
    """The best path through the frames of one recording: `add` them, then `finish`."""

    def __init__(self, minimum: Sequence[int], switching_cost: float) -> None:
        """`minimum` is the fewest frames of each label."""
        if min(minimum) < 1 or not switching_cost >= 0:
            raise ValueError(f"minimum={list(minimum)}, switching_cost={switching_cost}: at least 1, and not negative")
        self._minimum, self._cost = list(minimum), switching_cost
        labels = range(len(minimum))
        self._frame = 0
        self._scores = np.zeros(len(minimum))  # log-probabilities of all frames so far, added up
        self._sums = np.zeros(len(minimum))
        # of the best path that ends in each label, which has lasted long enough
        self._best: list[float] = [0.0 for _ in labels]
        self._paths: list[_Begun] = [_Begun(label, 0, self._sums, None) for label in labels]
        # by the label of its first frame: the best paths that a stretch begun at each of the last frames goes on from
        self._openings: deque[list[tuple[float, _Begun]]] = deque()
        self._given = 0  # frames of the stretches that were given

    def add(self, log_probs: NDArray[np.float64]) -> Iterator[Stretch]:
        """Take in more frames (T, N); the stretches that are certain by now."""
        for row in log_probs:
            self._take(row)
        yield from self._certain()

    def finish(self) -> Iterator[Stretch]:
        """What is left at the end of the recording."""
        if self._frame == 0:
            return
        best, path = max(zip(self._best, self._paths, strict=True), key=lambda one: one[0])
        for opening in self._openings:  # a stretch that the end cuts off may be shorter
            for score, begun in opening:
                total = score + float(self._scores[begun.label])
                if total > best:
                    best, path = total, begun
        yield from self._stretches(path, self._sums, self._frame)

    def _take(self, row: NDArray[np.float64]) -> None:
        """One more frame (N,)."""
        if self._frame:
            self._openings.append(self._opened())
        self._scores = self._scores + row
        self._sums = self._sums + np.exp(row)
        self._frame += 1
        for label, minimum in enumerate(self._minimum):
            self._best[label] += float(row[label])
            if len(self._openings) >= minimum:
                score, begun = self._openings[-minimum][label]
                if score + float(self._scores[label]) > self._best[label]:
                    self._best[label] = score + float(self._scores[label])
                    self._paths[label] = begun
        while len(self._openings) > max(self._minimum):
            self._openings.popleft()

    def _opened(self) -> list[tuple[float, _Begun]]:
        """For each label: a stretch that begins with the next frame, after the best path that ends in another one.

        Its score is without what the label had before, so that the sum up to any later frame completes it.
        """
        order = sorted(range(len(self._best)), key=lambda label: -self._best[label])
        found = []
        for label in range(len(self._best)):
            before = order[0] if order[0] != label else order[-1 if len(order) == 1 else 1]
            score = self._best[before] - self._cost - float(self._scores[label])
            if len(order) == 1:  # nothing to change to
                score = -np.inf
            found.append((score, _Begun(label, self._frame, self._sums, self._paths[before])))
        return found

    def _certain(self) -> Iterator[Stretch]:
        """The stretches that all paths share which may still win, and forget what they came from."""
        alive = [*self._paths, *(begun for opening in self._openings for _, begun in opening)]
        chains = [_chain(path) for path in alive]
        shared = 0
        while all(len(chain) > shared and chain[shared] is chains[0][shared] for chain in chains):
            shared += 1
        if shared < 2:  # where the last one that they share ends is not known yet
            return
        *over, last = chains[0][:shared]
        for one, following in zip(over, [*over[1:], last], strict=True):
            yield self._stretch(one, following.sums, following.start)
        last.before = None

    def _stretches(self, path: _Begun, sums: NDArray[np.float64], end: int) -> Iterator[Stretch]:
        """Those of a path that goes up to a frame."""
        chain = _chain(path)
        following = [(one.sums, one.start) for one in chain[1:]] + [(sums, end)]
        for one, (after, stop) in zip(chain, following, strict=True):
            yield self._stretch(one, after, stop)

    def _stretch(self, begun: _Begun, sums: NDArray[np.float64], end: int) -> Stretch:
        confidence = float(sums[begun.label] - begun.sums[begun.label]) / (end - begun.start)
        return Stretch(begun.label, begun.start, end, min(confidence, 1.0))


def _chain(path: _Begun) -> list[_Begun]:
    """The stretches of a path, first to last."""
    chain = [path]
    while chain[-1].before is not None:
        chain.append(chain[-1].before)
    return chain[::-1]
