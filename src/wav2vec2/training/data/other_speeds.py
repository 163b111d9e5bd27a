"""Clips at other speeds beside their own: the voices of larger and smaller people, out of the speech of a few.

What a run does with clips (lengths and their limits, shares of sources, batches, seeds, features that are kept) it does
with copies as with any other clip. Of a copy only its length is there before it is loaded, so copies cost no memory
and no reading before the run begins.

Shapes: n clips, v speeds.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wav2vec2.training.data.audio_clips import Clip, Skipped
from wav2vec2.training.data.clip_tables import ClipRows


class ClipsAtSpeeds:
    """The n clips of a table at v speeds, first as they are: clip i at speed j has the number j n + i."""

    def __init__(self, table: ClipRows, speeds: Sequence[float]) -> None:
        self._table, self._speeds = table, (1.0, *speeds)
        #: Seconds (v n,), each those of the copy itself.
        self.seconds = np.concatenate([table.seconds / speed for speed in self._speeds])

    @property
    def problems(self) -> list[Skipped]:
        """The clips whose headers could not be read, and why; their copies are not told of beside them."""
        return self._table.problems

    def transcript(self, index: int) -> str | None:
        """The transcript of a clip is that of its copies."""
        return self._table.transcript(index % len(self._table.seconds))

    def clip(self, index: int) -> Clip:
        """All of one clip but its samples."""
        speed, own = divmod(index, len(self._table.seconds))
        return self._table.clip(own).at(self._speeds[speed])

    def originals(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """The clips of the table of which one of these is the clip itself or a copy, each once."""
        return np.unique(indices % len(self._table.seconds))
