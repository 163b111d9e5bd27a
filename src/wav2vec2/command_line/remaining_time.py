"""How long a command still takes, in few lines: where there is no terminal for a bar."""

import time

import typer

from wav2vec2.evaluation.figures_in_words import duration

#: Seconds after which the first line is written, and between two of them.
_FIRST, _BETWEEN = 5.0, 60.0


class NowAndThen:
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


class RemainingTime:
    """Tells on standard error how far a run of so many seconds of audio is, and how long the rest will take."""

    def __init__(self, total: float) -> None:
        self._total, self._done, self._lines = total, 0.0, NowAndThen()

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
        """Nothing: what failed is listed at the end."""
