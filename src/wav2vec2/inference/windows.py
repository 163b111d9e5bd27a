"""Cutting recordings into overlapping windows on the frame grid, normalised as the whole recording is.

The model looks at a window; frames closer than `context` to a cut are taken from the neighbour, which sees more on that
side. Windows begin at multiples of the stride, so that their frames are those of the uncut recording.

Shapes: n samples of a window.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from wav2vec2.alignment.frame_times import FrameTimes
from wav2vec2.inference.audio_inputs import AudioInput
from wav2vec2.processing.audio_sources import AudioError

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """Samples (n,) for the model. Of its frames `first` ... `last` - 1 are kept."""

    samples: Samples
    first: int
    last: int


@dataclass
class Moments:
    """Count, mean and variance of samples that come piece by piece (Chan, Golub and LeVeque 1979), in float64."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0  # sum of the squared distances from the mean
    lowest: float = np.inf
    highest: float = -np.inf

    def add(self, piece: Samples) -> None:
        """Take a piece (n,) into account."""
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
    """How recordings are cut: windows of `window_seconds`, of which `context_seconds` on either side are context.

    Both are rounded to whole frames.
    """

    window_seconds: float
    context_seconds: float
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
        yield from self._cut(heard.normalised(block) if self.normalise else block for block in again)

    def _blocks(self, audio: AudioInput) -> Iterator[Samples]:
        return audio.blocks(self.times.sampling_rate, self.size, 2 * self.context)

    def _cut(self, blocks: Iterable[Samples]) -> Iterator[Window]:
        context, before, first = self.context // self.times.stride, None, 0
        for block in blocks:
            if before is not None:
                yield Window(before, first, self.size // self.times.stride - context)
                first = context
            before = block
        if before is not None:
            yield Window(before, first, self.times.frames(len(before)))


def from_frame(first: int, windows: Iterable[Window]) -> Iterator[Window]:
    """The windows of a recording without its frames before `first`."""
    place = 0
    for window in windows:
        missing = first - place
        place += window.last - window.first
        if missing <= 0:
            yield window
        elif place > first:
            yield replace(window, first=window.first + missing)
