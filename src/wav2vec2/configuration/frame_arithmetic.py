"""How many frames a clip has, what one of them hears, and how many a text needs: whole numbers, no weights.

Counts are plain integers, or arrays of them (a tensor of torch, an array of NumPy): what comes in comes out.

Shapes: B batch, U labels of a text.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar, cast

from wav2vec2.configuration.wav2vec2_config import Wav2Vec2Config

#: One count, or an array of counts.
Length = TypeVar("Length")

#: Frames that the adapter's convolutions pad on either side.
ADAPTER_PADDING = 1


class FrameGrid(Protocol):
    """What a configuration says of frames: `Wav2Vec2Config`, and that of any other model that recognises speech."""

    @property
    def conv_kernel(self) -> Sequence[int]:
        """Kernel size of each convolution over the samples."""

    @property
    def conv_stride(self) -> Sequence[int]:
        """Stride of each convolution."""

    @property
    def add_adapter(self) -> bool:
        """Whether the adapter's convolutions come behind them."""

    @property
    def frames_per_logits(self) -> int:
        """Frames from one logit to the next."""


def conv_output_length(length: Length, kernels: Sequence[int], strides: Sequence[int]) -> Length:
    """Outputs of a stack of convolutions without padding, never below zero.

    >>> [conv_output_length(s, (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)) for s in (0, 399, 400, 16000)]
    [0, 0, 1, 49]
    """
    frames: Any = length
    for kernel, stride in zip(kernels, strides, strict=True):
        frames = (frames - kernel) // stride + 1
    return _not_below_zero(frames)


def receptive_field(kernels: Sequence[int], strides: Sequence[int]) -> int:
    """Samples that one frame hears.

    >>> receptive_field((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))
    400
    """
    field = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        field = (field - 1) * stride + kernel
    return field


def frame_stride(strides: Sequence[int]) -> int:
    """Samples from one frame to the next: 320 for every published wav2vec 2.0."""
    return math.prod(strides)


def adapter_layer_output_length(length: Length, config: Wav2Vec2Config) -> Length:
    """Frames after one convolution of the adapter, which pads both ends; no frame gives none."""
    frames: Any = length
    output = (frames + 2 * ADAPTER_PADDING - config.adapter_kernel_size) // config.adapter_stride + 1
    return _not_below_zero(output) * (frames > 0)


def adapter_output_length(length: Length, config: Wav2Vec2Config) -> Length:
    """Frames after all convolutions of the adapter."""
    for _ in range(config.num_adapter_layers):
        length = adapter_layer_output_length(length, config)
    return length


def output_length(samples: Length, config: FrameGrid, add_adapter: bool | None = None) -> Length:
    """Frames that come out of a model for clips of so many samples: behind the adapter if it has one, or if
    `add_adapter` says so.

    >>> output_length(16000, Wav2Vec2Config()), output_length(16000, Wav2Vec2Config(add_adapter=True))
    (49, 7)
    """
    frames = conv_output_length(samples, config.conv_kernel, config.conv_stride)
    behind_adapter = config.add_adapter if add_adapter is None else add_adapter
    return adapter_output_length(frames, cast("Wav2Vec2Config", config)) if behind_adapter else frames


def one_of_every(frames: Length, stride: int) -> Length:
    """How many of so many frames are left of the first and every `stride`-th after it.

    >>> [one_of_every(frames, 2) for frames in (0, 1, 2, 3)]
    [0, 1, 1, 2]
    """
    counted: Any = frames
    left: Length = (counted + stride - 1) // stride
    return left


def logits_length(samples: Length, config: FrameGrid, add_adapter: bool | None = None) -> Length:
    """Frames of the logits of a model with CTC for clips of so many samples: its head may have a stride.

    >>> logits_length(16000, Wav2Vec2Config()), logits_length(16000, Wav2Vec2Config(ctc_head="recurrent"))
    (49, 25)
    """
    return one_of_every(output_length(samples, config, add_adapter), config.frames_per_logits)


def frames_needed(targets: Any, inside: Any) -> Any:
    """Fewest frames (B,) in which CTC can spell targets (B, U): one for each label, and one for the blank between two
    equal neighbours. `inside` (B, U) marks what is a label and no padding; labels stand at the front.
    """
    repeats = (targets[:, 1:] == targets[:, :-1]) & inside[:, 1:]
    return inside.sum(1) + repeats.sum(1)


def _not_below_zero(frames: Any) -> Any:
    # a number that torch traces is an int for one tracer, and for another it is what has no `clip`
    is_number = isinstance(frames, int) or not hasattr(frames, "clip")
    return max(frames, 0) if is_number else frames.clip(0)
