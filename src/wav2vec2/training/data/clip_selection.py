"""Which clips of the sources are used, why the others are not, and the figures that say so."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wav2vec2.training.data.audio_clips import LengthLimits
from wav2vec2.training.data.clip_tables import ClipRows


@dataclass
class ClipSelection:
    """The usable clips of one source (`usable`: indices into its table), how many hours they are, and how many clips
    are `left_out` for which reason."""

    usable: NDArray[np.int64]
    hours: float
    left_out: Counter[str] = field(default_factory=Counter)


def select(
    table: ClipRows, limits: LengthLimits, *, with_text: bool, can_be_spelled: Callable[[str], bool] | None = None
) -> ClipSelection:
    """Choose by length and, `with_text`, by whether there is a transcript, and whether it can be spelled."""
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
    return ClipSelection(usable, float(seconds[usable].sum()) / 3600, left_out)


@dataclass(frozen=True)
class SourceSummary:
    """One source of a run, in figures."""

    #: The path as the recipe has it.
    name: str
    #: "folder", "manifest", "parquet" or "dataset".
    kind: str
    #: Usable clips, None of a stream.
    clips: int | None
    #: Hours of usable audio, None of a stream that does not say.
    hours: float | None
    #: Its share of the audio that is trained on.
    share: float
    #: How often each clip is used in an epoch, None of a stream.
    copies: float | None


@dataclass(frozen=True)
class DataSummary:
    """What a run is trained on, printed when it starts and kept in its log: its sources, how many clips are `left_out`
    for which reason, and how many updates an epoch has."""

    sources: list[SourceSummary]
    left_out: Mapping[str, int] = field(default_factory=dict)
    updates_per_epoch: float | None = None

    @property
    def clips(self) -> int | None:
        """Usable clips, None if a stream is among the sources."""
        counts = [one.clips for one in self.sources]
        return None if None in counts else sum(count for count in counts if count is not None)

    @property
    def hours(self) -> float | None:
        """Hours of usable audio; None if a stream does not say its hours."""
        hours = [one.hours for one in self.sources]
        return None if None in hours else sum(one for one in hours if one is not None)

    def lines(self) -> list[str]:
        """The summary as text, a line for the whole, each source, and what was left out."""
        whole = "data: " + ", ".join(
            part
            for part in (
                f"{self.hours:.2f} h" if self.hours is not None else "hours unknown (stream)",
                f"{self.clips} clips" if self.clips is not None else "",
                f"{self.updates_per_epoch:.1f} updates per epoch" if self.updates_per_epoch is not None else "",
            )
            if part
        )
        lines = [whole]
        for one in self.sources if len(self.sources) > 1 else ():
            size = "stream" if one.hours is None else f"{one.hours:.2f} h"
            uses = "" if one.copies is None else f", each clip {one.copies:.2f} times per epoch"
            lines.append(f"  {one.name} ({one.kind}): {size}, {one.share:.1%} of the audio{uses}")
        if self.left_out:
            lines.append("  left out: " + ", ".join(f"{count} {reason}" for reason, count in self.left_out.items()))
        return lines
