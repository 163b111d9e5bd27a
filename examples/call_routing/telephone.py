"""The telephone: 8 kHz, the band of a line, its noise, and G.711's eight bits a sample (mu-law).

Shapes: S samples.
"""

import numpy as np
from numpy.typing import NDArray

from wav2vec2.processing.waveforms import resample

#: Samples a second, and the band in Hz that a line lets through.
RATE, BAND = 8000, (300.0, 3400.0)

#: What G.711 adds before it takes the logarithm, and the largest sample it knows.
_BIAS, _LARGEST = 0x84, 0x7FFF - 0x84


def to_mu_law(samples: NDArray[np.int16]) -> bytes:
    """16 bit samples (S,) as a byte each: sign, place of the highest bit, the four bits behind it, inverted."""
    loud = np.minimum(np.abs(samples.astype(np.int32)), _LARGEST) + _BIAS
    exponent = np.log2(loud).astype(np.int32) - 7
    mantissa = (loud >> (exponent + 3)) & 0x0F
    sign = np.where(samples < 0, 0x80, 0)
    return bytes((~(sign | (exponent << 4) | mantissa) & 0xFF).astype(np.uint8))


def from_mu_law(sound: bytes) -> NDArray[np.int16]:
    """The samples (S,) of bytes of mu-law, such as an RTP packet of PCMU carries."""
    code = ~np.frombuffer(sound, np.uint8).astype(np.int32) & 0xFF
    loud = ((((code & 0x0F) << 3) + _BIAS) << ((code >> 4) & 0x07)) - _BIAS
    return np.where(code & 0x80, -loud, loud).astype(np.int16)


def over_the_line(
    speech: NDArray[np.float32],
    rate: int,
    snr: float | None,
    chance: np.random.Generator,
    silence: tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.int16]:
    """What arrives at the other end of a line: samples (S,) at 8 kHz. `snr` is in dB, None for a line without noise.

    The noise is equally loud in all of the band; its level goes by the louder half of the speech, not by its pauses.
    `silence` is what comes before and behind the speech, in seconds; the noise is there as well.
    """
    narrow = _in_band(resample(speech, rate, RATE))
    spoken = _spoken_level(narrow)
    narrow = np.pad(narrow, [round(seconds * RATE) for seconds in silence])
    if snr is not None:
        hiss = _in_band(chance.normal(size=len(narrow)))
        narrow = narrow + hiss * (spoken / max(_level(hiss), 1e-9) * 10 ** (-snr / 20))
    samples = (np.clip(narrow, -1.0, 1.0) * 0x7FFF).astype(np.int16)
    return from_mu_law(to_mu_law(samples))


def _in_band(samples: NDArray[np.floating]) -> NDArray[np.float64]:
    """The samples without what a line does not carry; the edges fall off over 100 Hz."""
    spectrum, hertz = np.fft.rfft(samples), np.fft.rfftfreq(len(samples), 1 / RATE)
    kept = np.clip(np.minimum(hertz - BAND[0], BAND[1] - hertz) / 100 + 1, 0, 1)
    return np.fft.irfft(spectrum * kept, len(samples))


def _level(samples: NDArray[np.float64]) -> float:
    """The root of the mean square."""
    return float(np.sqrt(np.mean(samples**2))) if len(samples) else 0.0


def _spoken_level(samples: NDArray[np.float64]) -> float:
    """The level of the louder half of the stretches of 20 ms."""
    stretches = samples[: len(samples) - len(samples) % 160].reshape(-1, 160)
    power = np.sort((stretches**2).mean(1)) if len(stretches) else np.zeros(1)
    return float(np.sqrt(power[len(power) // 2 :].mean()))
