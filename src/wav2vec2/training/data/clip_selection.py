"""Which clips of the sources are used, and why the others are not."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wav2vec2.training.data.audio_clips import Clip, LengthLimits
from wav2vec2.training.data.clip_tables import ClipTable


class TableClips:
    """The tables of several sources as one, numbered through."""

    def __init__(self, tables: Sequence[ClipTable]) -> None:
        self.tables = list(tables)
        self.first = np.cumsum([0, *(len(table.seconds) for table in tables)])
        self.seconds = np.concatenate([np.empty(0), *(table.seconds for table in tables)])

    def __call__(self, index: int) -> Clip:
        """The clip with this number."""
        table = int(np.searchsorted(self.first, index, side="right")) - 1
        return self.tables[table].clip(int(index - self.first[table]))


@dataclass
class Selection:
    """The usable clips of one source (indices into its table), and how many are left out for which reason."""

    usable: NDArray[np.int64]
    hours: float
    left_out: Counter[str] = field(default_factory=Counter)


def select(
    table: ClipTable, limits: LengthLimits, *, with_text: bool, can_be_spelled: Callable[[str], bool] | None = None
) -> Selection:
    """Choose by length, and with text by whether there is any, and whether it can be spelled."""
    seconds = table.seconds
    unreadable = np.isnan(seconds)
    short = ~unreadable & (seconds < limits.shortest)
    long = ~unreadable & (seconds > limits.longest) if not limits.crop else np.zeros_like(unreadable)
    keep = ~(unreadable | short | long)
    silent, odd = np.zeros_like(keep), np.zeros_like(keep)
    if with_text:
        for index in np.flatnonzero(keep):
            text = table.transcript(int(index))
            silent[index] = not text
            odd[index] = bool(text) and can_be_spelled is not None and not can_be_spelled(str(text))
    usable = np.flatnonzero(keep & ~(silent | odd))
    counts = {
        "unreadable": unreadable,
        f"shorter than {limits.shortest:g} s": short,
        f"longer than {limits.longest:g} s": long,
        "without a transcript": silent,
        "with characters that have no token": odd,
    }
    left_out = Counter({reason: int(which.sum()) for reason, which in counts.items() if which.any()})
    return Selection(usable, float(seconds[usable].sum()) / 3600, left_out)
