"""Samples that a caller hands over, as one channel of float32.

Shapes: S samples.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Integers that have an agreed full scale.
_FULL_SCALE = {np.dtype(np.int16): 2.0**15, np.dtype(np.int32): 2.0**31}


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
    """Zero mean, unit variance, as stock: in float32, 1e-7 added to the variance. An empty clip stays empty."""
    if not len(clip):
        return clip
    with np.errstate(over="ignore", invalid="ignore"):
        mean, variance = clip.mean(), clip.var()
    if not np.isfinite(variance):
        raise ValueError(f"{name} holds samples up to {np.abs(clip).max():.3g}: their variance is not finite")
    normalised: NDArray[np.float32] = (clip - mean) / np.sqrt(variance + 1e-7)
    return normalised
