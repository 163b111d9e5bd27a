"""Synthetic people on the telephone: espeak-ng's voices, some to train on, others to choose by, others to call.

A throat (espeak's variant), an accent, a rate and a pitch make a person. No throat is in two of the three groups.

Shapes: S samples.
"""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from wav2vec2.quickstart.speech_synthesis import Order, Synthesiser
from wav2vec2.quickstart.spoken_corpus import DEVELOPMENT_VOICES, TEST_VOICES, TRAINING_VOICES, Voice

#: Speech at 16 kHz (S,).
Speech = NDArray[np.float32]

#: Every third voice of the quickstart is nobody to train on here, so that there are enough to call.
TRAINED_ON = tuple(voice for number, voice in enumerate(TRAINING_VOICES) if number % 3)
_OTHERS = tuple(voice for number, voice in enumerate(TRAINING_VOICES) if not number % 3)

#: Throats to choose thresholds by, and throats that call: 4 and 22.
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
    process of its own, and the same orders give the same samples."""
    with ProcessPoolExecutor(processes, get_context("spawn"), max_tasks_per_child=1) as pool:
        return list(pool.map(_say, orders))


def _say(order: tuple[Voice, Sequence[str]]) -> list[Speech]:
    voice, texts = order
    espeak = Synthesiser()
    asked = Order(voice.espeak_name, voice.rate, voice.pitch, voice.liveliness, 0, texts, [])
    return [_at_a_usual_level(espeak.say(asked, text)) for text in texts]


def _at_a_usual_level(speech: Speech) -> Speech:
    power = max(float(np.sqrt(np.mean(speech.astype(np.float64) ** 2))), 1e-6)
    return (speech * (0.05 / power)).astype(np.float32)
