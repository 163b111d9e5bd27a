"""What becomes of transcripts as they are finished: files, or one well-formed document on standard output."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from wav2vec2.command_line.transcript_files import write_transcript

if TYPE_CHECKING:
    from wav2vec2.inference.transcript import Transcript


class WrittenFiles:
    """A file for each transcript, by the name of its recording."""

    def __init__(self, targets: Mapping[str, Path], format: str) -> None:
        self._targets, self._format = targets, format

    def add(self, transcript: "Transcript") -> None:
        """Write one; an OSError where that is not possible."""
        from wav2vec2.inference.transcript import transcript_as

        write_transcript(self._targets[transcript.path], transcript_as(transcript, self._format))

    def close(self) -> None:
        """Nothing is left to do."""


class PrintedTranscripts:
    """All transcripts on standard output; those of several recordings in one array, if they are JSON."""

    def __init__(self, format: str, several: bool) -> None:
        self._format, self._array, self._count = format, several and format == "json", 0

    def add(self, transcript: "Transcript") -> None:
        """Print one."""
        from wav2vec2.inference.transcript import transcript_as

        content = transcript_as(transcript, self._format)
        if self._array:
            content = ("," if self._count else "[") + "\n" + content.rstrip("\n")
        typer.echo(content, nl=False)
        self._count += 1

    def close(self) -> None:
        """Behind the last one, also where a run has ended early: what is printed can be read."""
        if self._array:
            typer.echo("\n]" if self._count else "[]")
