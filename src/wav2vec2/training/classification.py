"""Classification: runs as `examples/finetune_classification.py` and its two neighbours start them.

The same loop, data and checkpoints as everywhere else; what differs is the head, the task and what a label is.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import nn

from wav2vec2.baselines import DepthwiseCNNForSequenceClassification, SpectrogramConfig
from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.for_audio_frame_classification import Wav2Vec2ForAudioFrameClassification
from wav2vec2.modeling.for_sequence_classification import Wav2Vec2ForSequenceClassification
from wav2vec2.modeling.for_xvector import Wav2Vec2ForXVector
from wav2vec2.modeling.pretrained_model import Wav2Vec2PreTrainedModel
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.processing.manifests import Recording, read_manifest
from wav2vec2.training.data.audio_clips import TrainingDataError
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.model_making import config_of, make_extractor, make_model, start_afresh
from wav2vec2.training.progress.training_log import read_log
from wav2vec2.training.run_output import StartError
from wav2vec2.training.settings.finetuning_sections import TuningSection
from wav2vec2.training.settings.recipes import check_run, read_run
from wav2vec2.training.settings.run_config import Source, SupervisedRun
from wav2vec2.training.settings.run_sections import CountOrZero
from wav2vec2.training.settings.typed_values import OneOf, Problem
from wav2vec2.training.starting import opened, started
from wav2vec2.training.tasks.classification_task import ClipLabelTask, FrameLabelTask, SpeakerTask, segments_of
from wav2vec2.training.tuning_methods import apply_tuning

#: The model and its layer of the labels, by the name of what is learnt.
_HEADS: dict[str, tuple[type[Wav2Vec2PreTrainedModel], str]] = {
    "clips": (Wav2Vec2ForSequenceClassification, "classifier"),
    "frames": (Wav2Vec2ForAudioFrameClassification, "classifier"),
    "speakers": (Wav2Vec2ForXVector, "objective"),
}

#: What gives labels.
Classifier = Wav2Vec2PreTrainedModel | DepthwiseCNNForSequenceClassification

_KEPT = "nothing starts afresh: the head is kept, whose labels are the same"

#: Labels of a checkpoint that are named in a note.
_NAMED = 10

#: Tasks by the name of what is learnt.
_TASKS: dict[str, type[ClipLabelTask]] = {"clips": ClipLabelTask, "frames": FrameLabelTask, "speakers": SpeakerTask}

#: Columns that hold the label where none is named, in this order.
_COLUMNS = ("label", "transcript")


@dataclass
class ClassificationTuningSection(TuningSection):
    """As for recognition; a head that only averages frames needs no start of its own."""

    freeze_updates: CountOrZero = 0


@dataclass(kw_only=True)
class ClassificationRun(SupervisedRun):
    """A run that learns labels. Sources are manifests; `text_column` names the column of the label."""

    #: What has a label: "clips", "frames" (stretches of a clip), or "speakers" (x-vectors).
    task: Annotated[str, OneOf("clips", "frames", "speakers")] = "clips"
    #: The label of frames that no stretch names; "frames" alone.
    background: str = "none"
    #: The layer of the labels: "auto" keeps a checkpoint's if it has the same labels, "fresh" never does.
    head: Annotated[str, OneOf("auto", "fresh")] = "auto"
    #: Which weights are trained, and when.
    tuning: ClassificationTuningSection = field(default_factory=ClassificationTuningSection)

    def problems(self) -> Iterator[Problem]:
        """A voice is known by what another speed changes."""
        yield from super().problems()
        if self.task == "speakers" and self.data.speeds:
            yield "data.speeds", "a voice at another speed is another voice: leave it out where voices are learnt"


def classify(run: ClassificationRun, resume: bool = True) -> Path:
    """Train until `run.run.updates` updates are done, from the newest whole checkpoint if there is one, and say where
    the results lie."""
    check_run(run)
    with opened(run, resume, lambda _: read_labelled(run)) as (accelerator, output, (labels, data)):
        model, about_model = make_classifier(run, labels)
        beside = apply_tuning(model, run.tuning, run.run.seed) if isinstance(model, Wav2Vec2PreTrainedModel) else []
        extractor, about_input = make_extractor(run.model, run.data.normalize)
        task = make_task(run, model.config, extractor, labels, data)
        notes = [*about_input, *about_model]
        with started(run, accelerator, output, model, task, data, [extractor, *beside], notes) as loop:
            loop.train()
    return Path(run.run.output)


def read_labelled(run: ClassificationRun) -> tuple[list[str], TrainingData]:
    """The labels of the training data, and the data."""
    choose_columns(run)
    return labels_of(run), TrainingData(run.data, run.run.seed, with_text=run.task != "speakers")


def choose_columns(run: ClassificationRun) -> None:
    """Fill in the column of the label where none is named: `label`, else `transcript`."""
    for source in [*run.data.train, *run.data.valid]:
        path = Path(source.path)
        if run.task == "speakers" or source.text_column is not None or not path.is_file():
            continue
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline().rstrip("\r\n").split("\t")
        source.text_column = next((name for name in _COLUMNS if name in header), None)
        if source.text_column is None:
            raise TrainingDataError(f"{path}: the header has neither of the columns {' and '.join(_COLUMNS)}")


def labels_of(run: ClassificationRun) -> list[str]:
    """The labels of the training data in alphabetical order; the evaluation's must be among them."""
    own, others = _labels_in(run, run.data.train), _labels_in(run, run.data.valid)
    if run.task == "frames":
        own.discard(run.background)
    if len(own) < (1 if run.task == "frames" else 2):
        raise TrainingDataError(f"data.train: {len(own)} label(s) in all ({', '.join(own)}); there is nothing to learn")
    background = [run.background] if run.task == "frames" else []
    labels = background + sorted(own)
    unknown = sorted(others - set(labels))
    if unknown and run.task != "speakers":
        raise TrainingDataError(f"data.valid: labels that no training clip has: {', '.join(map(repr, unknown[:10]))}")
    return labels


