"""How far the estimation of an n-gram model is, for those who wait for it."""

from collections.abc import Callable

#: Told what is done now, and the share of all work that is done.
Tell = Callable[[str, float], None]

#: How long steps take beside each other, by a profile of a corpus of a million words: reading it; sorting the n-grams
#: of one order; estimating all of them.
READING, SORTING, ESTIMATING = 1.0, 1.8, 1.2


class TrainingProgress:
    """Steps of known weight, one after the other."""

    def __init__(self, order: int, tell: Tell | None) -> None:
        self._tell = tell
        self._total = READING + SORTING * (order - 1) + ESTIMATING
        self._before = self._weight = 0.0
        self._name = ""

    def begin(self, name: str, weight: float) -> None:
        """The next step; the one before is done."""
        self._before += self._weight
        self._name, self._weight = name, weight
        self.advance(0.0)

    def advance(self, share: float) -> None:
        """So much of this step is done."""
        if self._tell is not None:
            self._tell(self._name, min((self._before + self._weight * min(share, 1.0)) / self._total, 1.0))
