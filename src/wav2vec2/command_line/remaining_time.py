"""How long a run still takes, in few lines: where there is no terminal for a bar."""

import time

import typer

#: Seconds after which the first estimate is made, and between two of them.
_FIRST, _BETWEEN = 5.0, 60.0


class RemainingTime:
    """Tells on standard error how far a run of so many seconds of audio is, and how long the rest will take."""

    def __init__(self, total: float) -> None:
        self._total, self._done = total, 0.0
        self._started = time.monotonic()
        self._next = _FIRST

    def advance(self, seconds: float) -> None:
        """So many more seconds of audio are done; a line if it is time for one."""
        self._done += seconds
        passed = time.monotonic() - self._started
        if passed < self._next or not 0 < self._done < self._total:
            return
        self._next = passed + _BETWEEN
        left = passed * (self._total / self._done - 1)
        typer.echo(
            f"{self._done / self._total:.0%} of {in_words(self._total)} of audio in {in_words(passed)}, "
            f"{self._done / passed:.1f} times as fast as speech: about {in_words(left)} left",
            err=True,
        )

    def finished(self, line: str) -> None:
        """Nothing: what failed is listed at the end."""


def in_words(seconds: float) -> str:
    """Seconds in the unit that suits them.

    >>> in_words(42.3), in_words(600), in_words(9000)
    ('42 s', '10.0 minutes', '2.5 hours')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
