"""Classification: runs as `examples/finetune_classification.py` and its two neighbours start them.

The same loop, data and checkpoints as everywhere else; what differs is the head, the task and what a label is.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from accelerate.utils import set_seed

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.processing.manifests import Recording, read_manifest
from wav2vec2.training.chosen_checkpoint import layout_notes
from wav2vec2.training.classifier_models import make_classifier
from wav2vec2.training.ctc_models import make_extractor
from wav2vec2.training.data.audio_clips import TrainingDataError
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.progress.training_log import read_log
from wav2vec2.training.settings.field_limits import OneOf
from wav2vec2.training.settings.finetuning_sections import (
    FinetuneDataSection,
    FinetuneModelSection,
    FinetuneOptimizerSection,
    FinetuneRunSection,
    FinetuneScheduleSection,
    TuningSection,
)
from wav2vec2.training.settings.recipes import read_run
from wav2vec2.training.settings.run_config import GuardSection, RecipeOrigin
from wav2vec2.training.settings.run_sections import CountOrZero
from wav2vec2.training.starting import main_first, make_accelerator, start
from wav2vec2.training.tasks.classification_task import ClipLabelTask, FrameLabelTask, SpeakerTask, segments_of
from wav2vec2.training.tuning_methods import apply_tuning
from wav2vec2.training.what_is_named import require_what_is_named

#: Tasks by the name of what is learnt.
_TASKS: dict[str, type[ClipLabelTask]] = {"clips": ClipLabelTask, "frames": FrameLabelTask, "speakers": SpeakerTask}

#: Columns that hold the label where none is named, in this order.
_COLUMNS = ("label", "transcript")


@dataclass
class ClassificationTuningSection(TuningSection):
    """As for recognition; a head that only averages frames needs no start of its own."""

    freeze_updates: CountOrZero = 0


@dataclass(kw_only=True)
class ClassificationRun:
    """A run that learns labels. Sources are manifests; `text_column` names the column of the label."""

    #: What has a label: "clips", "frames" (stretches of a clip), or "speakers" (x-vectors).
    task: Annotated[str, OneOf("clips", "frames", "speakers")] = "clips"
    #: The label of frames that no stretch names; "frames" alone.
    background: str = "none"
    #: The layer of the labels: "auto" keeps a checkpoint's if it has the same labels, "fresh" never does.
    head: Annotated[str, OneOf("auto", "fresh")] = "auto"
    model: FinetuneModelSection
    data: FinetuneDataSection
    tuning: ClassificationTuningSection = field(default_factory=ClassificationTuningSection)
    optimizer: FinetuneOptimizerSection = field(default_factory=FinetuneOptimizerSection)
    schedule: FinetuneScheduleSection = field(default_factory=FinetuneScheduleSection)
    run: FinetuneRunSection
    guards: GuardSection = field(default_factory=GuardSection)
    origin: RecipeOrigin = field(default_factory=RecipeOrigin)


def classify(run: ClassificationRun, resume: bool = True) -> Path:
    """Train until `run.run.updates` updates are done, from the newest whole checkpoint if there is one."""
    accelerator = make_accelerator(run.run.precision)
    set_seed(run.run.seed)
    labels, data = main_first(accelerator, lambda: read_labelled(run))  # the main process reads durations for all
    model, about_model = make_classifier(
        run.task, run.model, labels, run.run.seed, run.run.attention, run.head == "auto"
    )
    beside = apply_tuning(model, run.tuning, run.run.seed)
    extractor, notes = make_extractor(run.model, run.data.normalize)
    task = make_task(run, model.config, extractor, labels, data)
    notes += [*about_model, *layout_notes(run.model, model.config)]
    return start(run, accelerator, model, task, data, [extractor, *beside], resume, notes)  # type: ignore[arg-type]


def read_labelled(run: ClassificationRun) -> tuple[list[str], TrainingData]:
    """Labels and data, after what takes no time to see is seen."""
    require_what_is_named(run)
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


def _labels_in(run: ClassificationRun, sources: list[Any]) -> set[str]:
    found: set[str] = set()
    for source in sources:
        for clip in _clips_of(source):
            try:
                found |= _labels_of_clip(run.task, clip, source.text_column or "transcript")
            except ValueError as error:
                raise TrainingDataError(f"{source.path}: {clip.path.name}: {error}") from error
    return found


def _clips_of(source: Any) -> list[Recording]:
    try:
        return list(read_manifest(source.path))
    except OSError as error:
        raise TrainingDataError(f"{source.path}: the manifest cannot be read ({error.strerror})") from error


def _labels_of_clip(task: str, clip: Any, column: str) -> set[str]:
    if task == "speakers":
        if not clip.speaker:
            raise ValueError("has no `speaker`")
        return {clip.speaker}
    text = clip.transcript if column == "transcript" else clip.others.get(column)
    if not text:
        return set()
    return {label for _, _, label in segments_of(text)} if task == "frames" else {text}


def make_task(run: ClassificationRun, config: Wav2Vec2Config, extractor: Any, labels: list[str], data: Any) -> Any:
    """The task, which for speakers must know how many clips an evaluation has."""
    given: dict[str, Any] = {"freeze_updates": run.tuning.freeze_updates}
    if run.task == "speakers" and data.valid is not None:
        given["clips"] = len(data.valid.indices)
    return _TASKS[run.task](config, extractor, labels, run.run.seed, **given)


def read_classification(task: str, overrides: Sequence[str]) -> ClassificationRun:
    """The run that dotted overrides describe; `RunConfigError` names everything that is wrong with them."""
    kind: Any = ClassificationRun  # which `read_run` takes as any other kind, though it cannot name it
    run: ClassificationRun = read_run(kind, None, [f"task={task}", *overrides])
    return run


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
