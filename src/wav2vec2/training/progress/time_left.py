"""How long a run will still take, from how long its updates took so far, evaluations and checkpoints included."""

import time
from collections.abc import Callable

from wav2vec2.evaluation.figures_in_words import duration

#: The first update starts workers and chooses kernels: it says nothing of the others. So many seconds after it, the
#: mean of the others says enough.
_FIRST_SECONDS = 5.0


class TimeLeft:
    """Told of every update, it knows when the last one will be done.

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
        """So many updates are done; whether this is the first time that there is something to say."""
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
        """As one says it; empty as long as it is not known."""
        return "" if self.seconds is None else f"{duration(self.seconds)} left"
