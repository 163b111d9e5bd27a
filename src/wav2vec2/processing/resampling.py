"""Changing the sampling rate, with soxr's high quality filter: of whole arrays, and piece by piece.

Shapes: S samples, n samples of a piece.
"""

from collections.abc import Iterable, Iterator
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wav2vec2.processing.recordings import HIGHEST_RATE, LOWEST_RATE
from wav2vec2.processing.waveforms import as_waveform


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
