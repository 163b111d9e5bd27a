"""How far a command is that does one thing after another: a bar on a terminal, now and then a line elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from wav2vec2.command_line.remaining_time import NowAndThen
from wav2vec2.evaluation.figures_in_words import duration


@contextmanager
def work_progress(command: str) -> Iterator[Callable[[str, float], None]]:
    """What is to be called with what is done now, and the share of all work that is done."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(command).tell
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(command, total=1.0)
        yield lambda step, share: progress.update(task, description=step, completed=share)


class _Lines:
    def __init__(self, command: str) -> None:
        self._command, self._lines = command, NowAndThen()

    def tell(self, step: str, share: float) -> None:
        if (passed := self._lines.passed(share)) is not None:
            left = duration(passed / share - passed)
            typer.echo(f"{self._command}: {step}; {share:.0%} of the work in {duration(passed)}: {left} left", err=True)
