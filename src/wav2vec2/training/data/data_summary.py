"""What a run is trained on, in figures: printed at start-up and kept in the log."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class SourceSummary:
    """One source: its usable clips and hours (None of a stream), its share of the audio, its uses in an epoch."""

    name: str
    kind: str
    clips: int | None
    hours: float | None
    share: float
    copies: float | None


@dataclass(frozen=True)
class DataSummary:
    """All sources together. `left_out` counts the clips that are not used, by reason."""

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
        if len(self.sources) > 1:
            lines += [_line(one) for one in self.sources]
        if self.left_out:
            lines.append("  left out: " + ", ".join(f"{count} {reason}" for reason, count in self.left_out.items()))
        return lines


def _line(one: SourceSummary) -> str:
    size = "stream" if one.hours is None else f"{one.hours:.2f} h"
    uses = "" if one.copies is None else f", each clip {one.copies:.2f} times per epoch"
    return f"  {one.name} ({one.kind}): {size}, {one.share:.1%} of the audio{uses}"
