"""How far a run is: a bar on a terminal, plain lines elsewhere. Both go to standard error."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import typer

from wav2vec2.command_line.remaining_time import RemainingTime

if TYPE_CHECKING:
    from rich.progress import Progress


class Report(Protocol):
    """What is told of a run."""

    def advance(self, seconds: float) -> None:
        """So many more seconds of audio have been recognised."""

    def finished(self, line: str) -> None:
        """One more file is finished; `line` says what of it."""


class _Lines:
    def __init__(self, files: int, remaining: RemainingTime) -> None:
        self._files, self._done, self._remaining = files, 0, remaining

    def advance(self, seconds: float) -> None:
        self._remaining.advance(seconds)

    def finished(self, line: str) -> None:
        self._done += 1
        typer.echo(f"[{self._done}/{self._files}] {line}", err=True)


@contextmanager
def progress_report(
    paths: Sequence[Path], line_for_each: bool = True, files: int | None = None, already: float = 0.0
) -> Iterator[Report]:
    """Report on the transcription of files; without a terminal a line for each, or else now and then how long it will
    still take.

    There may be more `files` than paths, such as standard input; `already` are seconds that need not be done again.
    """
    from rich.console import Console

    files = len(paths) if files is None else files
    total = max(sum(map(_declared_seconds, paths)) - already, 0.0)
    console = Console(stderr=True)
    if not console.is_terminal:
        remaining = RemainingTime(total)
        yield _Lines(files, remaining) if line_for_each else remaining
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    with Progress(*columns, TextColumn("{task.fields[speed]}"), TimeRemainingColumn(), console=console) as progress:
        yield _Bar(progress, files, total)


class _Bar:
    def __init__(self, progress: "Progress", files: int, total: float) -> None:
        self._progress, self._files, self._total = progress, files, total
        self._done, self._seconds, self._started = 0, 0.0, time.monotonic()
        self._task = progress.add_task(f"0/{files} files", total=total or None, speed="")

    def advance(self, seconds: float) -> None:
        self._seconds += seconds
        speed = self._seconds / max(time.monotonic() - self._started, 1e-3)
        self._progress.update(self._task, advance=seconds, speed=f"{speed:.1f} x real time")

    def finished(self, line: str) -> None:
        self._done += 1
        completed = self._total if self._done == self._files else None  # what failed is not left to do
        self._progress.update(self._task, description=f"{self._done}/{self._files} files", completed=completed)


def _declared_seconds(path: Path) -> float:
    """For the bar alone: what cannot be read counts nothing here, and is reported when its turn comes."""
    from wav2vec2.processing.audio_files import audio_duration

    try:
        return audio_duration(path)
    except (ValueError, OSError):
        return 0.0
