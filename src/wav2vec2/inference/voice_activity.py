"""Where there is speech in a stream, and what counts as silence: sections of samples, found while it comes.

Shapes: S samples, F frames.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from wav2vec2.inference.speech_by_level import LevelDetector
from wav2vec2.inference.speech_by_silero import SileroDetector

#: What tells speech from silence: how far the sound rises above the noise, or the model of the package silero-vad.
SpeechFinder = Literal["level", "silero"]


class Section(NamedTuple):
    """Samples `start` ... `end` - 1 of a stream."""

    start: int
    end: int


class Detector(Protocol):
    """Gives every frame of a stream a score."""

    #: Speech begins with a frame of this score.
    enters: float
    #: It may end with a frame of less than that.
    leaves: float
    #: Samples of a frame.
    frame: int

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float64]:
        """Take in samples (S,); the scores of the next frames that can be given one."""

    def finish(self) -> NDArray[np.float64]:
        """The scores of the frames that are left at the end."""


@dataclass(frozen=True)
class SilenceRules:
    """What is silence in a recording, and may be skipped."""

    #: What finds the speech.
    by: SpeechFinder = "level"
    #: Seconds without speech, from which on they are skipped. Shorter pauses are heard, and so is a little of each.
    shortest_silence: float = 2.0
    #: Seconds of sound that are no speech because they are so few: a click, a key.
    shortest_speech: float = 0.1
    #: Seconds before and behind speech that are heard with it.
    padding: float = 0.5

    def __post_init__(self) -> None:
        if self.by not in get_args(SpeechFinder):
            raise ValueError(f"skip_silence={self.by!r}: must be one of {', '.join(get_args(SpeechFinder))}")
        if not (self.padding >= 0 and self.shortest_speech >= 0):
            raise ValueError(f"padding={self.padding}, shortest_speech={self.shortest_speech}: no negative seconds")
        if not self.shortest_silence > 2 * self.padding:
            raise ValueError(
                f"shortest_silence={self.shortest_silence}, padding={self.padding}: a silence must be longer than "
                "what is heard of it at both its ends"
            )

    def detector(self, rate: int) -> Detector:
        """A new one, for samples of this rate. ImportError if it needs a package that is not there."""
        return LevelDetector(rate) if self.by == "level" else SileroDetector(rate)


#: What `skip_silence` may be: no, yes (by level), by what, or by which rules.
SkipSilence = bool | SpeechFinder | SilenceRules


def silence_rules(skip: SkipSilence) -> SilenceRules | None:
    """The rules that `skip_silence` means; None if nothing is to be skipped.

    >>> silence_rules(False), silence_rules(True) == silence_rules("level") == SilenceRules()
    (None, True)
    """
    if isinstance(skip, SilenceRules):
        return skip
    if isinstance(skip, bool):
        return SilenceRules() if skip else None
    return SilenceRules(by=skip)


class VoiceActivity:
    """Finds the sections of one stream in which somebody speaks, with their padding; they do not depend on the packets.

    A section is given once the silence behind it has lasted long enough. A pause that is too short to be skipped is
    part of it.
    """

    def __init__(self, rules: SilenceRules, rate: int) -> None:
        self._detector = rules.detector(rate)
        self._silence, self._speech, self._padding = (
            round(seconds * rate) for seconds in (rules.shortest_silence, rules.shortest_speech, rules.padding)
        )
        self._samples = 0
        self._frames = 0
        self._start: int | None = None  # of the speech that goes on
        self._quiet_since: int | None = None  # where it may have ended

    def push(self, samples: NDArray[np.float32]) -> list[Section]:
        """Take in samples (S,); the sections that are over."""
        self._samples += len(samples)
        return self._follow(self._detector.push(samples).tolist())

    def finish(self) -> list[Section]:
        """The sections that are left at the end of the stream: the last may reach to its end."""
        found = self._follow(self._detector.finish().tolist())
        if self._start is not None:
            found += self._section(self._start, self._samples)
            self._start = None
        return found

    def _follow(self, scores: Iterable[float]) -> list[Section]:
        detector = self._detector
        found: list[Section] = []
        for score in scores:
            place = self._frames * detector.frame
            self._frames += 1
            if score >= detector.enters:
                self._quiet_since = None
                self._start = place if self._start is None else self._start
            elif self._start is not None and score < detector.leaves:
                self._quiet_since = place if self._quiet_since is None else self._quiet_since
                if place - self._quiet_since >= self._silence:
                    found += self._section(self._start, self._quiet_since)
                    self._start = self._quiet_since = None
        return found

    def _section(self, start: int, end: int) -> list[Section]:
        """Speech with its padding, if it is long enough."""
        if end - start <= self._speech:
            return []
        return [Section(max(0, start - self._padding), min(self._samples, end + self._padding))]
