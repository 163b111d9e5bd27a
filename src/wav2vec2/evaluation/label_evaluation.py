"""`LabelEvaluation`: what was measured of a model that gives labels; and from model and manifest to it."""

import datetime
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wav2vec2.evaluation.bootstrap import Resampling
from wav2vec2.evaluation.evaluation import EvaluatedData, EvaluatedModel, Failure
from wav2vec2.evaluation.evaluation_run import (
    DataNames,
    RecognitionReport,
    recordings_by_name,
    without_paths,
)
from wav2vec2.evaluation.label_scoring import Figure, LabelScores, confusion, score_labels
from wav2vec2.evaluation.provenance import hardware, sha256_of, versions
from wav2vec2.files.strict_records import record_from_json, record_to_json
from wav2vec2.inference.audio_inputs import AudioInput
from wav2vec2.inference.label_rule import NONE, LabelRule, plain_rule, several_labels
from wav2vec2.inference.labeller import Labelled, Labeller
from wav2vec2.processing.manifests import Recording

#: The form of the record.
FORMAT = 1

#: What the record is of; that of a recogniser does not say.
KIND = "labels"

#: Columns that hold the label, in this order.
COLUMNS = ("label", "transcript")


@dataclass(frozen=True)
class LabelEvaluation:
    """All figures, and what they were measured with. It holds names, never paths."""

    #: The form of the record, `FORMAT`.
    format: int
    #: What it is of, `KIND`.
    kind: str
    #: Which model was measured.
    model: EvaluatedModel
    #: On which data.
    data: EvaluatedData
    #: How many clips the figures are of.
    clips: int
    #: How many hours of audio they have.
    hours: float
    #: How many speakers they have; None where not every speaker is known.
    speakers: int | None
    #: When a label was the answer.
    rule: LabelRule
    #: How the intervals were made.
    resampling: Resampling
    #: The figures of the answers.
    scores: LabelScores
    #: Of the clips that have a label, the share whose most probable label it is, whatever its probability; None where
    #: clips may have several.
    accuracy_without_threshold: Figure | None
    #: What was taken for what, none last: a row for each label that clips have, a column for each answer. None where
    #: clips may have several.
    confusion: list[list[int]] | None
    #: The recordings that could not be read.
    failures: list[Failure]
    #: Python and the packages that results depend on.
    versions: dict[str, str]
    #: The processor, its cores, and the accelerator.
    hardware: str
    #: The day of the measurement, as in 2026-01-31.
    date: str
    #: How long all of it took.
    seconds: float

    def __post_init__(self) -> None:
        if (self.format, self.kind) != (FORMAT, KIND):
            raise ValueError(f"format={self.format}, kind={self.kind!r}: this version reads {FORMAT} of {KIND!r}")

    def to_json(self) -> str:
        """The content of `evaluation.json`."""
        return record_to_json(self)

    @staticmethod
    def from_json(text: str) -> "LabelEvaluation":
        """Read what `to_json` wrote; anything missing, unknown or of another type is a `RecordError`."""
        return record_from_json(LabelEvaluation, text)


@dataclass(frozen=True)
class EvaluatedClip:
    """One line of the manifest after evaluation: its `id`, its `speaker` if that is known, its `true` labels (empty for
    none of these), and what was `found`."""

    id: str
    speaker: str | None
    true: list[str]
    found: Labelled


@dataclass(frozen=True)
class EvaluatedLabels:
    """The figures, and the clips they come from in the order of the manifest."""

    evaluation: LabelEvaluation
    clips: list[EvaluatedClip]


