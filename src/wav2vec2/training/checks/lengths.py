"""Transcripts against the length of their audio: too long to be spelled, said too fast or too slowly, odd durations.

Shapes: n clips.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from wav2vec2.baselines.spectrogram.spectrogram_config import SpectrogramCTCConfig
from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.configuration.frame_arithmetic import logits_length
from wav2vec2.training.checks.clips import ClipSource
from wav2vec2.training.checks.report import EXAMPLES, Finding, Severity, by_share, example
from wav2vec2.training.checks.texts import SpelledTexts
from wav2vec2.training.data.audio_clips import SAMPLING_RATE

#: No one speaks faster in any script; read English has about 15 characters a second, Mandarin 5.
_FASTEST = 40.0

#: A clip is odd among the others if it is so many times faster or slower than their median, and beyond so many
#: deviations (1.4826 times the median absolute deviation of the logarithm, which is the standard deviation of a normal
#: distribution). Single words scatter: a third to twice the median.
_FACTOR, _DEVIATIONS = 2.5, 5.0

#: The speed of so few clips says nothing of the others.
_FEWEST = 20

#: Beyond so many times the median length, and this many seconds, a clip is odd.
_LONG_FACTOR, _LONG_SECONDS = 10.0, 20.0


def frames_of(seconds: NDArray[np.float64], config: Wav2Vec2Config | SpectrogramCTCConfig) -> NDArray[np.int64]:
    """Frames (n,) that the model makes of clips of these lengths (n,); -1 where the length is not known."""
    frames = np.full(len(seconds), -1, np.int64)
    known = ~np.isnan(seconds)
    frames[known] = logits_length(np.round(seconds[known] * SAMPLING_RATE).astype(np.int64), config)
    return frames


def length_findings(
    source: ClipSource, spelled: SpelledTexts, config: Wav2Vec2Config | SpectrogramCTCConfig, max_bad_share: float
) -> Iterator[Finding]:
    """Everything that texts and lengths say together, without a look into the audio."""
    yield from _left_out(source, max_bad_share)
    for speed in source.speeds:
        yield from _too_long(source, spelled, config, max_bad_share, speed)
    yield from _speed(source, spelled)
    yield from _durations(source, spelled)


def speeds(source: ClipSource, spelled: SpelledTexts) -> NDArray[np.float64]:
    """Characters (labels) a second (n,) of the usable clips, NaN where there are none or the length is not known."""
    seconds = source.seconds[spelled.clips]
    with np.errstate(divide="ignore", invalid="ignore"):
        found: NDArray[np.float64] = np.where(spelled.labels > 0, spelled.labels / seconds, np.nan)
    return np.where(seconds > 0, found, np.nan)


def _left_out(source: ClipSource, allowed: float) -> Iterator[Finding]:
    """Clips whose header cannot be read, or that are outside of the lengths that are used."""
    if source.problems:
        yield Finding(
            "unreadable",
            by_share(len(source.problems), len(source), allowed),
            source.where,
            "clips cannot be read: they are left out",
            len(source.problems),
            len(source),
            [example(one.id, detail=one.reason) for one in source.problems[:EXAMPLES]],
            "files that play to their end",
        )
    for speed in source.speeds:
        yield from _of_unused_length(source, speed)


def _of_unused_length(source: ClipSource, speed: float) -> Iterator[Finding]:
    """Clips, or their copies at one speed, that are outside of the limits."""
    seconds = source.seconds / speed
    for kind, which, limit in (
        ("too_short", seconds < source.shortest, f"shorter than {source.shortest:g} s (data.min_seconds)"),
        ("too_long", seconds > source.longest, f"longer than {source.longest:g} s (data.max_seconds)"),
    ):
        found = np.flatnonzero(which)
        if len(found):
            severity: Severity = "warning" if len(found) > 0.1 * len(source) else "note"
            message = f"{_named(speed)} are {limit}: they are left out"
            yield source.finding(
                kind, severity, message, found, len(source), detail=lambda i: f"{seconds[i]:.2f} s", speed=speed
            )


def _named(speed: float) -> str:
    return "clips" if speed == 1 else f"copies at speed {speed:g}"


def _too_long(
    source: ClipSource,
    spelled: SpelledTexts,
    config: Wav2Vec2Config | SpectrogramCTCConfig,
    allowed: float,
    speed: float,
) -> Iterator[Finding]:
    """CTC needs a frame for each label, and one for the blank between two equal ones."""
    seconds = source.seconds / speed
    used = source.of_used_length(speed)[spelled.clips]
    frames = frames_of(seconds[spelled.clips], config)
    needed = spelled.labels + spelled.repeats
    found = np.flatnonzero(used & (frames >= 0) & (needed > frames))
    found = found[np.argsort(frames[found] - needed[found], kind="stable")]
    if len(found):
        measured = {
            int(spelled.clips[number]): f"{spelled.labels[number]} labels + {spelled.repeats[number]} repeats, "
            f"{frames[number]} frames of {seconds[spelled.clips[number]]:.2f} s"
            for number in found[:EXAMPLES]
        }
        yield source.finding(
            "target_too_long",
            by_share(len(found), int(used.sum()), allowed),
            f"targets{'' if speed == 1 else f' of {_named(speed)}'} are longer than their audio has frames: no model "
            "can learn them, they are left out of the loss",
            spelled.clips[found],
            int(used.sum()),
            "the transcript of this very clip; look for texts of another clip, or audio that was cut off"
            if speed == 1
            else "a lower speed in data.speeds, which leaves a frame for each label",
            lambda index: measured[index],
            speed,
        )


def _speed(source: ClipSource, spelled: SpelledTexts) -> Iterator[Finding]:
    """Clips with far more or fewer characters a second than the others, or than anyone can say."""
    speed = speeds(source, spelled)
    known = np.flatnonzero(~np.isnan(speed))
    if not len(known):
        return
    middle = float(np.median(speed[known]))
    if middle > _FASTEST * 0.75 and len(known) >= _FEWEST:
        yield Finding(
            "too_fast",
            "problem",
            source.where,
            f"the median clip has {middle:.1f} characters a second: the durations are wrong, or the audio is shorter "
            "than its text",
            right="10 to 20 in alphabetic scripts, fewer in others",
        )
    odd = speed > _FASTEST
    if len(known) >= _FEWEST:
        away = np.abs(np.log(speed / middle))
        spread = 1.4826 * float(np.median(away[known]))
        odd |= away > max(np.log(_FACTOR), _DEVIATIONS * spread)
    found = [number for number in known[np.argsort(-np.abs(np.log(speed[known] / middle)))] if odd[number]]
    if found:
        by_clip = dict(zip(spelled.clips.tolist(), speed.tolist(), strict=True))
        yield source.finding(
            "odd_speed",
            "warning",
            f"clips have too many or too few characters for their length (the median is {middle:.1f} a second)",
            spelled.clips[found],
            len(spelled.clips),
            "transcripts that belong to their clips, and clips that are not cut off or mostly silence",
            lambda index: f"{by_clip[index]:.1f} characters a second, {source.seconds[index]:.2f} s",
        )


def _durations(source: ClipSource, spelled: SpelledTexts) -> Iterator[Finding]:
    """Clips that are much longer than the others."""
    seconds = source.seconds[spelled.clips]
    known = seconds[~np.isnan(seconds)]
    if not len(known):
        return
    limit = max(_LONG_FACTOR * float(np.median(known)), _LONG_SECONDS)
    found = np.flatnonzero(seconds > limit)
    if len(found):
        yield source.finding(
            "odd_duration",
            "warning",
            f"clips are much longer than the others (the median is {np.median(known):.2f} s)",
            spelled.clips[found[np.argsort(-seconds[found])]],
            len(spelled.clips),
            "one utterance in each clip",
            lambda index: f"{source.seconds[index]:.2f} s",
        )
