"""The samples of one stream, from the packets in which they come to what the convolutions hear of a block.

A frame hears 400 samples and the next one begins 320 later, so between two blocks the last 80 samples are kept. They
are heard again by the first frame of the next block, which is all that is computed twice.

Shapes: S samples, T frames, K kernel size of the first convolution.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wav2vec2.inference.streaming.running_moments import RunningMoments
from wav2vec2.processing.waveforms import as_waveform

Samples = NDArray[np.float32]

#: Beyond this, floats are no samples in [-1, 1] that an amplifier has overdriven, but integers as floats.
_LOUDEST = 10.0

#: Added to the variance of the samples, as by the feature extractor.
_EPSILON = 1e-7

#: Of digital silence, in decibels.
_SILENCE = -120.0


@dataclass(frozen=True)
class Patches:
    """Mean (K,) and covariance (K, K) of what a kernel of the first convolution is laid on, and how far apart."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]


@dataclass(frozen=True)
class Chunk:
    """What the convolutions hear of the next frames of a stream."""

    #: (S,), normalised if the model wants it.
    samples: Samples
    #: How many frames these are.
    frames: int
    #: (T,) the level of each frame in decibels, 0 for a square wave of full scale.
    levels: Samples
    #: What a group norm after the first convolution needs.
    patches: Patches | None


@dataclass(frozen=True)
class Hearing:
    """What a model needs of its audio."""

    #: Samples from one frame of the convolutions to the next.
    stride: int
    #: Samples that one of them hears.
    receptive_field: int
    #: Whether it wants zero mean and unit variance.
    normalise: bool
    #: The kernel and the stride of the first convolution, if its channels are normalised over time.
    first_convolution: tuple[int, int] | None
    #: For how many samples moments remember.
    memory: int


class IncomingAudio:
    """The samples that were pushed and not heard yet, and the moments of those that were."""

    def __init__(self, hearing: Hearing) -> None:
        self.hearing = hearing
        self._waiting = bytearray()
        self._dropped = 0
        self._of_samples = RunningMoments(1, hearing.memory)
        kernel, stride = hearing.first_convolution or (1, 1)
        self._of_patches = RunningMoments(kernel, hearing.memory // stride)

    def push(self, samples: Any) -> None:
        """Take in samples of one channel: floats in [-1, 1], int16 or int32."""
        waveform = as_waveform(samples, "the audio")
        if len(waveform) and (loudest := float(np.abs(waveform).max())) > _LOUDEST:
            raise ValueError(
                f"the audio holds samples up to {loudest:.6g}: floats are in [-1, 1]; pass 16-bit integers as int16"
            )
        self._waiting += waveform.tobytes()

    @property
    def heard(self) -> int:
        """All samples that were pushed."""
        return self._dropped + len(self._waiting) // 4

    def frames_ahead(self) -> int:
        """The frames that what waits is enough for."""
        beyond = len(self._waiting) // 4 - self.hearing.receptive_field
        return 0 if beyond < 0 else beyond // self.hearing.stride + 1

    def take(self, frames: int, last: bool = False) -> Chunk:
        """The next frames. With `last` nothing comes after them, and samples that make no frame are heard as well."""
        hearing = self.hearing
        new = frames * hearing.stride
        size = (frames - 1) * hearing.stride + hearing.receptive_field
        heard = self._samples(None if last else max(size, new))
        self._count(heard, len(heard) if last else new)
        normalised, patches = self._normalised(heard[:size])
        levels = _levels(heard[:new], hearing.stride) if frames else np.empty(0, np.float32)
        del self._waiting[: 4 * new]
        self._dropped += new
        return Chunk(normalised, frames, levels, patches)

    def _samples(self, count: int | None) -> Samples:
        end = None if count is None else 4 * count
        return np.frombuffer(bytes(self._waiting[:end]), np.float32)

    def _count(self, heard: Samples, new: int) -> None:
        """Count the first `new` of the samples (S,) in; what is behind them is heard, and counted, once more later."""
        self._of_samples.add(heard[:new, None])
        if self.hearing.first_convolution is not None:
            kernel, stride = self.hearing.first_convolution
            if len(heard) >= kernel:
                patches = np.lib.stride_tricks.sliding_window_view(heard, kernel)[:new:stride]
                self._of_patches.add(patches)

    def _normalised(self, samples: Samples) -> tuple[Samples, Patches | None]:
        """The samples as the model wants them, and the moments of the patches of such samples."""
        mean, scale = 0.0, 1.0
        if self.hearing.normalise:
            mean = float(self._of_samples.mean[0])
            scale = float(np.sqrt(self._of_samples.covariance[0, 0] + _EPSILON))
        normalised = (samples - np.float32(mean)) / np.float32(scale)
        if self.hearing.first_convolution is None:
            return normalised, None
        patches = self._of_patches
        return normalised, Patches((patches.mean - mean) / scale, patches.covariance / scale**2)


def _levels(samples: Samples, stride: int) -> Samples:
    power = np.square(samples.reshape(-1, stride), dtype=np.float64).mean(1)
    levels: Samples = (10 * np.log10(np.maximum(power, 10 ** (_SILENCE / 10)))).astype(np.float32)
    return levels
