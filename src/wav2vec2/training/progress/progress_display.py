"""What whoever watches a run sees, on standard error: a bar on a terminal, a line per logged update elsewhere."""

from collections.abc import Mapping
from typing import Any, Protocol

import typer

#: What a line shows of the figures, in this order, and how.
_SHOWN = {
    "loss": "loss {:.3f}",
    "bits": "{:.3f} bits",
    "accuracy": "accuracy {:.3f}",
    "code_perplexity": "codes {}",
    "wer": "WER {:.1%}",
    "cer": "CER {:.1%}",
    "left_out": "({:,} clips left out)",
    "blank_share": "blank {:.1%}",
    "gradient_norm": "gradient {:.3g}",
    "learning_rate": "rate {:.3g}",
    "audio_seconds_per_second": "{:.0f} s audio/s",
    "data_wait_share": "waiting {:.1%}",
}


#: Of a sample text, so many characters.
_SAMPLE = 200


class ProgressDisplay(Protocol):
    """How far a run is. `left` says how long it will still take, empty while nobody knows."""

    def advance(self, update: int, left: str) -> None:
        """So many updates are done."""

    def figures(self, kind: str, update: int, figures: Mapping[str, Any], left: str) -> None:
        """The figures of a line of the log."""

    def note(self, text: str) -> None:
        """A sentence."""

    def close(self) -> None:
        """It is over."""


def summary(figures: Mapping[str, Any]) -> str:
    """The figures that matter most, on one line.

    >>> summary({"loss": 4.61, "bits": 6.6512, "code_perplexity": [43.21, 61.0], "masked_share": 0.49})
    'loss 4.610  6.651 bits  codes 43.2+61.0'
    """
    parts = []
    for name, pattern in _SHOWN.items():
        value = figures.get(name)
        if isinstance(value, list | tuple):
            value = "+".join(f"{item:.1f}" for item in value)
        if value is not None:
            parts.append(pattern.format(value))
    return "  ".join(parts)


def sample_lines(figures: Mapping[str, Any]) -> list[str]:
    """What the evaluation made of some clips.

    >>> sample_lines({"samples": [{"reference": "the cat", "hypothesis": "a cat"}]})
    ['  reference: the cat', '  hypothesis: a cat']
    """
    samples = figures.get("samples") or []
    return [f"  {name}: {text[:_SAMPLE]}" for sample in samples for name, text in sample.items()]


def progress_display(total_updates: int | None, begin_at: int = 0) -> ProgressDisplay:
    """A bar if standard error is a terminal, else lines."""
    from rich.console import Console

    console = Console(stderr=True)
    return _Bar(console, total_updates, begin_at) if console.is_terminal else _Lines(total_updates)


class _Lines:
    def __init__(self, total: int | None) -> None:
        self._of = f"/{total}" if total else ""

    def advance(self, update: int, left: str) -> None:
        pass

    def figures(self, kind: str, update: int, figures: Mapping[str, Any], left: str) -> None:
        label = "evaluation" if kind == "evaluation" else "update"
        self.note("  ".join(filter(None, [f"{label} {update}{self._of}", summary(figures), left])))
        for line in sample_lines(figures):
            self.note(line)

    def note(self, text: str) -> None:
        typer.echo(text, err=True)

    def close(self) -> None:
        pass


class _Bar:
    """One line: the counter, a bar and the time left, which are never cut, and of the figures what fits behind them."""

    def __init__(self, console: Any, total: int | None, begin_at: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.table import Column

        def whole() -> Any:
            return Column(no_wrap=True, overflow="ignore")

        columns = (
            MofNCompleteColumn(table_column=whole()),
            BarColumn(bar_width=12, table_column=whole()),
            TextColumn("{task.fields[left]}", table_column=whole()),
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
        )
        self._progress = Progress(*columns, console=console, expand=True)
        self._task = self._progress.add_task("", total=total, completed=begin_at, left="")
        self._progress.start()

    def advance(self, update: int, left: str) -> None:
        self._progress.update(self._task, completed=update, left=left)

    def figures(self, kind: str, update: int, figures: Mapping[str, Any], left: str) -> None:
        if kind == "evaluation":
            self.note("\n".join([f"evaluation {update}  {summary(figures)}", *sample_lines(figures)]))
        else:
            self._progress.update(self._task, completed=update, description=summary(figures), left=left)

    def note(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self._progress.stop()
