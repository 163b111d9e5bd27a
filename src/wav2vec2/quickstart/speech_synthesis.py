"""Speech from text, through the espeak-ng library that the `espeakng-loader` wheel bundles: one voice, one process.

espeak carries noise and pitch over from one utterance to the next, so what a clip sounds like depends on all that the
process has said before. A process of its own for each voice, which says its sentences in order, makes the corpus the
same however many run at once:

    python -m wav2vec2.quickstart.speech_synthesis < voice.json

Shapes: S samples.
"""

import ctypes
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wav2vec2.processing.waveforms import resample

#: What models of the family hear.
SAMPLING_RATE = 16000

#: What espeak says when asked for the library and it is not there.
MISSING = (
    "making speech needs espeak-ng, which comes with the extra: pip install 'wav2vec2[quickstart]' (espeakng-loader)"
)

_SYNCHRONOUS, _CHARACTERS, _OK = 2, 1, 0
#: Texts are UTF-8, and [[...]] in them are phones in espeak's own letters.
_TEXT = 0x1 | 0x100
_RATE, _PITCH, _RANGE = 1, 3, 4
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

#: Silence around an utterance in seconds, loudness (root of the mean square), and noise below it in dB.
_SILENCE, _LOUDNESS, _NOISE = (0.05, 0.25), (0.015, 0.06), (25.0, 40.0)


@dataclass(frozen=True)
class Order:
    """What one process says, all of it in one voice."""

    #: The voice as espeak takes it.
    espeak_name: str
    #: Words a minute.
    rate: int
    #: How high, from 0 to 100.
    pitch: int
    #: How far the pitch goes up and down, from 0 to 100.
    liveliness: int
    #: Noise and loudness follow from it.
    seed: int
    #: What is said.
    texts: Sequence[str]
    #: The file that each text goes to.
    files: Sequence[str]


class Synthesiser:
    """espeak-ng, speaking into memory."""

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise ImportError(MISSING) from error
        self._library: Any = ctypes.CDLL(espeakng_loader.get_library_path())
        data = str(espeakng_loader.get_data_path()).encode()
        self.rate = int(self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, 0))
        if self.rate <= 0:
            raise OSError("espeak-ng could not read its data; install espeakng-loader again")
        self._pieces: list[bytes] = []
        self._callback = _CALLBACK(self._take)  # kept, since the library does not keep it alive
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, order: Order, text: str) -> NDArray[np.float32]:
        """Samples (S,) at 16 kHz of one text."""
        library = self._library
        if library.espeak_SetVoiceByName(order.espeak_name.encode()) != _OK:
            raise ValueError(f"espeak has no voice {order.espeak_name!r}")
        for parameter, value in ((_RATE, order.rate), (_PITCH, order.pitch), (_RANGE, order.liveliness)):
            library.espeak_SetParameter(parameter, value, 0)
        spoken = text.encode() + b"\0"
        self._pieces.clear()
        size = ctypes.c_size_t(len(spoken))
        if library.espeak_Synth(spoken, size, 0, _CHARACTERS, 0, _TEXT, None, None) != _OK:
            raise OSError(f"espeak could not say {text!r}")
        return resample(np.frombuffer(b"".join(self._pieces), np.int16), self.rate, SAMPLING_RATE)

    def _take(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: int | None) -> int:
        if samples and count > 0:
            self._pieces.append(ctypes.string_at(samples, count * ctypes.sizeof(ctypes.c_short)))
        return 0  # go on


def recorded(samples: NDArray[np.float32], chance: np.random.Generator) -> NDArray[np.float32]:
    """An utterance (S,) as a microphone would have it: silence around it, another loudness, a little noise."""
    before, after = (round(chance.uniform(*_SILENCE) * SAMPLING_RATE) for _ in range(2))
    loudness = np.exp(chance.uniform(*np.log(_LOUDNESS)))
    noise = loudness * 10 ** (-chance.uniform(*_NOISE) / 20)
    power = max(float(np.sqrt(np.mean(samples.astype(np.float64) ** 2))), 1e-6) if len(samples) else 1.0
    louder = np.pad(samples * (loudness / power), (before, after))
    noisy = louder + chance.normal(0.0, noise, len(louder))
    return np.clip(noisy, -1.0, 1.0).astype(np.float32)


def fulfil(order: Order) -> list[float]:
    """Write every file of an order, as FLAC; how many seconds each has."""
    import soundfile

    espeak, chance = Synthesiser(), np.random.default_rng(order.seed)
    seconds = []
    for text, file in zip(order.texts, order.files, strict=True):
        samples = recorded(espeak.say(order, text), chance)
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, samples, SAMPLING_RATE, format="FLAC", subtype="PCM_16")
        seconds.append(len(samples) / SAMPLING_RATE)
    return seconds


def main() -> None:
    """An order as JSON from standard input; the seconds of its files as JSON to standard output."""
    json.dump(fulfil(Order(**json.load(sys.stdin))), sys.stdout)


if __name__ == "__main__":
    main()
