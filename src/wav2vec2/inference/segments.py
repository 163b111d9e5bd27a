"""Frames of a recording that wait for the decoder, cut between words so that no recording is too long to decode.

A cut depends on the frames alone, never on the windows or batches in which they came.

Shapes: T frames, V tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

#: Frames that are decoded at once at most: a minute. A recording that is shorter is never cut.
LONGEST = 3000


@dataclass(frozen=True)
class Segment:
    """Log-probabilities (T, V) of a part of a recording that begins at frame `offset`."""

    offset: int
    log_probs: Tensor


class WaitingFrames:
    """The frames of one recording, from `offset` on, that are not decoded yet: `LONGEST` and what has just been added,
    at most."""

    def __init__(self, blank: int, delimiter: int | None, offset: int = 0) -> None:
        self._blank, self._delimiter = blank, delimiter
        self._pieces: list[Tensor] = []
        self._offset = offset

    def add(self, log_probs: Tensor) -> Iterator[Segment]:
        """Append frames (T, V), and give the segments that are full."""
        self._pieces.append(log_probs)
        while sum(map(len, self._pieces)) > LONGEST:
            frames = torch.cat(self._pieces)
            place = cut_place(frames[:LONGEST], self._blank, self._delimiter)
            self._pieces = [frames[place:].clone()]
            yield Segment(self._offset, frames[:place])
            self._offset += place

    def rest(self) -> Iterator[Segment]:
        """What is left at the end of the recording, once."""
        if sum(map(len, self._pieces)):
            yield Segment(self._offset, torch.cat(self._pieces))
        self._pieces = []


def cut_place(log_probs: Tensor, blank: int, delimiter: int | None) -> int:
    """The frame in the second half of (T, V) at which to cut: inside the longest pause between words.

    A pause is a run of frames whose best token is the blank or the delimiter, with a delimiter among them if there is
    one; a cut inside it changes nothing in what greedy search finds. Without a pause it is the quietest frame.
    """
    half = len(log_probs) // 2
    best = log_probs[half:].argmax(-1).tolist()
    place, longest, start = None, 0, 0
    for frame in range(len(best) + 1):
        if frame < len(best) and best[frame] in (blank, delimiter):
            continue
        is_pause = delimiter is None or delimiter in best[start:frame]
        if is_pause and frame - start > longest:
            place, longest = (start + frame) // 2, frame - start
        start = frame + 1
    if place is None:
        quiet = [blank] if delimiter is None else [blank, delimiter]
        place = int(log_probs[half:, quiet].logsumexp(-1).argmax())
    return max(half + place, 1)
