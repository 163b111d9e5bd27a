"""The sentence that most pictures show, spoken by espeak-ng, and what the front of the model makes of it.

Shapes: S samples, T frames, M mel bands.
"""

import numpy as np
from numpy.typing import NDArray

from wav2vec2.quickstart.speech_synthesis import SAMPLING_RATE, Order, Synthesiser
from wav2vec2.quickstart.spoken_corpus import TEST_VOICES

SENTENCE = "the sailor found the golden mirror"
STRIDE, BANDS = 320, 64
#: Samples that a frame of the model hears.
HEARD = 400

Samples = NDArray[np.float32]


def speak(text: str = SENTENCE, voice: int = 0) -> Samples:
    """Samples (S,) at 16 kHz, by a voice that the quickstart keeps from training, with a quiet edge on either side."""
    chosen = TEST_VOICES[voice]
    order = Order(chosen.espeak_name, chosen.rate, chosen.pitch, chosen.liveliness, 0, [text], [])
    spoken = Synthesiser().say(order, text)
    quiet = np.random.default_rng(0).normal(0, 1e-4, len(spoken) + SAMPLING_RATE // 4)
    quiet[SAMPLING_RATE // 8 : SAMPLING_RATE // 8 + len(spoken)] += spoken
    return quiet.astype(np.float32)


def log_mel(samples: Samples) -> NDArray[np.float64]:
    """Energies in decibels (M, T) of the model's own frames, 80 dB below the loudest at least."""
    frames = (len(samples) - HEARD) // STRIDE + 1
    pieces = np.stack([samples[STRIDE * t : STRIDE * t + HEARD] for t in range(frames)]).astype(np.float64)
    power = np.abs(np.fft.rfft(pieces * np.hanning(HEARD), 512)) ** 2  # (T, bins)
    energies = np.log10(np.maximum(mel_bands() @ power.T, 1e-10)) * 10
    floored: NDArray[np.float64] = np.maximum(energies, energies.max() - 80)
    return floored


def mel_bands() -> NDArray[np.float64]:
    """Triangles (M, bins) of equal width on the mel scale."""
    top = 2595 * np.log10(1 + SAMPLING_RATE / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    bins = np.arange(257) * SAMPLING_RATE / 512
    rising = (bins - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    falling = (corners[2:, None] - bins) / (corners[2:] - corners[1:-1])[:, None]
    bands: NDArray[np.float64] = np.clip(np.minimum(rising, falling), 0, None)
    return bands
