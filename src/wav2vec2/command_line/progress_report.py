"""How far a run is: a bar on a terminal, plain lines elsewhere. Both go to standard error."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import typer

from wav2vec2.command_line.remaining_time import RemainingTime


class Report(Protocol):
    """What is told of a run."""

    def advance(self, seconds: float) -> None:
        """So many more seconds of audio have been recognised."""

    def finished(self, line: str) -> None:
        """One more file is finished; `line` says what of it."""


class _Lines:
    def __init__(self, files: int) -> None:
        self._files, self._done = files, 0

    def advance(self, seconds: float) -> None:
        pass

    def finished(self, line: str) -> None:
        self._done += 1
        typer.echo(f"[{self._done}/{self._files}] {line}", err=True)


@contextmanager
def progress_report(paths: Sequence[Path], line_for_each: bool = True) -> Iterator[Report]:
    """Report on the transcription of files; without a terminal a line for each, or else now and then how long it will
    still take."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(len(paths)) if line_for_each else RemainingTime(sum(map(_declared_seconds, paths)))
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    total = sum(map(_declared_seconds, paths))
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(f"0/{len(paths)} files", total=total or None)
        done = 0

        class _Bar:
            def advance(self, seconds: float) -> None:
                progress.advance(task, seconds)

            def finished(self, line: str) -> None:
                nonlocal done
                done += 1
                completed = total if done == len(paths) else None  # what failed is not left to do
                progress.update(task, description=f"{done}/{len(paths)} files", completed=completed)

        yield _Bar()


def _declared_seconds(path: Path) -> float:
    """For the bar alone: what cannot be read counts nothing here, and is reported when its turn comes."""
    from wav2vec2.processing.recordings import audio_duration

    try:
        return audio_duration(path)
    except (ValueError, OSError):
        return 0.0
