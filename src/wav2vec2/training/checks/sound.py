"""A look into the sound of a few clips: audio that plays too slowly, silence, clipping.

Headers can lie: audio of 44.1 kHz in a file that says 16 kHz. Two signs together tell: fewer characters a second than
anyone reads, and a voice lower than anyone's, with no energy above what 44.1 kHz leaves of a voice. The bounds were
set on LibriSpeech and the Free Spoken Digit Dataset (8 kHz audio): real voices 80 to 270 Hz, slowed ones 34 to 112 Hz.
Audio of 44.1 kHz whose header says 16 kHz plays 2.76 times too slowly: a man's voice of 115 Hz falls to 42 Hz, where
no one speaks.

Shapes: S samples, f windows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from wav2vec2.processing.audio_files import load_audio
from wav2vec2.training.checks.clips import ClipSource
from wav2vec2.training.checks.headers import chosen
from wav2vec2.training.checks.lengths import speeds
from wav2vec2.training.checks.report import Finding, by_share
from wav2vec2.training.checks.texts import SpelledTexts
from wav2vec2.training.data.audio_clips import SAMPLING_RATE
from wav2vec2.training.data.durations import reason_of

#: Clips of one source that are decoded: at random, and the slowest ones.
_AT_RANDOM, _SLOWEST = 16, 12

#: Of each no more than this many seconds.
_SECONDS = 12.0

#: A clip is suspected of a wrong rate below all three: characters a second, Hz of pitch, Hz of reach.
_SLOW, _LOW, _REACH = 9.0, 76.0, 3300.0

#: Read speech in an alphabetic script, from which the true rate of slow audio is guessed.
_USUAL_SPEED = 14.0
_RATES = (22050, 32000, 44100, 48000)

#: Windows of 100 ms hold three periods of 30 Hz.
_WINDOW, _HOP = 1600, 800
_LOWEST, _HIGHEST = 30, 450

#: A window is voiced if it resembles itself that much one period later.
_VOICED = 0.6

#: No sample is larger in a file of 16 bits.
_FULL_SCALE = 0.999

#: Peak of a clip that is as good as silent, and share of samples at full scale of one that is clipped.
_SILENT, _CLIPPED = 10 ** (-60 / 20), 0.005


@dataclass(frozen=True)
class Sound:
    """What the sound of a recording says of its speed and its level."""

    #: The median pitch of its voice in Hz, NaN without a voice.
    pitch: float
    #: The frequency in Hz below which 99 % of the energy lie.
    reach: float
    #: The largest sample.
    peak: float
    #: The share of samples at full scale.
    clipped: float


def sound_findings(
    source: ClipSource, spelled: SpelledTexts, seed: int, max_bad_share: float
) -> tuple[list[Finding], dict[str, int]]:
    """What is wrong with the sound of the clips that were decoded, and how many those are."""
    speed = speeds(source, spelled)
    slow = _slowest(source, spelled, speed)
    random = chosen(source, _AT_RANDOM, seed, "validated sound")
    heard: dict[int, Sound] = {}
    failed: dict[int, str] = {}
    for index in dict.fromkeys([*random, *slow]):
        try:
            heard[index] = measure(load_audio(source.audio(index), duration=_SECONDS, require_sound=False))
        except MemoryError:
            raise
        except Exception as error:
            failed[index] = reason_of(error)
    by_clip = dict(zip(spelled.clips.tolist(), speed.tolist(), strict=True))
    low = [index for index, sound in heard.items() if sound.pitch < _LOW and sound.reach < _REACH]  # false for NaN
    suspected = [index for index in low if by_clip[index] < _SLOW]
    findings = list(_slowed(source, suspected, len([one for one in slow if one in heard]), heard, by_clip))
    findings += _faults(source, heard, failed, max_bad_share)
    return findings, {"decoded": len(heard) + len(failed)}


def _slowest(source: ClipSource, spelled: SpelledTexts, speed: NDArray[np.float64]) -> list[int]:
    """The clips with the fewest characters a second below the bound, of those long enough to hear a voice in."""
    seconds = source.seconds[spelled.clips]
    slow = np.flatnonzero((speed < _SLOW) & (seconds > 0.4))
    order = slow[np.argsort(speed[slow], kind="stable")]
    there = (index for index in spelled.clips[order].tolist() if source.complete or source.audio(index) != b"")
    return list(islice(there, _SLOWEST))


def _slowed(
    source: ClipSource,
    suspected: list[int],
    decoded: int,
    heard: dict[int, Sound],
    speed: dict[int, float],
) -> Iterator[Finding]:
    """The clips that may have a wrong rate. One low voice is a person; if most of the slowest clips have one, their
    rate is wrong."""
    if not suspected:
        return
    median = float(np.median([speed[index] for index in suspected]))
    rate = min(_RATES, key=lambda rate: abs(np.log(rate / 16000 * median / _USUAL_SPEED)))
    alike = "44.1 or 48 kHz" if rate >= 44100 else f"about {rate / 1000:g} kHz"
    yield source.finding(
        "slowed_audio",
        "problem" if len(suspected) >= max(2, 0.5 * decoded) else "warning",
        f"of the slowest clips sound too slow, as audio of {alike} labelled 16 kHz does: {median:.1f} characters a "
        f"second, voices at {np.median([heard[index].pitch for index in suspected]):.0f} Hz",
        suspected,
        max(decoded, len(suspected)),
        "the true sampling rate in the headers of the files (10 to 20 characters a second, voices of 80 to 300 Hz)",
        lambda index: f"{speed[index]:.1f} characters a second, voice at {heard[index].pitch:.0f} Hz",
    )


def _faults(source: ClipSource, heard: dict[int, Sound], failed: dict[int, str], allowed: float) -> Iterator[Finding]:
    """Clips that cannot be decoded, hold nothing, or were recorded too loud."""
    total = len(heard) + len(failed)
    silent = {index: f"peak {sound.peak:.1e}" for index, sound in heard.items() if sound.peak < _SILENT}
    clipped = {i: f"{sound.clipped:.1%} of the samples" for i, sound in heard.items() if sound.clipped > _CLIPPED}
    for kind, found, message, right in (
        ("undecodable", failed, "clips that were decoded are damaged", "files that play to their end"),
        ("silent", silent, "clips that were decoded are silent, yet have a transcript", "audio that can be heard"),
        ("clipped", clipped, "clips that were decoded are clipped (samples at full scale)", "a lower recording level"),
    ):
        if found:
            severity = "warning" if kind == "clipped" else by_share(len(found), total, max(allowed, 0.1))
            yield source.finding(kind, severity, message, found, total, right, found.__getitem__)


def measure(samples: NDArray[np.float32]) -> Sound:
    """Measure a recording of samples (S,) at 16 kHz."""
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
    """The frequency in Hz below which 99 % of the energy of the windows lie."""
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
