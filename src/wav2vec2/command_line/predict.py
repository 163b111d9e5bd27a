"""`wav2vec2 predict`: what are these recordings?"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Protocol

import typer

from wav2vec2.command_line import recogniser as options
from wav2vec2.command_line.progress import progress_report
from wav2vec2.command_line.stopping import Stop, stoppable, told
from wav2vec2.command_line.transcript_files import audio_input, missing_files, try_writing

if TYPE_CHECKING:
    from wav2vec2.inference.audio_inputs import AudioInput
    from wav2vec2.inference.labeller import Labelled
    from wav2vec2.inference.slot_reader import Filled


class AnswerFormat(StrEnum):
    """What can be written."""

    txt = "txt"
    tsv = "tsv"
    jsonl = "jsonl"


@dataclass(frozen=True)
class Answer:
    """What was found of one recording, in each of the formats; or why nothing was."""

    #: The recording.
    path: str
    #: A line for people.
    text: str = ""
    #: The values behind `path` in a table.
    values: Sequence[str] = ()
    #: What stands behind `path` in JSON.
    content: Mapping[str, Any] | None = None
    #: Why there is no answer.
    error: str | None = None


class Predictor(Protocol):
    """A model with what it needs to answer."""

    @property
    def columns(self) -> Sequence[str]:
        """Those of a table, behind `path`."""

    def answers(self, inputs: "Iterable[AudioInput]", progress: Callable[[float], None]) -> Iterator[Answer]:
        """One for each recording, in order; `progress` is called with the seconds of audio that were done."""


@dataclass(frozen=True)
class Asked:
    """What the options say of the model."""

    #: Folder or Hub name.
    model: str
    #: Where to compute; None: the best there is.
    device: str | None
    #: What a probability must reach; None: what the model was saved with.
    threshold: float | None
    #: Seconds of audio in a batch.
    batch_seconds: float


class _Labels:
    """Labels of whole clips."""

    def __init__(self, asked: Asked) -> None:
        from wav2vec2.inference.labeller import Labeller

        self._labeller = Labeller.from_pretrained(asked.model, asked.device, asked.threshold, asked.batch_seconds)
        self.columns = ["label", "probability", *(f"p({label})" for label in self._labeller.labels)]

    def answers(self, inputs: "Iterable[AudioInput]", progress: Callable[[float], None]) -> Iterator[Answer]:
        """One for each recording."""
        return map(self._answer, self._labeller.label_each(inputs, progress))

    def _answer(self, found: "Labelled") -> Answer:
        from wav2vec2.inference.label_rule import BETWEEN, NONE

        if found.error is not None:
            return Answer(found.path, error=found.error)
        best = max(found.probabilities, key=lambda label: found.probabilities[label])
        sure = {label: found.probabilities[label] for label in found.labels or [best]}
        shown = ", ".join(f"{label} {probability:.0%}" for label, probability in sure.items())
        answer = BETWEEN.join(found.labels) or NONE
        figures = [
            BETWEEN.join(f"{one:.4f}" for one in sure.values()),
            *map("{:.4f}".format, found.probabilities.values()),
        ]
        return Answer(
            found.path,
            shown if found.labels else f"{NONE} ({shown})",
            [answer, *figures],
            {"duration": round(found.duration, 3), "labels": found.labels, "probabilities": found.probabilities},
        )


class _Slots:
    """Slots of whole clips, or of what is written of them."""

    def __init__(self, asked: Asked) -> None:
        from wav2vec2.inference.slot_reader import SlotReader

        self._reader = SlotReader.from_pretrained(asked.model, asked.device, asked.threshold, asked.batch_seconds)
        self.columns = ["text", *self._reader.names] if self._reader.writes else self._reader.names

    def answers(self, inputs: "Iterable[AudioInput]", progress: Callable[[float], None]) -> Iterator[Answer]:
        """One for each recording."""
        return map(self._answer, self._reader.read_each(inputs, progress))

    def _answer(self, found: "Filled") -> Answer:
        if found.error is not None:
            return Answer(found.path, error=found.error)
        shown = ", ".join(f"{slot.name}: {slot.value}" for slot in found.slots) or "no slot"
        values = [" | ".join(slot.value for slot in found.slots if slot.name == name) for name in self._reader.names]
        said = {} if found.text is None else {"text": found.text}
        slots = [{name: value for name, value in asdict(slot).items() if value is not None} for slot in found.slots]
        content = {"duration": round(found.duration, 3), **said, "slots": slots}
        return Answer(found.path, shown, [*said.values(), *values], content)


class _Sounds:
    """What is heard when."""

    columns = ("label", "probability")

    def __init__(self, asked: Asked) -> None:
        from wav2vec2.inference.sound_events import EventRules, SoundEventDetector

        rules = EventRules() if asked.threshold is None else EventRules(threshold=asked.threshold)
        self._detector = SoundEventDetector.from_pretrained(
            asked.model, asked.device, rules, batch_seconds=asked.batch_seconds
        )

    def answers(self, inputs: "Iterable[AudioInput]", progress: Callable[[float], None]) -> Iterator[Answer]:
        """One for each recording: in a table, its stretches as a manifest for training has them."""
        from wav2vec2.inference.event_captions import sound_rows

        for one in inputs:
            try:
                sounds, duration = self._detector.detect(one, progress=progress)
            except (ValueError, OSError) as error:
                yield Answer(one.name, error=str(error) if one.name in str(error) else f"{one.name}: {error}")
                continue
            spans = [f"{sound.start:.3f}-{sound.end:.3f} {sound.label}" for sound in sounds]
            sure = [f"{sound.confidence:.4f}" for sound in sounds]
            content = {"duration": round(duration, 3), "sounds": sound_rows(sounds)}
            yield Answer(one.name, "; ".join(spans) or "nothing", ["; ".join(spans), "; ".join(sure)], content)


#: What answers for each kind of model (`inference.model_kinds`); a further kind is a line here.
PREDICTORS: dict[str, Callable[[Asked], Predictor]] = {
    "labels": _Labels,
    "slots": _Slots,
    "marked text": _Slots,
    "sounds": _Sounds,
}


def predict(
    audio: Annotated[
        list[Path], typer.Argument(help="Audio files, folders of them, manifests (.tsv); - is standard input.")
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="Folder or Hub name of a model that gives labels.")],
    format: Annotated[AnswerFormat, typer.Option("--format", "-f", help="What to write.")] = AnswerFormat.txt,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File; by default standard output.")] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Less probable labels are no answer; by default as saved with the model."),
    ] = None,
    device: options.Device = None,
    batch_seconds: Annotated[float, typer.Option(min=0.1, help="Seconds of audio in a batch.")] = 60.0,
) -> None:
    """Say of recordings which labels they have, with probabilities; what is below the threshold is `none`. Of a model
    that names frames: what is heard from when to when.

    Recordings that cannot be used are listed at the end; the exit code is then 1.
    """
    with told("predict"):
        if output is not None:
            try_writing(output.parent)
        with stoppable("predict: stopping when this batch is done; Ctrl-C again stops at once") as stop:
            inputs = list(_inputs(audio, stop))
            predictor = _predictor(Asked(model, device, threshold, batch_seconds))
            faults = _written(predictor, inputs, format, output, stop)
    if faults:
        typer.echo("\n  ".join([f"predict: {len(faults)} of {len(inputs)} recordings failed:", *faults]), err=True)
        raise typer.Exit(1)


def _inputs(audio: Sequence[Path], stop: Stop) -> Iterator["AudioInput"]:
    """The recordings that were given. Where all are missing, that is said before the model is loaded."""
    from wav2vec2.inference.audio_inputs import audio_in
    from wav2vec2.processing.manifests import read_manifest

    if len(missing := missing_files(audio)) == len(audio):
        raise FileNotFoundError(f"no such file: {', '.join(map(str, missing))}")
    for given in audio:
        if given.is_dir():
            paths = audio_in(given)
        elif given.suffix == ".tsv":
            paths = [one.path for one in read_manifest(given)]
            if not paths:
                raise ValueError(f"{given}: has no lines below its header")
        else:
            paths = [given]
        yield from (audio_input(path, stop) for path in paths)


def _predictor(asked: Asked) -> Predictor:
    from transformers.utils import logging

    from wav2vec2.command_line.recogniser import check_device
    from wav2vec2.inference.checkpoint_check import reach
    from wav2vec2.inference.model_kinds import kind_of_model

    if asked.device is not None:
        check_device(asked.device)
    logging.disable_progress_bar()
    kind = kind_of_model(asked.model, reach(asked.model))
    if kind not in PREDICTORS:
        raise ValueError(
            f"{asked.model}: writes text or has no head, and gives recordings no labels: `wav2vec2 transcribe` is for "
            "text, `wav2vec2 finetune RECIPE --task classification` makes a model of labels"
        )
    return PREDICTORS[kind](asked)


def _written(
    predictor: Predictor, inputs: Sequence["AudioInput"], format: AnswerFormat, output: Path | None, stop: Stop
) -> list[str]:
    """Write every answer as it comes; why others have none."""
    from wav2vec2.files.replaced_file import replaced_file

    paths = [Path(one.name) for one in inputs if one.is_path]
    with progress_report(paths, line_for_each=False, files=len(inputs)) as report:

        def advance(seconds: float) -> None:
            report.advance(seconds)
            stop.check()

        answers = predictor.answers(inputs, advance)
        if output is None:
            return list(_lines(answers, predictor.columns, format, report.finished, lambda line: typer.echo(line)))
        with replaced_file(output) as file:
            try:
                return list(_lines(answers, predictor.columns, format, report.finished, _into(file)))
            except KeyboardInterrupt:
                _keep(file, output.with_name(f"{output.name}.stopped"))
                raise


def _keep(file: IO[bytes], path: Path) -> None:
    """Leave the answers of a stopped command: what an earlier one has written stays, and so does the work of this."""
    file.flush()
    shutil.copyfile(file.name, path)
    typer.echo(f"predict: the answers until now are in {path}", err=True)


def _into(file: IO[bytes]) -> Callable[[str], object]:
    return lambda line: file.write(f"{line}\n".encode())


def _lines(
    answers: Iterable[Answer],
    columns: Sequence[str],
    format: AnswerFormat,
    finished: Callable[[str], None],
    write: Callable[[str], object],
) -> Iterator[str]:
    """Write a line for each answer, and give the reasons for those that there are not."""
    from wav2vec2.files.tab_separated import table

    if format is AnswerFormat.tsv:
        write(table([["path", *columns]]).rstrip("\n"))
    for one in answers:
        finished(one.path)
        if one.error is not None:
            yield one.error
        elif format is AnswerFormat.txt:
            write(f"{one.path}: {one.text}")
        elif format is AnswerFormat.tsv:
            write(table([[one.path, *one.values]]).rstrip("\n"))
        else:
            write(json.dumps({"path": one.path, **(one.content or {})}, ensure_ascii=False))
