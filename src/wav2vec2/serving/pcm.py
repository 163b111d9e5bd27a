"""Sound as it comes over a wire: whole numbers, several channels one after another, in packets of any size."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wav2vec2.processing.waveforms import check_rate

_TYPES: dict[int, np.dtype[Any]] = {2: np.dtype("<i2"), 4: np.dtype("<i4")}


def checked_format(rate: Any, width: Any, channels: Any) -> tuple[int, int, int]:
    """Samples a second, bytes of a sample, and channels; a ValueError where sound in this format cannot be read."""
    if not isinstance(width, int) or width not in _TYPES:
        raise ValueError(f"{width!r:.40} bytes a sample: must be 2 or 4")
    if not isinstance(channels, int) or not 1 <= channels <= 32:
        raise ValueError(f"{channels!r:.40} channels: must be from 1 to 32")
    return check_rate(rate, "the rate of the sound"), width, int(channels)


def as_mono(sound: bytes | bytearray, width: int, channels: int) -> NDArray[np.float32]:
    """All samples of one channel, the mean where there are several; a last one that is not whole is left out."""
    whole = len(sound) - len(sound) % (width * channels)
    numbers = np.frombuffer(memoryview(sound)[:whole], _TYPES[width]).reshape(-1, channels)
    mono: NDArray[np.float64] = numbers.mean(1, dtype=np.float64) / 2 ** (8 * width - 1)
    return mono.astype(np.float32)


class ArrivingSound:
    """Packets of 16 bit samples of one channel, of any number of bytes, as samples at another rate."""

    def __init__(self, rate: int, to_rate: int) -> None:
        self._half = b""
        self._resampler = None
        if rate != to_rate:
            import soxr

            self._resampler = soxr.ResampleStream(rate, to_rate, 1, dtype="float32")

    def take(self, packet: bytes, last: bool = False) -> NDArray[np.float32]:
        """The samples that are there now; with the `last` packet, all of them."""
        packet = self._half + packet
        whole = len(packet) - len(packet) % 2
        self._half = packet[whole:]
        samples = as_mono(packet[:whole], 2, 1)
        if self._resampler is None:
            return samples
        resampled: NDArray[np.float32] = self._resampler.resample_chunk(samples, last=last)
        return resampled
