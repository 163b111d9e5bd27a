"""Micro-batches, made by worker processes ahead of time, in an order and of a content that no worker changes.

Every worker walks through the same plan of updates and makes each W-th micro-batch of its process; the DataLoader takes
from the W workers in turn. What is random about a clip follows from its seed, so workers hold no state.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from wav2vec2.training.data.audio_clips import (
    SAMPLING_RATE,
    Clip,
    ClipFacts,
    LengthLimits,
    LoadedClip,
    Skipped,
    clip_seed,
    load_clip,
)
from wav2vec2.training.data.batch_parts import divide
from wav2vec2.training.data.durations import reason_of


class Collate(Protocol):
    """Clips -> a batch of them. Without clips, one of the same kind that counts for nothing."""

    def __call__(self, clips: list[LoadedClip]) -> dict[str, Tensor]:
        """Called in a worker process, so it must survive pickling. What it raises is the fault of a clip."""


@dataclass
class Batch:
    """Micro-batch `part` of `parts` of one process, in `update`.

    `clips` and `seconds` are of those that could be read, `skipped` of the others. `position` (JSON) is where a
    stream stands after the update, `epoch` how often the data has been seen by then.
    """

    update: int
    part: int
    parts: int
    inputs: dict[str, Tensor]
    clips: list[ClipFacts]
    seconds: float
    skipped: list[Skipped] = field(default_factory=list)
    position: dict[str, Any] = field(default_factory=dict)
    epoch: float = 0.0

    @property
    def ids(self) -> list[str]:
        """What reports call the clips."""
        return [clip.id for clip in self.clips]


@dataclass(frozen=True)
class PlannedUpdate:
    """A global batch before anything of it is decoded: `seconds` (n,) of its clips, and each clip by its index."""

    update: int
    seconds: NDArray[np.float64]
    clip: Callable[[int], Clip]
    skipped: list[Skipped] = field(default_factory=list)
    position: dict[str, Any] = field(default_factory=dict)
    epoch: float = 0.0


class UpdatePlan(Protocol):
    """What every worker walks through."""

    def __call__(self) -> Iterator[PlannedUpdate]:
        """The updates, in order."""


@dataclass(frozen=True)
class Loading:
    """How the updates of a plan become micro-batches of one process."""

    collate: Collate
    limits: LengthLimits
    seed: int
    processes: int
    process: int
    seconds_per_batch: float
    evaluation: bool = False


class MicroBatches(IterableDataset[Batch]):
    """The micro-batches of one process; in a worker, every W-th of them."""

    def __init__(self, plan: UpdatePlan, loading: Loading) -> None:
        self.plan = plan
        self.loading = loading

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        mine, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        number = 0
        for planned in self.plan():
            division = divide(planned.seconds, self.loading.processes, self.loading.seconds_per_batch)
            for part, group in enumerate(division.groups[self.loading.process]):
                if number % workers == mine:
                    yield self._batch(planned, part, division.parts, group)
                number += 1

    def _batch(self, planned: PlannedUpdate, part: int, parts: int, group: Sequence[int] | NDArray[np.int64]) -> Batch:
        """Decode the clips of one part. Those that cannot be are reported, the others are as they would be anyway."""
        loaded: list[LoadedClip] = []
        skipped = list(planned.skipped) if part == 0 and self.loading.process == 0 else []
        for index in group:
            name = f"clip {index} of update {planned.update}"  # of a row that cannot even be read
            try:
                clip = planned.clip(int(index))
                name = clip.id
                loaded.append(self._load(clip, planned.update, int(index)))
            except MemoryError:
                raise
            except Exception as error:
                skipped.append(Skipped(name, reason_of(error)))
        inputs, loaded = self._collated(loaded, skipped)
        return Batch(
            planned.update,
            part,
            parts,
            inputs,
            [one.facts for one in loaded],
            sum(len(one.samples) for one in loaded) / SAMPLING_RATE,
            skipped,
            planned.position,
            planned.epoch,
        )

    def _collated(self, clips: list[LoadedClip], skipped: list[Skipped]) -> tuple[dict[str, Tensor], list[LoadedClip]]:
        """The batch, and the clips in it: those that a batch cannot be made of go to the skipped ones."""
        try:
            return self.loading.collate(clips), clips
        except MemoryError:
            raise
        except Exception:
            usable = [clip for clip in clips if self._by_itself(clip, skipped)]
            if len(usable) == len(clips):  # it is the fault of none of them
                raise
            return self.loading.collate(usable), usable

    def _by_itself(self, clip: LoadedClip, skipped: list[Skipped]) -> bool:
        try:
            self.loading.collate([clip])
        except Exception as error:
            skipped.append(Skipped(clip.id, reason_of(error)))
            return False
        return True

    def _load(self, clip: Clip, update: int, index: int) -> LoadedClip:
        seed = clip_seed(self.loading.seed, update, index)
        return load_clip(clip, seed, self.loading.limits, at_random=not self.loading.evaluation)
