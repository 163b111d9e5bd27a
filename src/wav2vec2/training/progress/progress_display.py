"""What whoever watches a run sees on standard error, and how long the run will still take.

On a terminal that is a bar; elsewhere, as in a file or a pipe, a line for each logged update.
"""

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from wav2vec2.evaluation.figures_in_words import duration

if TYPE_CHECKING:
    from rich.console import Console

#: What a line shows of the figures, in this order, and how.
_SHOWN = {
    "log_mel_error": "log-mel error {:.3f}",
    "loss": "loss {:.3f}",
    "bits": "{:.3f} bits",
    "accuracy": "accuracy {:.3f}",
    "code_perplexity": "codes {}",
    "wer": "WER {:.1%}",
    "cer": "CER {:.1%}",
    "per": "PER {:.1%}",
    "left_out": "({:,} clips left out)",
    "blank_share": "blank {:.1%}",
    "gradient_norm": "gradient {:.3g}",
    "learning_rate": "rate {:.3g}",
    "audio_seconds_per_second": "{:.0f} s audio/s",
    "data_wait_share": "waiting {:.1%}",
}

#: Of a sample text, so many characters are shown.
_SAMPLE = 200

#: The first update starts workers and chooses kernels: it says nothing of the others. So many seconds after it, the
#: mean of the others says enough.
_FIRST_SECONDS = 5.0


class TimeLeft:
    """How long a run will still take, from how long its updates took so far, evaluations and checkpoints included.

    >>> now = iter([0.0, 3.0, 12.0])
    >>> left = TimeLeft(100, clock=lambda: next(now))
    >>> left.advance(1), left.advance(2), left.advance(5), left.words
    (False, False, True, '5 minutes left')
    """

    def __init__(self, total: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._clock = total, clock
        self._first: tuple[int, float] | None = None
        self.seconds: float | None = None

    def advance(self, update: int) -> bool:
        """Take note that so many updates are done. Returns whether the time left has just become known."""
        now = self._clock()
        if self._first is None:
            self._first = update, now
            return False
        first, begun = self._first
        if self._total is None or update <= first or now - begun < _FIRST_SECONDS:
            return False
        known = self.seconds is not None
        self.seconds = (now - begun) / (update - first) * max(self._total - update, 0)
        return not known

    @property
    def words(self) -> str:
        """The time left in words, as "5 minutes left"; empty as long as it is not known."""
        return "" if self.seconds is None else f"{duration(self.seconds)} left"


class ProgressDisplay(Protocol):
    """Shows how far a run is. `left` says how long it will still take; it is empty while nobody knows."""

    def advance(self, update: int, left: str) -> None:
        """Show that so many updates are done."""

    def figures(self, kind: str, update: int, figures: Mapping[str, Any], left: str) -> None:
        """Show the figures of a line of the log, whose kind is "training" or "evaluation"."""

    def note(self, text: str) -> None:
        """Show a sentence."""

    def close(self) -> None:
        """Leave the terminal as it was."""


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
    """The texts that an evaluation wrote for some clips, beside what was said in them.

    >>> sample_lines({"samples": [{"reference": "the cat", "hypothesis": "a cat"}]})
    ['  reference: the cat', '  hypothesis: a cat']
    """
    samples = figures.get("samples") or []
    return [f"  {name}: {text[:_SAMPLE]}" for sample in samples for name, text in sample.items()]


def progress_display(total_updates: int | None, begin_at: int = 0) -> ProgressDisplay:
    """A bar if standard error is a terminal, else lines. The run begins after update `begin_at`."""
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
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def close(self) -> None:
        pass


class _Bar:
    """One line: the counter, a bar and the time left, which are never cut, and of the figures what fits behind them."""

    def __init__(self, console: "Console", total: int | None, begin_at: int) -> None:
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
