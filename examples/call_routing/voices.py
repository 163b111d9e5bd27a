"""Synthetic people on the telephone: espeak-ng's voices, some to train on, others to choose by, others to call.

A throat (espeak's variant), an accent, a rate and a pitch make a person. No throat is in two of the three groups.

Shapes: S samples.
"""

import io
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from wav2vec2.quickstart.speech_synthesis import Order, Synthesiser
from wav2vec2.quickstart.spoken_corpus import DEVELOPMENT_VOICES, TEST_VOICES, TRAINING_VOICES, Voice

#: Speech at 16 kHz (S,).
Speech = NDArray[np.float32]

#: Every third voice of the quickstart is nobody to train on here, so that there are enough to call.
TRAINED_ON = tuple(voice for number, voice in enumerate(TRAINING_VOICES) if number % 3)
_OTHERS = tuple(voice for number, voice in enumerate(TRAINING_VOICES) if not number % 3)

#: Throats to choose thresholds by, and throats that call: 4 and 20.
CHOSEN_BY, CALLERS = (*DEVELOPMENT_VOICES, *_OTHERS[:2]), (*TEST_VOICES, *_OTHERS[2:])


def people(throats: Sequence[Voice]) -> Iterator[Voice]:
    """People without end: every throat in turn, each time with another accent, rate and pitch."""
    accents = sorted({voice.accent for voice in TRAINING_VOICES})
    for turn in itertools.count():
        for number, voice in enumerate(throats):
            accent = accents[(number + turn) % len(accents)]
            rate, pitch = 145 + (11 * turn + 7 * number) % 36, 38 + (13 * turn + 5 * number) % 25
            yield Voice(accent, voice.throat, rate, pitch, 40 + (9 * turn + 3 * number) % 21)


def spoken(orders: Sequence[tuple[Voice, Sequence[str]]], processes: int = 2) -> list[list[Speech]]:
    """What each person says, text by text. espeak carries noise over from text to text, so that each order gets a
    process of its own (this file as a program), and the same orders give the same samples."""
    with ThreadPoolExecutor(processes) as pool:
        return list(pool.map(_said_elsewhere, orders))


def _said_elsewhere(order: tuple[Voice, Sequence[str]]) -> list[Speech]:
    voice, texts = order
    asked = Order(voice.espeak_name, voice.rate, voice.pitch, voice.liveliness, 0, texts, [])
    given = json.dumps(asdict(asked)).encode()
    done = subprocess.run([sys.executable, __file__], input=given, capture_output=True)
    if done.returncode:
        raise OSError(f"speech could not be made with the voice {voice.espeak_name}: {done.stderr.decode()[-200:]}")
    clips: list[Speech] = list(np.load(io.BytesIO(done.stdout)).values())
    return clips


def _say() -> None:
    """An order as JSON from standard input; what is said to standard output."""
    order = Order(**json.load(sys.stdin))
    espeak, content = Synthesiser(), io.BytesIO()
    np.savez(content, *(_at_a_usual_level(espeak.say(order, text)) for text in order.texts))
    sys.stdout.buffer.write(content.getvalue())


def _at_a_usual_level(speech: Speech) -> Speech:
    power = max(float(np.sqrt(np.mean(speech.astype(np.float64) ** 2))), 1e-6)
    return (speech * (0.05 / power)).astype(np.float32)


if __name__ == "__main__":
    _say()
