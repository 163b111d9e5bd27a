"""`Evaluation`: what was measured, of which model, on which data, how; everything a model card says about quality.

It holds names, never paths: it is made to be published.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from wav2vec2.evaluation.bootstrap import Improvement, Interval, Resampling, by_group, improvement, interval
from wav2vec2.evaluation.normalisers import PHONES
from wav2vec2.evaluation.scoring import Counts, UtteranceScore, total
from wav2vec2.files.strict_records import record_from_json, record_to_json

#: The form of `evaluation.json`; a reader knows by it what it can expect.
FORMAT = 1

Setting = str | int | float | bool | None

#: The rates of a model of letters.
_RATES = (("wer", "WER", "words"), ("cer", "CER", "characters"))


@dataclass(frozen=True)
class ErrorRate:
    """A rate (0.05 for 5 %) with what it is made of, and its intervals when utterances or speakers are drawn again."""

    #: Errors per unit of the references; units are words or characters.
    rate: float
    #: Units that were taken for another.
    substitutions: int
    #: Units that were left out.
    deletions: int
    #: Units that were put in.
    insertions: int
    #: Units that are right.
    hits: int
    #: Units of all references together.
    reference: int
    #: Where the rate lies for other utterances; None for fewer than two.
    interval: Interval | None
    #: Where the rate lies for other speakers; None where not every speaker is known.
    speaker_interval: Interval | None

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

    #: "greedy", or "beam" for beam search, with or without a language model.
    name: str
    #: All that the search depends on, by name.
    settings: dict[str, Setting]
    #: Errors in words; of a model of phones (`normalizer` is "phones") in phones.
    wer: ErrorRate
    #: Errors in characters.
    cer: ErrorRate
    #: Utterances with at least one word error.
    wrong_utterances: int
    #: How much audio was recognised.
    audio_seconds: float
    #: How long it took by the clock, loading of the model not counted.
    seconds: float

    @property
    def real_time_factor(self) -> float:
        """Seconds of computing per second of audio: below 1 is faster than speech."""
        return self.seconds / self.audio_seconds if self.audio_seconds else 0.0


@dataclass(frozen=True)
class DecodingComparison:
    """Is one decoding better than another? Word error rates on the same utterances, drawn together."""

    #: The decoding that is expected to be better.
    better: str
    #: The decoding that it is compared with.
    than: str
    #: With utterances drawn again; None for fewer than two.
    by_utterance: Improvement | None
    #: With speakers drawn again; None where not every speaker is known.
    by_speaker: Improvement | None


@dataclass(frozen=True)
class EvaluatedModel:
    """Which model, and how it ran."""

    #: Its name on the Hub, or that of its folder.
    name: str
    #: The SHA-256 of each of its weight files, by their names.
    weights: dict[str, str]
    #: How many parameters it has.
    parameters: int
    #: What numbers it computed with, such as float32.
    precision: str
    #: Which of its languages was spoken; None for a model of one language.
    language: str | None


@dataclass(frozen=True)
class EvaluatedData:
    """Which data: as its publisher calls it, where the caller knows that, and the manifest."""

    #: The name of the data set, by default that of the manifest.
    name: str
    #: Its configuration, if it has several.
    config: str | None
    #: Its split, such as test.
    split: str | None
    #: Its version.
    revision: str | None
    #: The file name of the manifest.
    manifest: str
    #: The SHA-256 of the manifest.
    manifest_sha256: str


@dataclass(frozen=True)
class Failure:
    """A recording that could not be read, and why. No rate counts it."""

    id: str
    reason: str


@dataclass(frozen=True)
class Evaluation:
    """All that a model card needs; `to_json` and `from_json` lose nothing and guess nothing."""

    #: The form of the record, `FORMAT`.
    format: int
    #: Which model was measured.
    model: EvaluatedModel
    #: On which data.
    data: EvaluatedData
    #: How many utterances the rates are of.
    utterances: int
    #: How many hours of audio they have.
    hours: float
    #: How many speakers they have; None where not every speaker is known.
    speakers: int | None
    #: The name of what was done to references and hypotheses before their words were compared.
    normalizer: str
    #: The same in words.
    normalizer_steps: str
    #: How the intervals were made.
    resampling: Resampling
    #: The errors of each way from the model's output to text.
    decodings: list[Decoding]
    #: Beam search beside greedy search; None where there was greedy search alone.
    comparison: DecodingComparison | None
    #: The recordings that could not be read.
    failures: list[Failure]
    #: Python and the packages that texts and times depend on.
    versions: dict[str, str]
    #: The processor, its cores, and the accelerator.
    hardware: str
    #: The day of the measurement, as in 2026-01-31.
    date: str
    #: How long all of it took.
    seconds: float

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"format={self.format}: this version reads {FORMAT}")
        if not self.decodings:
            raise ValueError("decodings is empty: nothing was measured")

    @property
    def rates(self) -> tuple[tuple[str, str, str], ...]:
        """The rates of each decoding: the name of the field, what it is called, and its units. Words of a model of
        phones are phones, whose characters say nothing."""
        return (("wer", "PER", "phones"),) if self.normalizer == PHONES else _RATES

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
    whole, each = total(counts), range(len(counts))
    return ErrorRate(
        rate=whole.rate,
        substitutions=whole.substitutions,
        deletions=whole.deletions,
        insertions=whole.insertions,
        hits=whole.hits,
        reference=whole.reference,
        interval=interval(by_group(errors, each), by_group(lengths, each), how),
        speaker_interval=None
        if speakers is None
        else interval(by_group(errors, speakers), by_group(lengths, speakers), how),
    )


def compare(
    names: tuple[str, str],
    better: Sequence[UtteranceScore],
    than: Sequence[UtteranceScore],
    speakers: Sequence[str] | None,
    how: Resampling,
) -> DecodingComparison:
    """How sure it is that the first decoding makes fewer word errors than the second, on the same utterances."""

    def paired(groups: Sequence[Hashable]) -> Improvement | None:
        before, after = (by_group([score.words.errors for score in scores], groups) for scores in (than, better))
        return improvement(before, after, by_group([score.words.reference for score in than], groups), how)

    return DecodingComparison(*names, paired(range(len(than))), None if speakers is None else paired(speakers))
