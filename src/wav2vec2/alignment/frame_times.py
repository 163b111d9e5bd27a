"""When a frame is: exact arithmetic of the convolutions, never a frame count times a rounded duration.

A stack of convolutions with kernels k and strides s moves by `stride` = s_1 s_2 ... samples a frame, and a frame sees
`receptive_field` samples: 400 every 320 for wav2vec 2.0. Frame i sees the samples from 320 i on, so its centre is at
320 i + 200, and halfway between two centres one frame hands over to the next: frame i owns [320 i + 40, 320 i + 360).

Only the number of the frame in its recording counts. A window of a long recording that starts at sample w, a multiple
of the stride, adds w / stride to its frame numbers, so times do not depend on how a recording was cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import NamedTuple

import numpy as np

from wav2vec2.configuration.frame_arithmetic import conv_output_length, frame_stride, one_of_every, receptive_field

Interval = tuple[float, float]


class TimeBias(NamedTuple):
    """How late, in seconds, a model reports the starts and the ends of words: negative where it is early.

    CTC is free to place its spikes anywhere inside a word, and each model settles on a habit of its own.
    """

    start: float = 0.0
    end: float = 0.0


@dataclass(frozen=True)
class FrameTimes:
    """Times of frames in seconds. The defaults are those of every published wav2vec 2.0."""

    #: Of each convolution.
    kernels: Sequence[int] = (10, 3, 3, 3, 3, 2, 2)
    #: Of each convolution.
    strides: Sequence[int] = (5, 2, 2, 2, 2, 2, 2)
    #: Samples a second.
    sampling_rate: int = 16000
    #: What a model's times are freed of.
    bias: TimeBias = TimeBias()
    #: Of so many frames of the convolutions the first is one of these: the stride of what follows them.
    every: int = 1

    def __post_init__(self) -> None:
        if len(self.kernels) != len(self.strides) or not self.kernels:
            raise ValueError(f"kernels={self.kernels}, strides={self.strides}: one of each per convolution is needed")
        if min(*self.kernels, *self.strides, self.sampling_rate, self.every) < 1:
            raise ValueError(
                f"kernels={self.kernels}, strides={self.strides}, sampling_rate={self.sampling_rate}, "
                f"every={self.every}: all must be positive"
            )

    @cached_property
    def stride(self) -> int:
        """Samples from one frame to the next."""
        return frame_stride(self.strides) * self.every

    @cached_property
    def receptive_field(self) -> int:
        """Samples that one frame of the convolutions sees: the middle of them is where a frame is.

        >>> FrameTimes().receptive_field, FrameTimes().stride
        (400, 320)
        """
        return receptive_field(self.kernels, self.strides)

    def frames(self, samples: int) -> int:
        """Frames of a recording.

        >>> [FrameTimes().frames(samples) for samples in (0, 399, 400, 16000)]
        [0, 0, 1, 49]
        """
        return one_of_every(conv_output_length(samples, self.kernels, self.strides), self.every)

    def duration(self, frames: int) -> float:
        """Seconds that so many frames see: what a recording lasts at least."""
        return (max(frames - 1, 0) * self.stride + self.receptive_field) / self.sampling_rate if frames else 0.0

    def centre(self, frame: int) -> float:
        """The middle of what a frame sees.

        >>> FrameTimes().centre(0), FrameTimes().centre(50)
        (0.0125, 1.0125)
        """
        return (frame * self.stride + self.receptive_field / 2) / self.sampling_rate

    def edge(self, frame: int) -> float:
        """Where the frame before hands over to this one: halfway between their centres.

        >>> FrameTimes().edge(0), FrameTimes().edge(1)
        (0.0025, 0.0225)
        """
        return (frame * self.stride + (self.receptive_field - self.stride) / 2) / self.sampling_rate

    def intervals(self, starts: Sequence[int], ends: Sequence[int], duration: float) -> list[Interval]:
        """The `interval` of each of many, in order: see `in_order`.

        >>> FrameTimes().intervals([0, 50], [1, 100], duration=1.5)
        [(0.0025, 0.0225), (1.0025, 1.5)]
        """
        frames = np.array([starts, ends], dtype=np.int64)
        edges = (frames * self.stride + (self.receptive_field - self.stride) / 2) / self.sampling_rate
        first, last = np.clip(edges - np.array(self.bias)[:, None], 0.0, duration)
        found = list(zip(first.tolist(), np.maximum(first, last).tolist(), strict=True))
        return in_order(found) if (first[1:] < last[:-1]).any() else found

    def interval(self, start: int, end: int, duration: float) -> Interval:
        """Seconds of the frames start ... end - 1, freed of the bias, inside [0, duration] and never backwards."""
        first = _within(self.edge(start) - self.bias.start, duration)
        return first, max(first, _within(self.edge(end) - self.bias.end, duration))


def _within(time: float, duration: float) -> float:
    return min(max(time, 0.0), duration)


def in_order(intervals: Sequence[Interval]) -> list[Interval]:
    """The intervals with every overlap of neighbours cut in its middle, so that time never runs backwards.

    >>> in_order([(0.0, 1.0), (0.5, 2.0), (2.5, 3.0)])
    [(0.0, 0.75), (0.75, 2.0), (2.5, 3.0)]
    """
    ordered: list[Interval] = []
    for start, end in intervals:
        if ordered and start < ordered[-1][1]:
            before, after = ordered[-1]
            middle = max(before, (after + start) / 2)
            ordered[-1] = (before, middle)
            start = middle
        ordered.append((start, max(start, end)))
    return ordered


def estimate_bias(measured: Sequence[Interval], true: Sequence[Interval]) -> TimeBias:
    """The systematic delay of measured words, whose true boundaries are known: the medians of the differences.

    Medians, because a word in the wrong place says nothing about the habit of all the others.

    >>> bias = estimate_bias([(1.25, 1.5), (2.25, 2.5), (9.0, 9.5)], [(1.0, 1.5), (2.0, 2.5), (3.0, 3.5)])
    >>> bias
    TimeBias(start=0.25, end=0.0)
    >>> FrameTimes(bias=bias).interval(50, 100, duration=3.0)
    (0.7525, 2.0025)
    """
    if len(measured) != len(true) or not true:
        raise ValueError(
            f"{len(measured)} measured and {len(true)} true intervals: as many of each are needed, at least 1"
        )
    late = [(found[0] - known[0], found[1] - known[1]) for found, known in zip(measured, true, strict=True)]
    return TimeBias(median(start for start, _ in late), median(end for _, end in late))
