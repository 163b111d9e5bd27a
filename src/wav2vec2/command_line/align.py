"""`wav2vec2 align`: when was each word of a known transcript said?"""

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from wav2vec2.command_line import recogniser as options
from wav2vec2.command_line.progress import progress_report
from wav2vec2.command_line.recogniser import Recogniser
from wav2vec2.command_line.stopping import STOPPED, Stop, stoppable, told
from wav2vec2.command_line.transcript_files import (
    STANDARD_INPUT,
    audio_input,
    files_for,
    is_finished,
    missing_files,
    try_writing,
    write_transcript,
)

if TYPE_CHECKING:
    from wav2vec2.inference.aligning import AlignedRecording
    from wav2vec2.inference.transcriber import Transcriber


class AlignmentFormat(StrEnum):
    """What can be written."""

    json = "json"
    textgrid = "textgrid"
    ctm = "ctm"
    srt = "srt"
    vtt = "vtt"


#: How the files of a format end, where that is not its name.
_ENDINGS = {AlignmentFormat.textgrid: "TextGrid"}


class _Task(NamedTuple):
    """A recording, its transcript, and the file that the times go to; None is standard output."""

    audio: Path
    text: str
    target: Path | None


def align(
    audio: Annotated[Path | None, typer.Argument(help="Audio file; - is standard input.")] = None,
    text: Annotated[
        str | None, typer.Argument(help="Its transcript: a UTF-8 text file, the words themselves, or - .")
    ] = None,
    *,
    model: options.Model,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", "-d", exists=True, dir_okay=False, help="Manifest (path, transcript) in place of the two."
        ),
    ] = None,
    format: Annotated[AlignmentFormat, typer.Option("--format", "-f", help="What to write.")] = AlignmentFormat.json,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File, by default standard output; with --data a folder."),
    ] = None,
    language: options.Language = None,
    device: options.Device = None,
    dtype: options.DtypeOption = None,
    again: Annotated[bool, typer.Option("--again", help="Of a manifest, redo what is finished.")] = False,
) -> None:
    """Find the time of every word of a transcript, and write it with its confidence.

    json and textgrid also hold the times of letters, or of phones if the model has phones. Of a manifest each recording
    gets a file of its own as soon as it is aligned; those that cannot be used are listed at the end, and the exit code
    is then 1.
    """
    if (data is None) == (audio is None) or (audio is None) != (text is None) or (data is not None and output is None):
        raise typer.BadParameter("give AUDIO and TEXT, or --data with --output, a folder", param_hint="AUDIO TEXT")
    recogniser = Recogniser(model, device, language, dtype=dtype)
    with told("align"), stoppable("align: stopping when this batch is done; Ctrl-C again stops at once") as stop:
        if data is None:
            tasks = [_one(audio or STANDARD_INPUT, text or "", output)]
        else:
            tasks = _all(data, output or Path(), format, again)
        if not tasks:
            return
        recogniser.check()
        failed = _run(recogniser.load(), tasks, format, stop)
    if failed and data is not None:
        typer.echo(f"align: {len(failed)} of {len(tasks)} recordings failed:", err=True)
    for fault in failed:
        typer.echo(f"align: {fault}" if data is None else f"  {fault}", err=True)
    if failed:
        raise typer.Exit(1)


def _one(audio: Path, text: str, output: Path | None) -> _Task:
    if missing_files([audio]):
        raise FileNotFoundError(f"{audio}: no such file")
    if audio == STANDARD_INPUT and text == "-":
        raise ValueError("AUDIO and TEXT: only one of them can be standard input")
    text = read_transcript(text)
    if output is not None:
        if output.is_dir():
            raise ValueError(f"--output {output}: is a folder; give the name of a file in it")
        try_writing(output.parent)
    return _Task(audio, text, output)


