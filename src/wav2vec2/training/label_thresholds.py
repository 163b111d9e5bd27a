"""At the end of a run that learns labels of clips: when is a label the answer, chosen on the validation data."""

from collections.abc import Iterator
from pathlib import Path

import typer

from wav2vec2.evaluation.threshold_choice import choose_rule
from wav2vec2.inference.audio_inputs import AudioInput
from wav2vec2.inference.label_rule import NONE, RULE_FILE, several_labels
from wav2vec2.inference.labeller import Labeller
from wav2vec2.processing.manifests import read_manifest
from wav2vec2.training.data.source_reading import are_shards
from wav2vec2.training.labels_of_clips import shards_of
from wav2vec2.training.settings.classification_run import ClassificationRun


def save_rule(run: ClassificationRun) -> None:
    """Write the rule beside the finished model, if it is there and there are validation data.

    The clips are labelled by what will answer later, so that a threshold is of the very probabilities it is put to.
    """
    folder = Path(run.run.output) / "model"
    if not run.data.valid or not (folder / "config.json").is_file():
        return
    labeller, true = Labeller.from_pretrained(folder, threshold=0.0), list[list[str]]()

    def inputs() -> Iterator[AudioInput]:
        for text, audio in _labelled_clips(run):
            true.append([label for label in labels_in(text, labeller.rule.several) if label != NONE])
            yield audio

    found = list(labeller.label_each(inputs()))
    usable = [(own, one.probabilities) for own, one in zip(true, found, strict=True) if one.error is None]
    if not usable:
        typer.echo(f"warning: no validation clip could be labelled: no {RULE_FILE} is written", err=True)
        return
    names = ", ".join(Path(source.path).name for source in run.data.valid)
    given, probabilities = zip(*usable, strict=True)
    rule = choose_rule(given, probabilities, labeller.rule.several, run.kept_by_threshold, names)
    rule.save(folder)
    shown = ", ".join(f"{label} {value:.2f}" for label, value in rule.thresholds.items()) or f"{rule.threshold:.2f}"
    typer.echo(f"threshold: {shown} ({rule.chosen})", err=True)


def _labelled_clips(run: ClassificationRun) -> Iterator[tuple[str, AudioInput]]:
    """The validation clips that have a label, and what is said there."""
    for source in run.data.valid:
        column = source.text_column or "transcript"
        if are_shards(source):
            table = shards_of(run, source, with_text=True)
            for number in range(len(table)):
                if text := table.transcript(number):
                    yield text, AudioInput(table.facts(number).id, table.reader.audio(number))
            continue
        for one in read_manifest(source.path):
            if text := one.transcript if column == "transcript" else one.others.get(column):
                yield text, AudioInput(str(one.path), one.path)


def labels_in(text: str, several: bool) -> list[str]:
    """What the column of the label says of a clip."""
    return several_labels(text) if several else [text]
