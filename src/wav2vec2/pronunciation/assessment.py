"""What `assess` finds: an utterance, its words, their phones (or letters), each with its score, its time and its fault.

Scores are between 0 and 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

from wav2vec2.pronunciation.calibration import Calibration


class Fault(StrEnum):
    """What can be wrong with a phone."""

    substitution = "substitution"
    omission = "omission"
    insertion = "insertion"


@dataclass(frozen=True)
class AssessedPhone:
    """A phone, or a letter, that was asked for, or one that was put in."""

    #: What was asked for; "" for what was put in.
    text: str
    #: In seconds. What was left out is where its neighbours meet.
    start: float
    #: In seconds.
    end: float
    #: How probable it is that this was said as asked: by the model, or by its calibration if there is one.
    score: float
    #: What is wrong; None where nothing is.
    fault: Fault | None
    #: What was said, as far as the model can tell: `text` where nothing is wrong, "" for what was left out.
    said: str
    #: The published goodness of pronunciation, in nats, 0 at best; None for what was put in.
    goodness: float | None
    #: What may have been said here with its probability by the model, the likeliest first; "" is nothing.
    candidates: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class AssessedWord:
    """A word of what was asked for, with what was put in beside its phones."""

    text: str
    phones: tuple[AssessedPhone, ...]

    @property
    def start(self) -> float:
        """Where the first of it that was said begins, in seconds."""
        return next((phone.start for phone in self.phones if phone.said), self.phones[0].start)

    @property
    def end(self) -> float:
        """Where the last of it that was said ends, in seconds."""
        return next((phone.end for phone in reversed(self.phones) if phone.said), self.phones[0].start)

    @property
    def score(self) -> float:
        """The mean over its phones, those that were put in among them."""
        return fmean(phone.score for phone in self.phones)

    @property
    def omitted(self) -> bool:
        """Whether nothing of it was said."""
        return all(not phone.said for phone in self.phones)

    @property
    def mispronounced(self) -> bool:
        """Whether it was said, with a fault in it."""
        return not self.omitted and any(phone.fault for phone in self.phones)


@dataclass(frozen=True)
class Pause:
    """Silence between two words that lasts as long as listeners notice; in seconds."""

    start: float
    end: float
    #: How many words come before it.
    after_word: int


@dataclass(frozen=True)
class Fluency:
    """How an utterance runs on. The words and phones are those that were said."""

    #: The share of the time from the first word to the end of the last that is no pause.
    score: float
    #: From the start of the first word to the end of the last.
    seconds: float
    #: Without the pauses: how fast somebody articulates.
    phones_per_second: float
    #: With the pauses.
    words_per_minute: float
    pauses: tuple[Pause, ...]


@dataclass(frozen=True)
class Assessment:
    """How well an utterance was said."""

    name: str
    duration: float
    #: What the words are made of: "phones" or "letters".
    unit: str
    words: tuple[AssessedWord, ...]
    fluency: Fluency
    #: What the scores of phones were compared with; None if with nothing.
    calibration: Calibration | None

    def phones(self) -> Iterator[AssessedPhone]:
        """Those of all words."""
        for word in self.words:
            yield from word.phones

    @property
    def accuracy(self) -> float:
        """The mean score of the phones of all words that were said; 0 if there are none."""
        scores = [phone.score for word in self.words if not word.omitted for phone in word.phones]
        return fmean(scores) if scores else 0.0

    @property
    def completeness(self) -> float:
        """The share of the words that was said, well or not."""
        return fmean(not word.omitted for word in self.words)

    @property
    def score(self) -> float:
        """All three in one, as Azure does it: 0.6 of the lowest of them and 0.2 of each of the others."""
        lowest, *others = sorted((self.accuracy, self.completeness, self.fluency.score))
        return 0.6 * lowest + 0.2 * sum(others)
