"""A clip of audio as training knows it: where it is, what was read of it, and the seed of all that is random about it.

Shapes: S samples of a clip.
"""

import struct
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2vec2.processing.audio_files import load_audio
from wav2vec2.processing.waveforms import at_speed

#: Samples a second that every model of the family hears.
SAMPLING_RATE = 16000

#: The number of the "update" of clips that are evaluated, which no update of a training run has.
EVALUATION = -1

#: Headers are off by this much at most (the padding of an MP3 encoder); a file that is further off is another file.
HEADER_TOLERANCE = 0.1


class TrainingDataError(ValueError):
    """Data that a run cannot be trained on: which source, what is wrong with it, what would be right."""


@dataclass(frozen=True)
class Clip:
    """A clip that can be loaded."""

    #: What reports call it.
    id: str
    #: The file, or its encoded bytes.
    audio: Path | bytes
    #: How long the clip is.
    seconds: float
    #: Who speaks, if that is known.
    speaker: str | None = None
    #: What is said, if that is known.
    transcript: str | None = None
    #: Its number among all clips of the run, None of a clip in a stream.
    number: int | None = None
    #: How many times as fast as the file it is: 1, or that of a copy, whose `seconds` are its own.
    speed: float = 1.0

    def at(self, speed: float) -> "Clip":
        """A copy of this clip, which is as its file has it, at another speed."""
        if speed == 1:
            return self
        return replace(self, id=f"{self.id} at {speed:g}", seconds=self.seconds / speed, speed=speed)


@dataclass(frozen=True)
class ClipFacts:
    """What is known of a loaded clip beside its samples."""

    #: What reports call it.
    id: str
    #: How many samples it has.
    length: int
    #: The seed of all that is random about it, such as masks and distractors.
    seed: int
    #: What is said, if that is known.
    transcript: str | None = None
    #: Who speaks, if that is known.
    speaker: str | None = None
    #: Its number among all clips of the run, None of a clip that is not the same whenever it is read.
    number: int | None = None
    #: Whether its samples are at hand; those of a clip that is kept are not.
    read: bool = True
    #: How many times as fast as its file it is.
    speed: float = 1.0


@dataclass(frozen=True)
class LoadedClip:
    """A decoded clip."""

    #: What reports call it.
    id: str
    #: One channel (S,) at 16 kHz.
    samples: NDArray[np.float32]
    #: The seed of all that is random about it, such as masks and distractors.
    seed: int
    #: What is said, if that is known.
    transcript: str | None = None
    #: Who speaks, if that is known.
    speaker: str | None = None
    #: Its number among all clips of the run, None of a clip that is not the same whenever it is read.
    number: int | None = None
    #: How many samples it has where it was not read, so that there are none here.
    kept: int = 0
    #: How many times as fast as its file it is.
    speed: float = 1.0

    @property
    def facts(self) -> ClipFacts:
        """All but the samples."""
        length, read = self.kept or len(self.samples), not self.kept
        return ClipFacts(self.id, length, self.seed, self.transcript, self.speaker, self.number, read, self.speed)


@dataclass(frozen=True)
class Skipped:
    """A clip that could not be used, and the reason."""

    id: str
    reason: str


@dataclass(frozen=True)
class LengthLimits:
    """Which clips are used, and how much of them: the same limits for every source of a run.

    Clips below `shortest` seconds are left out. A clip above `longest` seconds is cropped where `crop` says so; with
    transcripts it is left out, since no one knows which words a crop holds.
    """

    shortest: float
    longest: float
    crop: bool

    def counted(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """The seconds of each clip that one use of it gives."""
        return np.minimum(seconds, self.longest) if self.crop else seconds


def clip_seed(seed: int, update: int, index: int) -> int:
    """63 bits for the clip at `index` of the global batch of `update`: the same on every machine and Python.

    A cryptographic hash keeps the seeds of neighbouring clips and updates unrelated, which sums of the three would not.
    """
    digest = blake2b(struct.pack("<qqq", seed, update, index), digest_size=8, person=b"wav2vec2 clip").digest()
    return int.from_bytes(digest, "little") >> 1


def crop_start(seed: int, total: int, kept: int) -> int:
    """The first of `kept` samples out of `total`: every place equally likely, decided by the clip's seed alone."""
    if total <= kept:
        return 0
    digest = blake2b(struct.pack("<q", seed), digest_size=8, person=b"wav2vec2 crop").digest()
    return int.from_bytes(digest, "little") * (total - kept + 1) >> 64


def load_clip(clip: Clip, seed: int, limits: LengthLimits, *, at_random: bool = True) -> LoadedClip:
    """Decode a clip, and only the crop of it where it is longer than `limits` allow.

    `at_random=False` takes the first `longest` seconds. What was said to be of a usable length and is not (the
    manifest is wrong, or the header) raises `ValueError`: nothing here may take more memory than the limits promise.
    A copy at another speed is made of what is read of its file, whose length is the one that is compared.
    """
    if clip.speed != 1:
        original = replace(clip, seconds=clip.seconds * clip.speed, speed=1.0)
        whole = replace(limits, shortest=limits.shortest * clip.speed, longest=limits.longest * clip.speed)
        loaded = load_clip(original, seed, whole, at_random=at_random)
        return replace(loaded, samples=at_speed(loaded.samples, clip.speed, SAMPLING_RATE), speed=clip.speed)
    start, most = 0.0, limits.longest
    if limits.crop:
        kept = round(limits.longest * SAMPLING_RATE)
        if at_random:
            start = crop_start(seed, int(clip.seconds * SAMPLING_RATE), kept) / SAMPLING_RATE
    else:
        most = max(limits.longest, clip.seconds) + HEADER_TOLERANCE
        kept = round(most * SAMPLING_RATE)
        most += HEADER_TOLERANCE
    samples = load_audio(clip.audio, SAMPLING_RATE, start=start, duration=most)
    if len(samples) > kept and not limits.crop:
        raise ValueError(f"longer than the {clip.seconds:.2f} s that it was said to be")
    if len(samples) < (min(limits.shortest, clip.seconds) - HEADER_TOLERANCE) * SAMPLING_RATE:
        found, said = len(samples) / SAMPLING_RATE, clip.seconds
        raise ValueError(f"{found:.2f} s from second {start:.2f} on, of a file said to last {said:.2f} s")
    number = None if limits.crop and at_random and clip.seconds > limits.longest else clip.number
    return LoadedClip(clip.id, samples[:kept], seed, clip.transcript, clip.speaker, number)


def kept_clip(clip: Clip, seed: int, samples: int) -> LoadedClip:
    """A clip of so many samples that is kept, and so is not read."""
    nothing = np.empty(0, np.float32)
    return LoadedClip(clip.id, nothing, seed, clip.transcript, clip.speaker, clip.number, samples, clip.speed)
