"""The plans of runs and evaluations over clips of known length and over streams: which clips are in which update."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wav2vec2.training.data.audio_clips import EVALUATION, Clip
from wav2vec2.training.data.clip_tables import TableClips
from wav2vec2.training.data.global_batches import GlobalBatches
from wav2vec2.training.data.micro_batches import PlannedUpdate
from wav2vec2.training.data.streams import StreamedBatches


@dataclass(frozen=True)
class _Chosen:
    """The clips of a global batch by their index in it; `indices` (n,) are their numbers among `clips`, to which the
    run adds `before`."""

    clips: TableClips
    indices: NDArray[np.int64]
    before: int = 0

    def __call__(self, index: int) -> Clip:
        number = int(self.indices[index])
        return replace(self.clips(number), number=self.before + number)


@dataclass(frozen=True)
class MapUpdates:
    """The plan of a run over clips of known length."""

    #: Which clips each update is made of.
    batches: GlobalBatches
    #: All clips of the run, numbered through.
    clips: TableClips
    #: Seconds (n,) that one use of each clip gives.
    counted: NDArray[np.float64]
    #: The first update.
    start: int

    def __call__(self) -> Iterator[PlannedUpdate]:
        """Every update, for ever."""
        update = self.start
        while True:
            indices = self.batches(update)
            yield PlannedUpdate(
                update, self.counted[indices], _Chosen(self.clips, indices), epoch=self.batches.epoch_after(update)
            )
            update += 1


@dataclass(frozen=True)
class StreamUpdates:
    """The plan of a run over streams, from update `start` on, which begins at `position`."""

    batches: StreamedBatches
    start: int
    position: dict[str, Any]

    def __call__(self) -> Iterator[PlannedUpdate]:
        """Every update, for ever."""
        return self.batches.updates(self.start, self.position)


@dataclass(frozen=True)
class EvaluationPlan:
    """The plan of an evaluation: one "update" of some clips."""

    #: All clips that there are.
    clips: TableClips
    #: The numbers of those that are evaluated.
    indices: NDArray[np.int64]
    #: Seconds (n,) that each clip gives.
    counted: NDArray[np.float64]
    #: How many clips the run has beside them: in its numbers those come first.
    before: int = 0

    def __call__(self) -> Iterator[PlannedUpdate]:
        """All clips at once."""
        yield PlannedUpdate(EVALUATION, self.counted[self.indices], _Chosen(self.clips, self.indices, self.before))
