"""What finds speech, and what it costs: by level and by silero-vad, on speech whose place is known.

    python benchmarks/voice_activity.py DATA      # a folder with librispeech_unlabelled/ and fsdd/ in it

14 sentences of as many voices (LibriSpeech) and 20 single digits (FSDD), each brought to the same level, lie 3 to 12 s
apart in digital silence, to which a background is added: its level is given in decibels below the speech. A frame of
20 ms is speech if it is at most 30 dB below the loud frames of its clip, before noise is added. Counted are frames of
speech that are not heard, single digits of which nothing is heard, and frames that are heard though they are more than
half a second from every clip. Seconds are of the processor, for an hour of sound. silero-vad is measured where it is
installed (`pip install 'wav2vec2[vad]'`).
"""

import argparse
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from wav2vec2.inference.voice_activity import Section, SilenceRules, SpeechFinder, VoiceActivity

RATE, FRAME = 16_000, 320
SPEECH_LEVEL = -26.0

Samples = NDArray[np.float32]
Flags = NDArray[np.bool_]


def leveled(sound: NDArray[np.floating[Any]], decibels: float) -> Samples:
    """The same sound with this level."""
    power = np.square(sound, dtype=np.float64).mean()
    return np.asarray(sound * (10 ** (decibels / 20) / np.sqrt(power)), np.float32)


def placed(clips: list[Samples]) -> tuple[Samples, Flags, list[tuple[int, int]]]:
    """Clips in silence; which frames are speech; the first frame of each clip, and the one behind its last."""
    generator, place = np.random.default_rng(3), 0
    sounds, spoken, spans = [], [], []
    for clip in [*clips, None]:
        pause = int(generator.uniform(3, 12) * RATE / FRAME)
        sounds.append(np.zeros(pause * FRAME, np.float32))
        spoken.append(np.zeros(pause, bool))
        place += pause
        if clip is not None:
            whole = np.pad(leveled(clip, SPEECH_LEVEL), (0, -len(clip) % FRAME))
            levels = 10 * np.log10(np.square(whole.reshape(-1, FRAME), dtype=np.float64).mean(1) + 1e-12)
            sounds.append(whole)
            spoken.append(levels > np.percentile(levels, 95) - 30)
            spans.append((place, place + len(levels)))
            place += len(levels)
    return np.concatenate(sounds), np.concatenate(spoken), spans


def backgrounds(count: int) -> Iterator[tuple[str, float, Samples]]:
    """Names, decibels below the speech, and samples."""
    generator, clock = np.random.default_rng(1), np.arange(count) / RATE
    white = generator.standard_normal(count)
    pink = np.fft.irfft(np.fft.rfft(white) / np.sqrt(np.maximum(np.fft.rfftfreq(count, 1 / RATE), 20)), count)
    hum = np.sum([np.sin(2 * np.pi * 50 * number * clock + number) / number for number in range(1, 9)], axis=0)
    keys = white * (clock % 0.23 < 0.02) * (clock % 20 < 12)
    pitches = 220 * 2 ** (generator.integers(0, 12, count // 4000 + 1).repeat(4000)[:count] / 12)
    tune = np.sin(2 * np.pi * np.cumsum(pitches) / RATE) * (clock % 0.25 < 0.2)
    yield "digital silence", np.inf, np.zeros(count, np.float32)
    for name, sound in (("white noise", white), ("pink noise", pink)):
        for below in (20.0, 10.0, 5.0, 0.0):
            yield name, below, leveled(sound, SPEECH_LEVEL - below)
    yield "hum of 50 Hz", 0.0, leveled(hum, SPEECH_LEVEL)
    yield "typing", 20.0, leveled(keys, SPEECH_LEVEL - 20)
    yield "a tune", 20.0, leveled(tune, SPEECH_LEVEL - 20)


def sections(sound: Samples, by: SpeechFinder) -> list[Section]:
    """Of a sound that comes in pieces of 30 s."""
    voice = VoiceActivity(SilenceRules(by), RATE)
    pieces = (sound[place : place + 30 * RATE] for place in range(0, len(sound), 30 * RATE))
    return [section for piece in pieces for section in voice.push(piece)] + voice.finish()


def row(sound: Samples, spoken: Flags, spans: list[tuple[int, int]], by: SpeechFinder) -> str:
    """The cells of one detector."""
    started = time.process_time()
    found = sections(sound, by)
    seconds = (time.process_time() - started) * 3600 * RATE / len(sound)
    heard, near = np.zeros(len(spoken), bool), np.zeros(len(spoken), bool)
    for start, end in found:
        heard[start // FRAME : -(-end // FRAME)] = True
    for first, last in spans:
        near[max(first - 25, 0) : last + 25] = True
    lost = sum(not heard[first:last].any() for first, last in spans)
    missed, wrong = 100 * (spoken & ~heard).sum() / spoken.sum(), 100 * (heard & ~near).sum() / (~near).sum()
    return f"{missed:.1f} % | {lost} | {wrong:.1f} % | {seconds:.1f} s |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    generator = np.random.default_rng(0)
    paths = [
        path
        for folder, count in (("librispeech_unlabelled", 14), ("fsdd", 20))
        for path in generator.permutation(sorted((data / folder).rglob("*.flac")))[:count]
    ]
    clean, spoken, spans = placed([soundfile.read(path, dtype="float32")[0] for path in paths])
    detectors: list[SpeechFinder] = ["level"] if find_spec("silero_vad") is None else ["level", "silero"]
    print(f"{len(clean) / RATE:.0f} s; {len(spans)} clips; {spoken.sum()} frames of speech")
    cells = " missed | digits lost | heard for nothing | an hour |"
    print("| background, below the speech |" + "".join(f" {by}:{cells}" for by in detectors))
    print("|---|" + "---|" * (4 * len(detectors)))
    for name, below, noise in backgrounds(len(clean)):
        label = name if np.isinf(below) else f"{name}, {below:.0f} dB"
        print(f"| {label} | " + " ".join(row(clean + noise, spoken, spans, by) for by in detectors), flush=True)


if __name__ == "__main__":
    main()
