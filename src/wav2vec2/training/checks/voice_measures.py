"""What the sound of a recording says of its speed: the pitch of its voice, and up to where its energy reaches.

Audio of 44.1 kHz whose header says 16 kHz plays 2.76 times too slowly: a man's voice of 115 Hz falls to 42 Hz, where
no one speaks.

Shapes: S samples, f windows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wav2vec2.training.data.audio_clips import SAMPLING_RATE

#: Windows of 100 ms hold three periods of 30 Hz.
_WINDOW, _HOP = 1600, 800
_LOWEST, _HIGHEST = 30, 450

#: A window is voiced if it resembles itself that much one period later.
_VOICED = 0.6

#: No sample is larger in a file of 16 bits.
_FULL_SCALE = 0.999


@dataclass(frozen=True)
class Sound:
    """`pitch` in Hz (NaN without a voice), the frequency below which 99 % of the energy lie, the largest sample, and
    the share of samples at full scale."""

    pitch: float
    reach: float
    peak: float
    clipped: float


def measure(samples: NDArray[np.float32]) -> Sound:
    """Measures of samples (S,) at 16 kHz."""
    peak = float(np.abs(samples).max(initial=0.0))
    clipped = float((np.abs(samples) >= _FULL_SCALE).mean()) if len(samples) else 0.0
    if len(samples) < 2 * _WINDOW or samples.max() == samples.min():
        return Sound(float("nan"), float("nan"), peak, clipped)
    windows = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), _WINDOW)[::_HOP]
    windows = windows - windows.mean(1, keepdims=True)
    energy = (windows**2).sum(1)
    windows = windows[energy > 0.1 * np.quantile(energy, 0.95)] * np.hanning(_WINDOW)
    if not len(windows):
        return Sound(float("nan"), float("nan"), peak, clipped)
    power = np.abs(np.fft.rfft(windows, 2 * _WINDOW)) ** 2
    return Sound(_pitch(power), _reach(power), peak, clipped)


def _pitch(power: NDArray[np.float64]) -> float:
    """The median fundamental of the voiced windows, from the autocorrelation of each, (f, 2 * _WINDOW // 2 + 1)."""
    window = np.abs(np.fft.rfft(np.hanning(_WINDOW), 2 * _WINDOW)) ** 2
    own = np.fft.irfft(window)[:_WINDOW]
    alike = np.fft.irfft(power)[:, :_WINDOW]
    first, last = SAMPLING_RATE // _HIGHEST, SAMPLING_RATE // _LOWEST
    alike = (alike / (alike[:, :1] + 1e-12) / (own / own[0] + 1e-9))[:, first:last]
    best = alike.max(1)
    voiced = best > _VOICED
    if voiced.sum() < 3:
        return float("nan")
    period = first + np.argmax(alike >= 0.9 * best[:, None], axis=1)  # the shortest; its multiples fit as well
    return float(np.median(SAMPLING_RATE / period[voiced]))


def _reach(power: NDArray[np.float64]) -> float:
    total = np.cumsum(power.sum(0))
    return float(np.searchsorted(total, 0.99 * total[-1]) * SAMPLING_RATE / (2 * _WINDOW))


def likeness(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The largest correlation of two waveforms over all shifts: near 1 for the same audio, coded anew or shifted."""
    size = 1 << (len(one) + len(other) - 1).bit_length()
    first, second = one - one.mean(), other - other.mean()
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    if norm == 0:
        return 0.0
    spectrum = np.fft.rfft(first.astype(np.float64), size) * np.conj(np.fft.rfft(second.astype(np.float64), size))
    return float(np.abs(np.fft.irfft(spectrum, size)).max() / norm)
