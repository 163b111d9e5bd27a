"""`wav2vec2 transcribe`: what is said in these files, and when?"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wav2vec2.command_line.progress_report import Report, progress_report

if TYPE_CHECKING:
    from wav2vec2.inference.transcriber import Transcriber
    from wav2vec2.inference.transcript import Transcript


class Format(StrEnum):
    """What can be written."""

    txt = "txt"
    json = "json"
    srt = "srt"
    vtt = "vtt"
    tsv = "tsv"


class Times(StrEnum):
    """Of what times are wanted."""

    word = "word"
    char = "char"
    none = "none"


_TIMES: dict[Times, Literal["word", "char"] | None] = {Times.word: "word", Times.char: "char", Times.none: None}


def transcribe(
    audio: Annotated[list[Path], typer.Argument(help="Audio files, and folders of them.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Folder or Hub name of a CTC checkpoint.")],
    timestamps: Annotated[Times, typer.Option(help="Times of words, of characters as well, or none.")] = Times.word,
    format: Annotated[Format, typer.Option("--format", "-f", help="What to write.")] = Format.txt,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the files; by default standard output.")
    ] = None,
    lm: Annotated[
        Path | None, typer.Option(help="Language model: a compact, ARPA or KenLM file, or a folder with a decoder.")
    ] = None,
    beam: Annotated[int | None, typer.Option(min=1, help="Texts that beam search keeps; it needs no --lm.")] = None,
    language: Annotated[str | None, typer.Option(help="Language of a checkpoint with several, such as eng.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps ...; by default the best there is.")] = None,
    batch_seconds: Annotated[float | None, typer.Option(min=0.1, help="Seconds of audio in a batch.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Redo files whose transcript is finished.")] = False,
) -> None:
    """Transcribe audio files of any length.

    With --output every file gets a transcript of its own as soon as it is finished, and files whose transcript is there
    already, and not older than the audio, are skipped. Files that cannot be used are listed at the end; the exit code
    is then 1.
    """
    from wav2vec2.command_line.transcript_files import is_finished, transcript_files
    from wav2vec2.inference.transcript_formats import TIMED_FORMATS

    if timestamps is Times.none and format in TIMED_FORMATS:
        raise typer.BadParameter(f"{format.value} is made of times: take --timestamps word", param_hint="--timestamps")
    try:
        targets = transcript_files(audio, output, format)
        wanted = [path for path, target in targets.items() if again or not is_finished(path, target)]
        if len(wanted) < len(targets):
            typer.echo(f"{len(targets) - len(wanted)} of {len(targets)} are finished (--again redoes them)", err=True)
        if not wanted:
            return
        transcriber = _transcriber(model, device, language, lm, beam, batch_seconds)
    except (ValueError, OSError, RuntimeError, AssertionError) as error:  # torch raises the last two for devices
        typer.echo(f"transcribe: {error}", err=True)
        raise typer.Exit(1) from error
    with progress_report(wanted) as report:
        faults = _run(transcriber, {path: targets[path] for path in wanted}, _TIMES[timestamps], format, report)
    if faults:
        typer.echo(f"transcribe: {len(faults)} of {len(wanted)} files failed:", err=True)
        for fault in faults:
            typer.echo(f"  {fault}", err=True)
        raise typer.Exit(1)


def _transcriber(
    model: str, device: str | None, language: str | None, lm: Path | None, beam: int | None, seconds: float | None
) -> "Transcriber":
    from transformers.utils import logging

    from wav2vec2.inference.transcriber import Transcriber

    logging.disable_progress_bar()
    return Transcriber.from_pretrained(
        model, device, language=language, language_model=lm, beam=beam, batch_seconds=seconds
    )


def _run(
    transcriber: "Transcriber",
    targets: Mapping[Path, Path | None],
    timestamps: Literal["word", "char"] | None,
    format: str,
    report: Report,
) -> list[str]:
    """Transcribe and write; the faults, one line each."""
    faults = []
    found = transcriber.transcribe_each(targets, timestamps, report.advance)
    for (path, target), transcript in zip(targets.items(), found, strict=True):
        fault = transcript.error or _written(transcript, target, format)
        if fault is not None:
            faults.append(fault)
        report.finished(f"failed: {fault}" if fault else f"{path} ({transcript.duration:.1f} s)")
    return faults


def _written(transcript: "Transcript", target: Path | None, format: str) -> str | None:
    """Write one transcript to its file or to standard output; what went wrong with it, if anything did."""
    from wav2vec2.command_line.transcript_files import write_transcript
    from wav2vec2.inference.transcript_formats import transcript_as

    content = transcript_as(transcript, format)
    if target is None:
        typer.echo(content, nl=False)
        return None
    try:
        write_transcript(target, content)
    except OSError as error:
        return f"{target}: cannot be written: {error}"
    return None
