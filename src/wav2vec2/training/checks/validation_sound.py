"""A look into the sound of a few clips: audio that plays too slowly, silence, clipping.

Headers can lie: audio of 44.1 kHz in a file that says 16 kHz. Two signs together tell: fewer characters a second than
anyone reads, and a voice lower than anyone's, with no energy above what 44.1 kHz leaves of a voice. The bounds were
set on LibriSpeech and the Free Spoken Digit Dataset (8 kHz audio): real voices 80 to 270 Hz, slowed ones 34 to 112 Hz.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from wav2vec2.processing.audio_files import load_audio
from wav2vec2.training.checks.validation_clips import ClipSource
from wav2vec2.training.checks.validation_headers import chosen
from wav2vec2.training.checks.validation_lengths import speeds
from wav2vec2.training.checks.validation_report import EXAMPLES, Example, Finding, by_share, example
from wav2vec2.training.checks.validation_text import SpelledTexts
from wav2vec2.training.checks.voice_measures import Sound, measure
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

#: Peak of a clip that is as good as silent, and share of samples at full scale of one that is clipped.
_SILENT, _CLIPPED = 10 ** (-60 / 20), 0.005


def sound_findings(
    where: str, source: ClipSource, spelled: SpelledTexts, seed: int, max_bad_share: float
) -> tuple[list[Finding], dict[str, Any]]:
    """Findings, and how much was decoded."""
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
    suspected = [index for index in heard if by_clip[index] < _SLOW and _is_low(heard[index])]
    findings = list(_slowed(where, source, suspected, len([one for one in slow if one in heard]), heard, by_clip))
    findings += _faults(where, source, heard, failed, max_bad_share)
    return findings, {"decoded": len(heard) + len(failed)}


def _slowest(source: ClipSource, spelled: SpelledTexts, speed: Any) -> list[int]:
    """The clips with the fewest characters a second below the bound, of those long enough to hear a voice in."""
    seconds = source.seconds[spelled.clips]
    slow = np.flatnonzero((speed < _SLOW) & (seconds > 0.4))
    order = slow[np.argsort(speed[slow], kind="stable")]
    there = (int(spelled.clips[number]) for number in order)
    if source.complete:
        return [index for _, index in zip(range(_SLOWEST), there, strict=False)]
    return [index for index in there if source.audio(index) != b""][:_SLOWEST]


def _is_low(sound: Sound) -> bool:
    return sound.pitch < _LOW and sound.reach < _REACH  # false for NaN


def _slowed(
    where: str,
    source: ClipSource,
    suspected: list[int],
    decoded: int,
    heard: dict[int, Sound],
    speed: dict[int, float],
) -> Iterator[Finding]:
    """One low voice is a person; most of the slowest clips with one are a wrong rate."""
    if not suspected:
        return
    median = float(np.median([speed[index] for index in suspected]))
    rate = min(_RATES, key=lambda rate: abs(np.log(rate / 16000 * median / _USUAL_SPEED)))
    alike = "44.1 or 48 kHz" if rate >= 44100 else f"about {rate / 1000:g} kHz"
    yield Finding(
        "slowed_audio",
        "problem" if len(suspected) >= max(2, 0.5 * decoded) else "warning",
        where,
        f"of the slowest clips sound too slow, as audio of {alike} labelled 16 kHz does: {median:.1f} characters a "
        f"second, voices at {np.median([heard[index].pitch for index in suspected]):.0f} Hz",
        len(suspected),
        max(decoded, len(suspected)),
        [
            _of(source, i, f"{speed[i]:.1f} characters a second, voice at {heard[i].pitch:.0f} Hz")
            for i in suspected[:EXAMPLES]
        ],
        "the true sampling rate in the headers of the files (10 to 20 characters a second, voices of 80 to 300 Hz)",
    )


def _faults(
    where: str, source: ClipSource, heard: dict[int, Sound], failed: dict[int, str], allowed: float
) -> Iterator[Finding]:
    total = len(heard) + len(failed)
    silent = {index: f"peak {sound.peak:.1e}" for index, sound in heard.items() if sound.peak < _SILENT}
    clipped = {i: f"{sound.clipped:.1%} of the samples" for i, sound in heard.items() if sound.clipped > _CLIPPED}
    for kind, found, message, right in (
        ("undecodable", failed, "clips that were decoded are damaged", "files that play to their end"),
        ("silent", silent, "clips that were decoded are silent, yet have a transcript", "audio that can be heard"),
        ("clipped", clipped, "clips that were decoded are clipped (samples at full scale)", "a lower recording level"),
    ):
        if found:
            yield Finding(
                kind,
                "warning" if kind == "clipped" else by_share(len(found), total, max(allowed, 0.1)),
                where,
                message,
                len(found),
                total,
                [_of(source, index, detail) for index, detail in list(found.items())[:EXAMPLES]],
                right,
            )


def _of(source: ClipSource, index: int, detail: str) -> Example:
    return example(source.ids[index], source.transcripts[index], detail)