def evaluate_labels_of(
    labeller: Labeller,
    model: EvaluatedModel,
    manifest: Path,
    names: DataNames,
    how: Resampling,
    report: RecognitionReport | None = None,
) -> EvaluatedLabels:
    """Label all clips of a manifest and compare. Recordings that cannot be read are listed and left out."""
    started = time.perf_counter()
    clips, failures = _evaluated_clips(labeller, manifest, report)
    known = [one.speaker for one in clips if one.speaker is not None]
    speakers = known if len(known) == len(clips) else None
    answers, several = [one.found.labels for one in clips], labeller.rule.several
    labels = [label for label in labeller.labels if label != NONE]
    evaluation = LabelEvaluation(
        format=FORMAT,
        kind=KIND,
        model=model,
        data=EvaluatedData(
            names.name or manifest.stem, names.config, names.split, names.revision, manifest.name, sha256_of(manifest)
        ),
        clips=len(clips),
        hours=sum(one.found.duration for one in clips) / 3600,
        speakers=None if speakers is None else len(set(speakers)),
        rule=labeller.rule,
        resampling=how,
        scores=score_labels([one.true for one in clips], answers, labels, speakers, how),
        accuracy_without_threshold=None if several else _best_is_right(clips, labels, how),
        confusion=None if several else confusion(_names([one.true for one in clips]), _names(answers), labels),
        failures=failures,
        versions=versions(),
        hardware=hardware(labeller.model.device),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        seconds=time.perf_counter() - started,
    )
    return EvaluatedLabels(evaluation, clips)


def _evaluated_clips(
    labeller: Labeller, manifest: Path, report: RecognitionReport | None
) -> tuple[list[EvaluatedClip], list[Failure]]:
    """The clips of a manifest with what they are found to be, and those that could not be read."""
    recordings = recordings_by_name(manifest)
    true = true_labels(recordings, labeller, manifest)
    clips, failures = [], []
    for name, one in zip(recordings, labelled(labeller, list(recordings.values()), report), strict=True):
        recording = recordings[name]
        if one.error is not None:
            failures.append(Failure(name, without_paths(one.error, name, recording.path, manifest)))
        else:
            clips.append(EvaluatedClip(name, recording.speaker, true[name], one))
    if not clips:
        first = failures[0].reason if failures else "it has no lines"
        raise ValueError(f"{manifest}: none of its {len(recordings)} recordings could be evaluated: {first}")
    return clips, failures


def labelled(
    labeller: Labeller, recordings: Sequence[Recording], report: RecognitionReport | None = None
) -> list[Labelled]:
    """What each recording is found to be."""
    inputs = (AudioInput(str(one.path), one.path) for one in recordings)
    found = []
    for one in labeller.label_each(inputs, None if report is None else report.advance):
        found.append(one)
        if report is not None:
            report.finished(one.path)
    return found


def true_labels(recordings: dict[str, Recording], labeller: Labeller, where: Path) -> dict[str, list[str]]:
    """The labels that the manifest `where` gives each recording, empty for `none`. One that the model does not have
    could never be right, and is a ValueError."""
    texts = {name: label_text(one) for name, one in recordings.items()}
    if lacking := [name for name, text in texts.items() if not text]:
        raise ValueError(
            f"{where}: {len(lacking)} of {len(texts)} recordings have no label in a column {' or '.join(COLUMNS)}, the "
            f"first is {lacking[0]}; `{NONE}` says that no label belongs to a clip"
        )
    true = {name: several_labels(text) if labeller.rule.several else [text] for name, text in texts.items()}
    known = {*labeller.labels, NONE}
    unknown = sorted({label for own in true.values() for label in own} - known)
    if unknown:
        raise ValueError(
            f"{where}: labels that the model does not have: {', '.join(unknown[:10])}; it has "
            f"{', '.join(labeller.labels[:20])}. Leave such clips out, or call them `{NONE}`"
        )
    return {name: [label for label in own if label != NONE] for name, own in true.items()}


def label_text(recording: Recording) -> str:
    """What the column of the label says; empty where there is none."""
    return recording.others.get("label") or recording.transcript or ""


def _best_is_right(clips: Sequence[EvaluatedClip], labels: Sequence[str], how: Resampling) -> Figure | None:
    with_label = [one for one in clips if one.true]
    if not with_label:
        return None
    best = [plain_rule(False).answer(one.found.probabilities) for one in with_label]
    known = [one.speaker for one in with_label if one.speaker is not None]
    speakers = known if len(known) == len(with_label) else None
    return score_labels([one.true for one in with_label], best, labels, speakers, how).accuracy


def _names(sets: Sequence[Sequence[str]]) -> list[str]:
    return [one[0] if one else NONE for one in sets]
