"""`Evaluation`: what was measured, of which model, on which data, how; everything a model card says about quality.

It holds names, never paths: it is made to be published.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from wav2vec2.evaluation.bootstrap import Improvement, Interval, Resampling, by_group, improvement, interval
from wav2vec2.evaluation.scoring import Counts, UtteranceScore, total
from wav2vec2.files.strict_records import record_from_json, record_to_json

#: The form of `evaluation.json`; a reader knows by it what it can expect.
FORMAT = 1

Setting = str | int | float | bool | None


@dataclass(frozen=True)
class ErrorRate:
    """A rate (0.05 for 5 %) with what it is made of, and its intervals when utterances or speakers are drawn again."""

    rate: float
    substitutions: int
    deletions: int
    insertions: int
    hits: int
    reference: int  # words (or characters) of the references
    interval: Interval | None
    speaker_interval: Interval | None  # None where not every speaker is known

    def __post_init__(self) -> None:
        counts = Counts(self.hits, self.substitutions, self.deletions, self.insertions)
        if min(self.hits, self.substitutions, self.deletions, self.insertions) < 0:
            raise ValueError("counts of errors below 0")
        if counts.reference != self.reference or abs(counts.rate - self.rate) > 1e-9:
            raise ValueError(
                f"rate={self.rate} of {self.reference} is not what the counts say: {counts.rate} of {counts.reference}"
            )


@dataclass(frozen=True)
class Decoding:
    """One way from the model's output to text, its errors, and the time for reading, the model and the search."""

    name: str  # "greedy", or "beam" for beam search, with or without a language model
    settings: dict[str, Setting]
    wer: ErrorRate
    cer: ErrorRate
    wrong_utterances: int  # with at least one word error
    audio_seconds: float
    seconds: float  # wall clock, loading of the model not counted

    @property
    def real_time_factor(self) -> float:
        """Seconds of computing per second of audio: below 1 is faster than speech."""
        return self.seconds / self.audio_seconds if self.audio_seconds else 0.0


@dataclass(frozen=True)
class Comparison:
    """Is one decoding better than another? Word error rates on the same utterances, drawn together."""

    better: str
    than: str
    by_utterance: Improvement | None
    by_speaker: Improvement | None


@dataclass(frozen=True)
class EvaluatedModel:
    """Which model: its name, the SHA-256 of each of its weight files, and how it ran."""

    name: str
    weights: dict[str, str]
    parameters: int
    precision: str
    language: str | None


@dataclass(frozen=True)
class EvaluatedData:
    """Which data: as its publisher calls it, where the caller knows that, and the manifest."""

    name: str
    config: str | None
    split: str | None
    revision: str | None
    manifest: str
    manifest_sha256: str


@dataclass(frozen=True)
class Failure:
    """A recording that could not be read. It is in no rate."""

    id: str
    reason: str


@dataclass(frozen=True)
class Evaluation:
    """All that a model card needs; `to_json` and `from_json` lose nothing and guess nothing."""

    format: int
    model: EvaluatedModel
    data: EvaluatedData
    utterances: int
    hours: float
    speakers: int | None
    normalizer: str
    normalizer_steps: str
    resampling: Resampling
    decodings: list[Decoding]
    comparison: Comparison | None
    failures: list[Failure]
    versions: dict[str, str]
    hardware: str
    date: str
    seconds: float

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"format={self.format}: this version reads {FORMAT}")
        if not self.decodings:
            raise ValueError("decodings is empty: nothing was measured")

    @property
    def best(self) -> Decoding:
        """The decoding with the fewest word errors."""
        return min(self.decodings, key=lambda decoding: decoding.wer.rate)

    def to_json(self) -> str:
        """The content of `evaluation.json`."""
        return record_to_json(self)

    @staticmethod
    def from_json(text: str) -> "Evaluation":
        """Read what `to_json` wrote; anything missing, unknown or of another type is a `RecordError`."""
        return record_from_json(Evaluation, text)


def error_rate(counts: Sequence[Counts], speakers: Sequence[str] | None, how: Resampling) -> ErrorRate:
    """The rate of a corpus from the counts of its utterances, with intervals."""
    errors, lengths = [one.errors for one in counts], [one.reference for one in counts]
    whole = total(counts)
    each = range(len(counts))
    return ErrorRate(
        whole.rate,
        whole.substitutions,
        whole.deletions,
        whole.insertions,
        whole.hits,
        whole.reference,
        interval(by_group(errors, each), by_group(lengths, each), how),
        None if speakers is None else interval(by_group(errors, speakers), by_group(lengths, speakers), how),
    )


def compare(
    names: tuple[str, str],
    better: Sequence[UtteranceScore],
    than: Sequence[UtteranceScore],
    speakers: Sequence[str] | None,
    how: Resampling,
) -> Comparison:
    """How sure it is that the first decoding makes fewer word errors than the second, on the same utterances."""

    def paired(groups: Sequence[Hashable]) -> Improvement | None:
        before, after = (by_group([score.words.errors for score in scores], groups) for scores in (than, better))
        return improvement(before, after, by_group([score.words.reference for score in than], groups), how)

    return Comparison(*names, paired(range(len(than))), None if speakers is None else paired(speakers))
