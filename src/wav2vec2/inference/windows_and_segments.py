"""How recordings are cut: their samples into overlapping windows for the model, their frames into segments to decode.

The model looks at a window; frames closer than `context` to a cut are taken from the neighbour, which sees more on that
side. Windows begin at multiples of the stride, so that their frames are those of the uncut recording, and they are
normalised as the whole recording is. Segments are cut between words, so that no recording is too long to decode; where
depends on the frames alone, never on the windows or batches in which they came.

Shapes: n samples of a window, T frames, V tokens.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wav2vec2.alignment.frame_times import FrameTimes
from wav2vec2.inference.audio_inputs import AudioInput
from wav2vec2.processing.audio_sources import AudioError

#: Frames that are decoded at once at most: a minute of frames of 20 ms. A recording that is shorter is never cut.
LONGEST = 3000

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """Samples (n,) for the model. Of its frames `first` ... `last` - 1 are kept."""

    samples: Samples
    first: int
    last: int
    #: The frame of the recording that the first of these is.
    place: int = 0


@dataclass
class Moments:
    """Count, mean and variance of samples that come piece by piece (Chan, Golub and LeVeque 1979), in float64."""

    count: int = 0
    mean: float = 0.0
    #: The sum of the squared distances from the mean.
    squares: float = 0.0
    lowest: float = np.inf
    highest: float = -np.inf

    def add(self, piece: Samples) -> None:
        """Count the samples of one more piece (n,) in."""
        if not len(piece):
            return
        mean = float(piece.mean(dtype=np.float64))
        squares = float(np.square(piece - mean, dtype=np.float64).sum())
        count, distance = self.count + len(piece), mean - self.mean
        self.squares += squares + distance**2 * self.count * len(piece) / count
        self.mean += distance * len(piece) / count
        self.count = count
        self.lowest = min(self.lowest, float(piece.min()))
        self.highest = max(self.highest, float(piece.max()))

    def normalised(self, samples: Samples) -> Samples:
        """Zero mean and unit variance by these moments, as the feature extractor does with a whole clip."""
        scale = np.sqrt(self.squares / max(self.count, 1) + 1e-7)
        return (samples - np.float32(self.mean)) / np.float32(scale)


@dataclass(frozen=True)
class WindowPlan:
    """How long windows are, and how much of them only informs the rest. Both are rounded to whole frames."""

    window_seconds: float
    #: On either side of a window.
    context_seconds: float
    #: Whether the model wants zero mean and unit variance.
    normalise: bool
    times: FrameTimes = field(default_factory=FrameTimes)

    def __post_init__(self) -> None:
        fewest = -(-self.times.receptive_field // self.times.stride)
        if not (fewest <= self._frames(self.context_seconds) and 2 * self.context < self.size):
            shortest = fewest * self.times.stride / self.times.sampling_rate
            raise ValueError(
                f"window_seconds={self.window_seconds}, context_seconds={self.context_seconds}: a window must be "
                f"longer than two contexts, and a context at least {shortest:.3f} s"
            )

    @property
    def size(self) -> int:
        """Samples of a window."""
        return self._frames(self.window_seconds) * self.times.stride

    @property
    def context(self) -> int:
        """Samples of context on either side."""
        return self._frames(self.context_seconds) * self.times.stride

    def _frames(self, seconds: float) -> int:
        return round(seconds * self.times.sampling_rate / self.times.stride)

    def windows(self, audio: AudioInput, heard: Moments) -> Iterator[Window]:
        """The windows of a recording. `heard` becomes its moments, before the first window is given.

        A recording of several windows is read twice: once for its moments and its faults, once for the model.
        """
        blocks = self._blocks(audio)
        start = list(islice(blocks, 2))
        for number, block in enumerate(chain(start, blocks)):
            heard.add(block[2 * self.context if number else 0 :])
        if audio.is_file and heard.count > 1 and heard.lowest == heard.highest:
            raise AudioError(audio.name, "silent: all samples are equal")
        again = start if len(start) < 2 else self._blocks(audio)
        yield from self.cut(heard.normalised(block) if self.normalise else block for block in again)

    def _blocks(self, audio: AudioInput) -> Iterator[Samples]:
        return audio.blocks(self.times.sampling_rate, self.size, 2 * self.context)

    def cut(self, blocks: Iterable[Samples], place: int = 0) -> Iterator[Window]:
        """The windows of overlapping blocks, of which the first begins with frame `place` of the recording."""
        context, before, first = self.context // self.times.stride, None, 0
        for block in blocks:
            if before is not None:
                window = Window(before, first, self.size // self.times.stride - context, place)
                yield window
                place += window.last - window.first
                first = context
            before = block
        if before is not None:
            yield Window(before, first, self.times.frames(len(before)), place)


def from_frame(first: int, windows: Iterable[Window]) -> Iterator[Window]:
    """The windows of a recording without its frames before `first`."""
    for window in windows:
        missing = first - window.place
        if missing <= 0:
            yield window
        elif window.place + window.last - window.first > first:
            yield replace(window, first=window.first + missing, place=first)


def batches(windows: Sequence[Window], most_samples: int) -> list[list[int]]:
    """The numbers of the windows in batches, longest first, of `most_samples` at most with the padding.

    A window that is longer than that is a batch of its own.

    >>> import numpy as np
    >>> batches([Window(np.zeros(n), 0, 0) for n in (2, 5, 4, 1)], most_samples=10)
    [[1, 2], [0, 3]]
    """
    found: list[list[int]] = []
    longest = 0
    for number in sorted(range(len(windows)), key=lambda number: -len(windows[number].samples)):
        if not found or longest * (len(found[-1]) + 1) > most_samples:
            found.append([])
            longest = len(windows[number].samples)
        found[-1].append(number)
    return found


@dataclass(frozen=True)
class Segment:
    """Log-probabilities (T, V) of a part of a recording that begins at frame `offset`."""

    offset: int
    log_probs: Tensor

    @property
    def end(self) -> int:
        """The frame of the recording behind the last of these."""
        return self.offset + len(self.log_probs)


class WaitingFrames:
    """The frames of one recording, from `offset` on, that are not decoded yet: `LONGEST` and what has just been added,
    at most."""

    def __init__(self, blank: int, delimiter: int | None, offset: int = 0) -> None:
        self._blank, self._delimiter = blank, delimiter
        self._pieces: list[Tensor] = []
        self._offset = offset

    def add(self, piece: Segment) -> Iterator[Segment]:
        """Append frames, and give the segments that are full. What stands before a gap in the frames is full."""
        if piece.offset > self._offset + sum(map(len, self._pieces)):
            yield from self.rest()
            self._offset = piece.offset
        self._pieces.append(piece.log_probs)
        while sum(map(len, self._pieces)) > LONGEST:
            frames = torch.cat(self._pieces)
            place = cut_place(frames[:LONGEST], self._blank, self._delimiter)
            self._pieces = [frames[place:].clone()]
            yield Segment(self._offset, frames[:place])
            self._offset += place

    def rest(self) -> Iterator[Segment]:
        """The frames that are left as a segment, if there are any: at the end of the recording, or before a gap."""
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