def _labels_in(run: ClassificationRun, sources: list[Source]) -> set[str]:
    found: set[str] = set()
    for source in sources:
        for clip in _clips_of(source):
            try:
                found |= _labels_of_clip(run.task, clip, source.text_column or "transcript")
            except ValueError as error:
                raise TrainingDataError(f"{source.path}: {clip.path.name}: {error}") from error
    return found


def _clips_of(source: Source) -> list[Recording]:
    try:
        return list(read_manifest(source.path))
    except OSError as error:
        raise TrainingDataError(f"{source.path}: the manifest cannot be read ({error.strerror})") from error


def _labels_of_clip(task: str, clip: Recording, column: str) -> set[str]:
    if task == "speakers":
        if not clip.speaker:
            raise ValueError("has no `speaker`")
        return {clip.speaker}
    text = clip.transcript if column == "transcript" else clip.others.get(column)
    if not text:
        return set()
    return {label for _, _, label in segments_of(text)} if task == "frames" else {text}


def classifier_class(run: ClassificationRun) -> tuple[type[Classifier], str]:
    """What the run trains, and its layer of the labels: a head of wav2vec 2.0, or a network on log-mel energies, which
    is not asked for what it lacks."""
    config = config_of(run.model)
    if not isinstance(config, SpectrogramConfig):
        return _HEADS[run.task]
    for key, problem in run.problems_of_spectrogram_model():  # of a checkpoint, which settings alone do not know
        raise StartError(f"{key}: {problem}")
    if run.task != "clips" or not isinstance(config, DepthwiseCNNForSequenceClassification.config_class):
        raise StartError(f"task={run.task}: a {config.model_type} model does not learn that")
    return DepthwiseCNNForSequenceClassification, "classifier"


def make_classifier(run: ClassificationRun, labels: list[str]) -> tuple[Classifier, list[str]]:
    """A model for these labels, and what is to be said of it.

    The layer that gives the labels is a checkpoint's where `run.head` is "auto" and the checkpoint names the same
    labels; in another order its rows are put into this one. Otherwise it starts afresh. What lies below it is the
    checkpoint's wherever it has it.
    """
    kind, layer = classifier_class(run)
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: number for number, label in enumerate(labels)}}
    model, missing, notes = make_model(kind, run.model, run.run.attention, head=(layer,), **names)
    if run.model.checkpoint is None:
        return model, ["from scratch: no weight is pretrained", *notes]
    saved, head = labels_of_head(run.model.checkpoint, kind), model.get_submodule(layer)
    if run.head == "auto" and saved is not None and sorted(saved) == sorted(labels):
        _put_in_order(head, [saved.index(label) for label in labels])
        said = [f"starts afresh: {', '.join(missing)}"] if missing else [_KEPT]
    else:
        # small weights for labels; for speakers, directions
        start_afresh(head, run.run.seed, model.config.initializer_range if isinstance(head, nn.Linear) else 1.0)
        fresh = ", ".join([*missing, f"{layer}, the layer of {len(labels)} labels"])
        said = [f"starts afresh: {fresh}{_other_labels(labels, saved)}"]
    return model, [*said, *notes]