def _all(manifest: Path, folder: Path, format: AlignmentFormat, again: bool) -> list[_Task]:
    """The tasks of a manifest without those that are finished, whose file is newer than audio and manifest."""
    from wav2vec2.processing.manifests import read_manifest

    recordings = list(read_manifest(manifest))
    if not any(one.transcript for one in recordings):
        raise ValueError(f"--data {manifest}: no recording has a transcript, in a column of that name")
    paths = [one.path for one in recordings]
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise ValueError(f"{manifest}: {twice} is listed twice, and has one alignment")
    targets = files_for({path: _below(path, manifest.parent) for path in paths}, folder, _ENDINGS.get(format, format))
    tasks = [_Task(one.path, one.transcript or "", targets[one.path]) for one in recordings]
    left = [
        task
        for task in tasks
        if again or not (is_finished(task.audio, task.target) and is_finished(manifest, task.target))
    ]
    if len(left) < len(tasks):
        typer.echo(f"{len(tasks) - len(left)} of {len(tasks)} are finished (--again redoes them)", err=True)
    if left:
        try_writing(folder)
    return left


def _below(path: Path, folder: Path) -> Path:
    """Where a recording lies below the folder of its manifest; its name, if that is elsewhere."""
    inside = path.is_relative_to(folder) and ".." not in path.relative_to(folder).parts
    return path.relative_to(folder) if inside else Path(path.name)


def read_transcript(text: str) -> str:
    """The content of a text file, of standard input for "-", or the words themselves. What looks like a file and is
    none is an error."""
    is_name = "\n" not in text and len(text) < 1000
    if text == "-":
        text = sys.stdin.buffer.read().decode("utf-8-sig")
    elif is_name and Path(text).is_file():
        content = Path(text).read_bytes()
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{text}: not UTF-8 text ({error})") from error
    elif is_name and len(text.split()) == 1 and Path(text).suffix:
        raise FileNotFoundError(f"{text}: no such transcript")
    if not text.split():
        raise ValueError("the transcript is empty: there is nothing to align")
    return text


def _run(transcriber: "Transcriber", tasks: Sequence[_Task], format: AlignmentFormat, stop: Stop) -> list[str]:
    """Align all recordings, and write each as soon as it and those before it are done; a line for each that failed."""
    from wav2vec2.inference.aligning import align_each, part_name

    failed: list[str] = []
    done = 0
    several = len(tasks) > 1
    with progress_report([task.audio for task in tasks], line_for_each=several) as report:

        def advance(seconds: float) -> None:
            report.advance(seconds)
            stop.check()

        try:
            found = align_each(transcriber, ((audio_input(task.audio, stop), task.text) for task in tasks), advance)
            for task, aligned in zip(tasks, found, strict=True):
                if aligned.error is not None:
                    fault = str(aligned.error)
                    failed.append(fault if str(task.audio) in fault else f"{task.audio}: {fault}")
                else:
                    _write(task, aligned, format, part_name(transcriber))
                    done += 1
                report.finished("failed, see the end" if aligned.error else str(task.audio))
        except KeyboardInterrupt as error:
            rest = f"{done} of {len(tasks)} are finished, and the same command does the rest"
            typer.echo(f"align: stopped; {rest}", err=True)
            raise typer.Exit(STOPPED) from error
    return failed


def _write(task: _Task, aligned: "AlignedRecording", format: AlignmentFormat, parts: str) -> None:
    """Write the times, and name the words whose times are guesses. A file that cannot be written ends the run."""
    from wav2vec2.inference.subtitle_formats import render

    name = "stdin" if task.audio == STANDARD_INPUT else task.audio.stem
    content = render(aligned.words, format, name, aligned.duration, parts)
    if task.target is None:
        typer.echo(content, nl=False)
    else:
        write_transcript(task.target, content)
    doubtful = [word.text for word in aligned.words if not word.aligned]
    if doubtful:
        shown = " ".join(doubtful[:10]) + (" ..." if len(doubtful) > 10 else "")
        guesses = f"the times of {len(doubtful)} of {len(aligned.words)} words are guesses: {shown}"
        typer.echo(f"align: {task.audio}: {guesses}", err=True)
