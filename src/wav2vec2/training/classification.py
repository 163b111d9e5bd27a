"""Classification: runs as `examples/finetune_classification.py` and its two neighbours start them.

The same loop, data and checkpoints as everywhere else; what differs is the head, the task and what a label is.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wav2vec2.baselines import SPECTROGRAM_CLASSIFIERS, SpectrogramConfig, SpectrogramModel
from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.inference.labeller import SEVERAL
from wav2vec2.modeling.for_audio_frame_classification import Wav2Vec2ForAudioFrameClassification
from wav2vec2.modeling.for_sequence_classification import Wav2Vec2ForSequenceClassification
from wav2vec2.modeling.for_xvector import Wav2Vec2ForXVector
from wav2vec2.modeling.pretrained_model import Wav2Vec2PreTrainedModel
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.label_thresholds import save_rule
from wav2vec2.training.labels_of_clips import choose_columns, labels_of
from wav2vec2.training.model_making import config_of, make_extractor, make_model, start_afresh
from wav2vec2.training.progress.training_log import read_log
from wav2vec2.training.run_output import StartError
from wav2vec2.training.settings.classification_run import OF_CLIPS, ClassificationRun
from wav2vec2.training.settings.recipes import check_run, read_run
from wav2vec2.training.starting import opened, started
from wav2vec2.training.tasks.classification_task import ClipLabelTask, FrameLabelTask, MultiLabelTask, SpeakerTask
from wav2vec2.training.tuning_methods import apply_tuning

#: The model and its layer of the labels, by the name of what is learnt.
_HEADS: dict[str, tuple[type[Wav2Vec2PreTrainedModel], str]] = {
    "clips": (Wav2Vec2ForSequenceClassification, "classifier"),
    "multilabel": (Wav2Vec2ForSequenceClassification, "classifier"),
    "frames": (Wav2Vec2ForAudioFrameClassification, "classifier"),
    "speakers": (Wav2Vec2ForXVector, "objective"),
}

#: What gives labels.
Classifier = Wav2Vec2PreTrainedModel | SpectrogramModel

_KEPT = "nothing starts afresh: the head is kept, whose labels are the same"

#: Labels of a checkpoint that are named in a note.
_NAMED = 10

#: Tasks by the name of what is learnt.
_TASKS: dict[str, type[ClipLabelTask]] = {
    "clips": ClipLabelTask,
    "multilabel": MultiLabelTask,
    "frames": FrameLabelTask,
    "speakers": SpeakerTask,
}


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
    if run.task in OF_CLIPS and accelerator.is_main_process:
        save_rule(run)
    return Path(run.run.output)


def read_labelled(run: ClassificationRun) -> tuple[list[str], TrainingData]:
    """The labels of the training data, and the data."""
    choose_columns(run)
    return labels_of(run), TrainingData(run.data, run.run.seed, with_text=run.task != "speakers")


def classifier_class(run: ClassificationRun) -> tuple[type[Classifier], str]:
    """What the run trains, and its layer of the labels: a head of wav2vec 2.0, or a network on log-mel energies, which
    is not asked for what it lacks."""
    config = config_of(run.model)
    if not isinstance(config, SpectrogramConfig):
        return _HEADS[run.task]
    for key, problem in run.problems_of_spectrogram_model():  # of a checkpoint, which settings alone do not know
        raise StartError(f"{key}: {problem}")
    if run.task not in OF_CLIPS or config.model_type not in SPECTROGRAM_CLASSIFIERS:
        raise StartError(f"task={run.task}: a {config.model_type} model does not learn that")
    return SPECTROGRAM_CLASSIFIERS[config.model_type], "classifier"


def make_classifier(run: ClassificationRun, labels: list[str]) -> tuple[Classifier, list[str]]:
    """A model for these labels, and what is to be said of it.

    The layer that gives the labels is a checkpoint's where `run.head` is "auto" and the checkpoint names the same
    labels; in another order its rows are put into this one. Otherwise it starts afresh. What lies below it is the
    checkpoint's wherever it has it.
    """
    kind, layer = classifier_class(run)
    problem = SEVERAL if run.task == "multilabel" else None
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: number for number, label in enumerate(labels)}}
    model, missing, notes = make_model(kind, run.model, run.run.attention, head=(layer,), problem_type=problem, **names)
    if run.model.checkpoint is None:
        return model, ["from scratch: no weight is pretrained", *notes]
    saved, head = labels_of_head(run.model.checkpoint, kind, problem), model.get_submodule(layer)
    if run.head == "auto" and saved is not None and sorted(saved) == sorted(labels):
        _put_in_order(head, [saved.index(label) for label in labels])
        said = [f"starts afresh: {', '.join(missing)}"] if missing else [_KEPT]
    else:
        # small weights for labels; for speakers, directions
        start_afresh(head, run.run.seed, model.config.initializer_range if isinstance(head, nn.Linear) else 1.0)
        fresh = ", ".join([*missing, f"{layer}, the layer of {len(labels)} labels"])
        said = [f"starts afresh: {fresh}{_other_labels(labels, saved)}"]
    return model, [*said, *notes]


def labels_of_head(checkpoint: str, kind: type[Classifier], problem: str | None = None) -> list[str] | None:
    """What the outputs of a checkpoint's head mean, None if it has no head of this kind, or one for another problem:
    several labels for a clip, or one."""
    config = kind.config_class.from_pretrained(checkpoint)
    if kind.__name__ not in (config.architectures or []) or (config.problem_type == SEVERAL) != (problem == SEVERAL):
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
