"""Where the sounds of the study come from: recordings in Debian packages, voices, and which of them train or test.

Nothing of it is copied into this repository. `fetch_sounds.sh FOLDER` fetches and unpacks the packages; each says its
licence in `usr/share/doc/PACKAGE/copyright`. Speech is that of the shared data (`speech/*.parquet`), or where there is
none, of espeak's voices.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from synthetic_sounds import RATE, Chance, Samples

from wav2vec2 import load_audio
from wav2vec2.quickstart.sentences import draw_sentences
from wav2vec2.quickstart.speech_synthesis import Order, Synthesiser
from wav2vec2.quickstart.spoken_corpus import TEST_VOICES, TRAINING_VOICES

#: Recordings by part and label, as patterns in the folder of the packages. No file, composer or recording of a test is
#: trained on.
RECORDINGS = {
    "train": {
        "music": [
            "asterisk-moh-opsound-wav/**/macroform-*.wav",
            "frozen-bubble-data/**/*zik*.ogg",
            "asc-music/**/*.mp3",
        ],
        "applause": ["foobillardplus-data/**/applause.wav", "tuxfootball/**/crowdcheer.wav"],
        "ringing": ["sound-theme-freedesktop/**/phone-outgoing-calling.oga"],
        "beep": ["asterisk-core-sounds-en-wav/**/beep.wav", "asterisk-core-sounds-en-wav/**/ascending-2tone.wav"],
        "none": [
            "scratch/**/" + name
            for name in (
                "MotorcyclePassing.wav",
                "SewingMachine.mp3",
                "Footsteps-2.mp3",
                "Rattle.wav",
                "Bubbles.wav",
                "DoorCreak.wav",
            )
        ],  # fmt: skip
    },
    "test": {
        "music": [
            "asterisk-moh-opsound-wav/**/manolo*.wav",
            "asterisk-moh-opsound-wav/**/reno*.wav",
            "tuxfootball/**/titlemusic.ogg",
            "scratch/**/GuitarChords*.mp3",
            "scratch/**/Medieval*.mp3",
            "scratch/**/Techno*.mp3",
        ],
        "applause": [
            "libreoffice-common/**/applause.wav",
            "frozen-bubble-data/**/applause.ogg",
            "freetennis-common/**/pubblico.wav",
        ],
        "ringing": ["sound-theme-freedesktop/**/phone-incoming-call.oga"],
        "beep": [
            "sound-theme-freedesktop/**/phone-outgoing-busy.oga",
            "asterisk-core-sounds-en-wav/**/beeperr.wav",
            "asterisk-core-sounds-en-wav/**/descending-2tone.wav",
            "scratch/**/ComputerBeeps*.wav",
        ],
        "none": [
            "scratch/**/" + name
            for name in (
                "CarPassing.wav",
                "WaterRunning.mp3",
                "Footsteps-1.wav",
                "Typing.mp3",
                "Ripples.wav",
                "DoorClose.mp3",
            )
        ],  # fmt: skip
    },
}

#: Sources of speech by part. Readers of the first are speakers of their own, of whom every second one tests.
_READERS = "libri_resemblyzer"
_SPEECH = {"train": {"kathleen", "nathalie"}, "test": {"kerstin", "ohf_voices"}}

#: Seconds of a recording that are read, and clips of each source of speech.
_LONGEST, _SPOKEN = 90.0, 80


@dataclass(frozen=True)
class Sources:
    """What scenes are put together from: `sounds` by label, and `speech`."""

    sounds: dict[str, list[Samples]]
    speech: list[Samples]


def recorded_sounds(packages: Path, part: str) -> dict[str, list[Samples]]:
    """The recordings of a part by label, at the loudness 1."""
    found: dict[str, list[Samples]] = {}
    for label, patterns in RECORDINGS[part].items():
        paths = sorted({path for pattern in patterns for path in packages.glob(pattern)})
        if not paths:
            raise FileNotFoundError(f"{packages}: no {label} there: run `sh fetch_sounds.sh {packages}` first")
        found[label] = [loud_parts(load_audio(path, duration=_LONGEST)) for path in paths]
    return found


def loud_parts(samples: Samples) -> Samples:
    """Without the silence before and behind it, at the loudness 1."""
    energies = _energies(samples)
    heard = np.flatnonzero(energies > energies.max() * 10**-3.5)
    kept = samples[heard[0] * 320 : (heard[-1] + 1) * 320]
    return kept / max(float(np.sqrt(np.mean(np.square(kept, dtype=np.float64)))), 1e-9)


def spoken_stretches(samples: Samples, pause: float = 0.4) -> list[tuple[float, float]]:
    """Where somebody speaks in a clean clip, in seconds; pauses shorter than `pause` belong to it."""
    energies = _energies(samples)
    stretches: list[tuple[float, float]] = []
    for frame in np.flatnonzero(energies > energies.max() * 10**-3.5).tolist():
        begin, end = frame * 0.02, (frame + 1) * 0.02
        if stretches and begin - stretches[-1][1] < pause:
            stretches[-1] = (stretches[-1][0], end)
        else:
            stretches.append((begin, end))
    return [stretch for stretch in stretches if stretch[1] - stretch[0] > 0.1]


def _energies(samples: Samples) -> Samples:
    """The energy of each 20 ms."""
    whole = samples[: len(samples) // 320 * 320] if len(samples) >= 320 else np.pad(samples, (0, 320 - len(samples)))
    energies: Samples = np.square(whole.reshape(-1, 320)).mean(1) + 1e-12
    return energies


def speech_of(part: str, data: Path | None, chance: Chance) -> list[Samples]:
    """Clips of speech of a part, of at most ten seconds, at the loudness 1."""
    clips = list(_recorded_speech(part, data)) if data is not None else list(_synthetic_speech(part))
    chosen = [clips[number] for number in chance.permutation(len(clips))[:_SPOKEN]]
    return [loud_parts(clip[: 10 * RATE]) for clip in chosen]


def _recorded_speech(part: str, data: Path) -> Iterator[Samples]:
    import pyarrow.parquet

    readers: list[str] = []
    taken: dict[str, int] = {}
    for path in sorted((data / "speech").glob("train-0[0-3]*.parquet")):
        table = pyarrow.parquet.read_table(path, columns=["audio", "source", "speaker"])
        for row in table.to_pylist():
            source, speaker, audio = row["source"], row["speaker"], row["audio"]
            if source == _READERS and speaker not in readers:
                readers.append(speaker)
            odd = source == _READERS and readers.index(speaker) % 2 == (part == "test")
            if (odd or source in _SPEECH[part]) and taken.setdefault(source, 0) < _SPOKEN:
                taken[source] += 1
                yield soundfile.read(io.BytesIO(audio["bytes"]), dtype="float32")[0]


def _synthetic_speech(part: str) -> Iterator[Samples]:
    espeak = Synthesiser()
    voices = TRAINING_VOICES if part == "train" else TEST_VOICES
    for number, text in enumerate(draw_sentences(_SPOKEN, 1 + (part == "test"))):
        voice = voices[number % len(voices)]
        order = Order(voice.espeak_name, voice.rate, voice.pitch, voice.liveliness, 0, [], [])
        yield espeak.say(order, text)