def labels_of_head(checkpoint: str, kind: type[Classifier]) -> list[str] | None:
    """What the outputs of a checkpoint's head mean, None if it has no head of this kind."""
    config = kind.config_class.from_pretrained(checkpoint)
    if kind.__name__ not in (config.architectures or []):
        return None
    return [str(config.id2label[number]) for number in sorted(config.id2label)]


def _put_in_order(layer: Any, order: list[int]) -> None:
    """A row (of the weights of speakers: a column) for each label, where the labels of this run have it."""
    with torch.no_grad():
        if isinstance(layer, nn.Linear):
            layer.weight.copy_(layer.weight[order].clone())
            layer.bias.copy_(layer.bias[order].clone())
        else:
            layer.weight.copy_(layer.weight[:, order].clone())


def _other_labels(labels: list[str], saved: list[str] | None) -> str:
    """Those of the checkpoint, where they are not the same."""
    if saved is None or sorted(saved) == sorted(labels):
        return ""
    more = f" and {len(saved) - _NAMED} more" if len(saved) > _NAMED else ""
    return f" (the checkpoint's are {', '.join(saved[:_NAMED])}{more})"


def make_task(
    run: ClassificationRun,
    config: Wav2Vec2Config | SpectrogramConfig,
    extractor: Wav2Vec2FeatureExtractor,
    labels: list[str],
    data: TrainingData,
) -> ClipLabelTask:
    """The task, which for speakers must know how many clips an evaluation has."""
    given: dict[str, Any] = {"freeze_updates": run.tuning.freeze_updates}
    if run.task == "speakers" and data.valid is not None:
        given["clips"] = len(data.valid.indices)
    return _TASKS[run.task](config, extractor, labels, run.run.seed, **given)


def read_classification(task: str, overrides: Sequence[str]) -> ClassificationRun:
    """The run that dotted overrides describe; `RunConfigError` names everything that is wrong with them."""
    return read_run(ClassificationRun, None, [f"task={task}", *overrides])


def manifest_with_segments(manifest: Path, segments: Path, target: Path) -> Path:
    """Write `target`, a manifest with a column `label`, from a manifest and a table of stretches; `target`.

    The table is TAB separated with the header `path start end label`, seconds, paths as in the manifest. A clip of
    which it says nothing is left out, since no one looked at it; name one stretch of a clip that is all background.
    """
    lines = segments.read_text(encoding="utf-8-sig").splitlines()
    if not lines or lines[0].split("\t") != ["path", "start", "end", "label"]:
        raise TrainingDataError(f"{segments}: the header must be `path start end label`, separated by TAB")
    stretches: dict[Path, list[str]] = {}
    for number, line in enumerate(lines[1:], 2):
        values = line.split("\t")
        if len(values) != 4:
            raise TrainingDataError(f"{segments}, line {number}: {len(values)} columns, but the header has 4")
        name, start, end, label = values
        stretch = f"{start}-{end} {label}"
        try:
            segments_of(stretch)
        except ValueError as error:
            raise TrainingDataError(f"{segments}, line {number}: {error}") from error
        stretches.setdefault(manifest.parent / name, []).append(stretch)
    rows = ["path\tduration\tlabel"]
    for clip in read_manifest(manifest):
        if clip.path in stretches:
            where = os.path.relpath(clip.path, target.parent)
            duration = "" if clip.duration is None else f"{clip.duration}"
            rows.append(f"{where}\t{duration}\t{'; '.join(stretches[clip.path])}")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return target


def last_evaluation(output: Path) -> dict[str, Any]:
    """The figures of a run's last evaluation."""
    lines = [line for line in read_log(output) if line.get("kind") == "evaluation"]
    return lines[-1] if lines else {}


def confusion_lines(figures: Mapping[str, Any]) -> list[str]:
    """The confusion table of an evaluation as text: a row for each label, what it was taken for."""
    labels, table = figures["labels"], figures["confusion"]
    width = max(len(str(entry)) for entry in [*labels, *(count for row in table for count in row)])
    lines = [" ".join([" " * width, *(label.rjust(width) for label in labels)])]
    for label, row in zip(labels, table, strict=True):
        lines.append(" ".join([label.rjust(width), *(str(count).rjust(width) for count in row)]))
    return lines
