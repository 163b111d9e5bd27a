"""What becomes of samples: one channel of float32, at one rate, normalised.

Channels become one by a policy. The rate is changed by soxr's high quality filter, of whole arrays and piece by piece.

Shapes: S samples, n samples of a piece, C channels.
"""

from collections.abc import Iterable, Iterator
from numbers import Real
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wav2vec2.processing.audio_sources import HIGHEST_RATE, LOWEST_RATE, AudioError

#: Integers that have an agreed full scale.
_FULL_SCALE = {np.dtype(np.int16): 2.0**15, np.dtype(np.int32): 2.0**31}

#: "mean" of all channels, the "first", a channel by its number from 0, or an "error" if there are several.
Channels: TypeAlias = Literal["mean", "first", "error"] | int


def as_waveform(samples: Any, what: str) -> NDArray[np.float32]:
    """An array, tensor or list of samples (S,) -> finite float32 (S,).

    16 and 32 bit integers are scaled to [-1, 1); other integers have no agreed scale and are refused, as are several
    dimensions, NaN and infinity, in a `ValueError` that calls the samples `what`.

    >>> as_waveform(np.array([-32768, 16384], dtype=np.int16), "the clip")
    array([-1. ,  0.5], dtype=float32)
    """
    array = as_array(samples, what)
    if array.ndim != 1:
        raise ValueError(
            f"{what} has shape {array.shape}: one channel has shape (samples,). Mix channels first, for instance "
            "array.mean(axis=...), or take one of them"
        )
    if array.dtype in _FULL_SCALE:
        return array.astype(np.float32) / np.float32(_FULL_SCALE[array.dtype])
    if array.dtype.kind != "f" and len(array):
        raise ValueError(f"{what} holds {array.dtype}: samples are floats in [-1, 1], int16 or int32")
    with np.errstate(over="ignore"):
        waveform: NDArray[np.float32] = array.astype(np.float32, copy=False)
    finite = np.isfinite(waveform)
    if not finite.all():
        first = int(np.argmin(finite))
        raise ValueError(f"{what} holds {waveform[first]} at sample {first}; samples must be finite")
    return waveform


def as_array(samples: Any, what: str) -> NDArray[Any]:
    """An array, a tensor on any device, or nested lists of numbers, as a NumPy array of whatever shape."""
    if hasattr(samples, "detach"):  # a torch tensor, without importing torch for it
        samples = samples.detach().cpu()
        samples = (samples.float() if samples.is_floating_point() else samples).numpy()
    if isinstance(samples, str | bytes) or hasattr(samples, "read"):
        raise ValueError(f"{what} is {type(samples).__name__}, not samples: read files with load_audio")
    try:
        array = np.asarray(samples)
    except ValueError:
        raise ValueError(f"{what} is made of parts of different shapes") from None
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{what} is {type(samples).__name__} ({array.dtype}), not an array of samples")
    return array


def normalised(clip: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """The clip with zero mean and unit variance, to which 1e-7 is added, in float32 as in stock Transformers. An empty
    clip stays empty."""
    if not len(clip):
        return clip
    with np.errstate(over="ignore", invalid="ignore"):
        mean, variance = clip.mean(), clip.var()
    if not np.isfinite(variance):
        raise ValueError(f"{name} holds samples up to {np.abs(clip).max():.3g}: their variance is not finite")
    normalised: NDArray[np.float32] = (clip - mean) / np.sqrt(variance + 1e-7)
    return normalised


def check_channels(channels: Channels) -> None:
    """Raise `ValueError` unless `channels` is something that can become of channels."""
    number = isinstance(channels, int) and not isinstance(channels, bool) and channels >= 0
    if not number and channels not in ("mean", "first", "error"):
        raise ValueError(f"channels must be 'mean', 'first', 'error' or a number from 0, got {channels!r}")


def to_mono(block: NDArray[np.float32], channels: Channels, name: str) -> NDArray[np.float32]:
    """One channel (n,) of finite samples from several (n, C); `name` is what errors call the recording."""
    count = block.shape[1]
    if channels == "error" and count > 1:
        raise AudioError(name, f"it has {count} channels; choose with channels='mean', 'first' or a number")
    if isinstance(channels, int) and channels >= count:
        raise AudioError(name, f"it has {count} channels, numbered from 0: there is no channel {channels}")
    if channels != "mean":
        block = block[:, [channels if isinstance(channels, int) else 0]]
    if not np.isfinite(block).all():
        kind = "NaN" if np.isnan(block).any() else "infinite samples"
        raise AudioError(name, f"it holds {kind}")
    if block.shape[1] == 1:
        return block[:, 0]
    return block.mean(axis=1, dtype=np.float64).astype(np.float32)  # float32 sums could overflow


def check_rate(rate: int, what: str) -> int:
    """The rate as an int, `ValueError` unless it is a whole number of samples a second that sound can have."""
    number = isinstance(rate, Real) and not isinstance(rate, bool)
    if not (number and LOWEST_RATE <= rate <= HIGHEST_RATE and int(rate) == rate):
        limits = f"a whole number of samples a second from {LOWEST_RATE} to {HIGHEST_RATE}"
        raise ValueError(f"{what} must be {limits}, got {rate!r}")
    return int(rate)


def resample(array: Any, from_rate: int, to_rate: int) -> NDArray[np.float32]:
    """Samples (S,) at `from_rate` -> float32 (S * to_rate / from_rate,) at `to_rate`, the length rounded.

    `array` is one channel: an array, a tensor or a list, of floats or of 16 or 32 bit integers, which are scaled to
    [-1, 1). Two dimensions, NaN and infinity are refused.

    >>> resample(np.zeros(44100, dtype=np.int16), 44100, 16000).shape
    (16000,)
    """
    from_rate, to_rate = check_rate(from_rate, "from_rate"), check_rate(to_rate, "to_rate")
    pieces = list(resampled([as_waveform(array, "the array")], from_rate, to_rate))
    return np.concatenate(pieces) if pieces else np.empty(0, np.float32)


def at_speed(waveform: NDArray[np.float32], speed: float, rate: int) -> NDArray[np.float32]:
    """Samples (S,) as if the tape ran so many times as fast: (S / speed,), higher by that much, formants included.

    >>> at_speed(np.zeros(16500, dtype=np.float32), 1.1, 16000).shape
    (15000,)
    """
    import soxr

    faster: NDArray[np.float32] = soxr.resample(waveform, rate * speed, rate)
    return faster


def resampled(pieces: Iterable[NDArray[np.float32]], from_rate: int, to_rate: int) -> Iterator[NDArray[np.float32]]:
    """Pieces (n,) of a recording -> pieces of the resampled recording.

    The filter keeps its state between pieces, so where they are cut leaves no trace: joined they are what resampling
    the whole would give, to the last bit.
    """
    if from_rate == to_rate:
        yield from pieces
        return
    import soxr

    stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32")
    for piece in pieces:
        if len(result := stream.resample_chunk(np.ascontiguousarray(piece))):
            yield result
    if len(result := stream.resample_chunk(np.empty(0, np.float32), last=True)):
        yield result
