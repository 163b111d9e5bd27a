"""How far a command is: a bar on a terminal, plain lines elsewhere. Both go to standard error."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from wav2vec2.evaluation.figures_in_words import duration

if TYPE_CHECKING:
    from rich.progress import Progress

    from wav2vec2.evaluation.evaluation_run import RecognitionReport

#: Seconds after which the first line on the remaining time is written, and between two of them.
_FIRST, _BETWEEN = 5.0, 60.0


@contextmanager
def progress_report(
    paths: Sequence[Path], line_for_each: bool = True, files: int | None = None, already: float = 0.0
) -> Iterator["RecognitionReport"]:
    """Report on the transcription of files; without a terminal a line for each, or else now and then how long it will
    still take.

    There may be more `files` than paths, such as standard input; `already` are seconds that need not be done again.
    """
    files = len(paths) if files is None else files
    total = max(sum(map(_declared_seconds, paths)) - already, 0.0)
    with _bar(with_speed=True) as bar:
        if bar is not None:
            yield _BarOfFiles(bar, files, total)
        else:
            remaining = RemainingTime(total)
            yield _LineForEach(files, remaining) if line_for_each else remaining


@contextmanager
def work_progress(command: str) -> Iterator[Callable[[str, float], None]]:
    """For a command that does one thing after another: what is to be called with what is done now, and the share of all
    work that is done."""
    lines = _NowAndThen()

    def tell(step: str, share: float) -> None:
        if (passed := lines.passed(share)) is not None:
            left = duration(passed / share - passed)
            typer.echo(f"{command}: {step}; {share:.0%} of the work in {duration(passed)}: {left} left", err=True)

    with _bar() as bar:
        if bar is None:
            yield tell
        else:
            task = bar.add_task(command, total=1.0)
            yield lambda step, share: bar.update(task, description=step, completed=share)


class RemainingTime:
    """Tells in few lines how far a run of so many seconds of audio is, and how long the rest will take."""

    def __init__(self, total: float) -> None:
        self._total, self._done, self._lines = total, 0.0, _NowAndThen()

    def advance(self, seconds: float) -> None:
        """So many more seconds of audio are done; a line if it is time for one."""
        self._done += seconds
        share = self._done / self._total if self._total else 0.0
        if (passed := self._lines.passed(share)) is not None:
            typer.echo(
                f"{share:.0%} of {duration(self._total)} of audio in {duration(passed)}, "
                f"{self._done / passed:.1f} times as fast as speech: about {duration(passed / share - passed)} left",
                err=True,
            )

    def finished(self, line: str) -> None:
        """Nothing is written: what failed is listed at the end."""


class _LineForEach:
    """A line for every file that is finished, and those of the remaining time."""

    def __init__(self, files: int, remaining: RemainingTime) -> None:
        self._files, self._done, self.advance = files, 0, remaining.advance

    def finished(self, line: str) -> None:
        self._done += 1
        typer.echo(f"[{self._done}/{self._files}] {line}", err=True)


class _BarOfFiles:
    """One bar for all files together, which moves with the seconds of audio."""

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


class _NowAndThen:
    """Knows when it is time for a line."""

    def __init__(self) -> None:
        self._started, self._next = time.monotonic(), _FIRST

    def passed(self, share: float) -> float | None:
        """The seconds since the beginning, if it is time to say that this share of the work is done."""
        passed = time.monotonic() - self._started
        if passed < self._next or not 0 < share < 1:
            return None
        self._next = passed + _BETWEEN
        return passed


@contextmanager
def _bar(with_speed: bool = False) -> Iterator["Progress | None"]:
    """What draws bars on standard error; None if that is no terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %")]
    columns += [TextColumn("{task.fields[speed]}")] if with_speed else []
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        yield progress


def _declared_seconds(path: Path) -> float:
    """For the bar alone: what cannot be read counts nothing here, and is reported when its turn comes."""
    from wav2vec2.processing.audio_files import audio_duration

    try:
        return audio_duration(path)
    except (ValueError, OSError):
        return 0.0
