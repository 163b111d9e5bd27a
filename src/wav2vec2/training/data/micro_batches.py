"""Micro-batches, made by worker processes ahead of time, in an order and of a content that no worker changes.

Every worker walks through the same plan of updates and makes each W-th micro-batch of its process; the DataLoader takes
from the W workers in turn. What is random about a clip follows from its seed, so workers hold no state. NumPy and torch
are all that they need: neither Transformers nor a model.

Shapes: B clips, S samples of the longest, n clips of an update.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from wav2vec2.processing.waveforms import as_waveform, normalised
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
from wav2vec2.training.data.durations import reason_of
from wav2vec2.training.data.global_batches import divide

if TYPE_CHECKING:
    from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor

#: Where no clip could be read, so many samples (one frame) stand in, so that every process takes part in the update.
_EMPTY_SAMPLES = 400


@dataclass(frozen=True)
class Waveforms:
    """What a feature extractor makes of clips, without the extractor, which worker processes cannot import: each clip
    with zero mean and unit variance if `normalize` says so, and `padding` behind the shorter ones."""

    normalize: bool
    padding: float = 0.0

    @classmethod
    def of(cls, extractor: "Wav2Vec2FeatureExtractor") -> "Waveforms":
        """The batches that this feature extractor would make."""
        return cls(extractor.do_normalize, extractor.padding_value)

    def __call__(self, clips: list[LoadedClip]) -> dict[str, torch.Tensor]:
        """`input_values` and `attention_mask` (B, S), and `clip_seeds` (B,). Without clips, one of no real sample."""
        if not clips:
            return {
                "input_values": torch.zeros(1, _EMPTY_SAMPLES),
                "attention_mask": torch.zeros(1, _EMPTY_SAMPLES, dtype=torch.long),
                "clip_seeds": torch.zeros(1, dtype=torch.long),
            }
        shape = len(clips), max(len(clip.samples) for clip in clips)
        values, mask = torch.full(shape, self.padding), torch.zeros(shape, dtype=torch.long)
        for row, clip in enumerate(clips):
            samples = as_waveform(clip.samples, "the audio")
            samples = normalised(samples, "the audio") if self.normalize else samples
            values[row, : len(samples)] = torch.from_numpy(samples)
            mask[row, : len(samples)] = 1
        seeds = torch.tensor([clip.seed for clip in clips])
        return {"input_values": values, "attention_mask": mask, "clip_seeds": seeds}


class Collate(Protocol):
    """Makes a batch of clips; without clips, a batch of the same kind that counts for nothing."""

    def __call__(self, clips: list[LoadedClip]) -> dict[str, Tensor]:
        """Called in a worker process, so it must survive pickling. What it raises is the fault of a clip."""


@dataclass
class Batch:
    """A micro-batch of one process."""

    #: The update it belongs to.
    update: int
    #: Its number among the micro-batches that the process has in this update.
    part: int
    #: How many there are.
    parts: int
    #: The tensors that the model takes.
    inputs: dict[str, Tensor]
    #: The clips in it, which are those that could be read.
    clips: list[ClipFacts]
    #: Their seconds, all together.
    seconds: float
    #: The clips that could not be read.
    skipped: list[Skipped] = field(default_factory=list)
    #: Where a stream stands after the update, as JSON.
    position: dict[str, Any] = field(default_factory=dict)
    #: How often the data has been seen by then.
    epoch: float = 0.0

    @property
    def ids(self) -> list[str]:
        """What reports call the clips."""
        return [clip.id for clip in self.clips]


@dataclass(frozen=True)
class PlannedUpdate:
    """A global batch before anything of it is decoded."""

    #: The number of the update.
    update: int
    #: Seconds (n,) that each clip gives.
    seconds: NDArray[np.float64]
    #: Each clip by its index in the global batch.
    clip: Callable[[int], Clip]
    #: What could not be used when a stream was read.
    skipped: list[Skipped] = field(default_factory=list)
    #: Where a stream stands after the update, as JSON.
    position: dict[str, Any] = field(default_factory=dict)
    #: How often the data has been seen by then.
    epoch: float = 0.0


class UpdatePlan(Protocol):
    """The updates of a run, or of an evaluation, which every worker walks through."""

    def __call__(self) -> Iterator[PlannedUpdate]:
        """The updates, in order."""


@dataclass(frozen=True)
class Loading:
    """How the updates of a plan become micro-batches of one process."""

    #: Makes a batch of clips.
    collate: Collate
    #: How much is read of each clip.
    limits: LengthLimits
    #: The seed of the run, from which those of the clips follow.
    seed: int
    #: How many processes there are.
    processes: int
    #: The number of this one.
    process: int
    #: Seconds, padding included, that it holds at once.
    seconds_per_batch: float
    #: Of a clip that is too long, take the beginning instead of a crop at random.
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
        loading = self.loading
        loaded: list[LoadedClip] = []
        skipped = list(planned.skipped) if part == 0 and loading.process == 0 else []
        for index in group:
            name = f"clip {index} of update {planned.update}"  # of a row that cannot even be read
            try:
                clip = planned.clip(int(index))
                name = clip.id
                seed = clip_seed(loading.seed, planned.update, int(index))
                loaded.append(load_clip(clip, seed, loading.limits, at_random=not loading.evaluation))
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
        """The batch, and the clips in it. A clip that no batch can be made of, by itself, goes to the skipped ones."""
        try:
            return self.loading.collate(clips), clips
        except MemoryError:
            raise
        except Exception:
            usable = []
            for clip in clips:
                try:
                    self.loading.collate([clip])
                    usable.append(clip)
                except Exception as error:
                    skipped.append(Skipped(clip.id, reason_of(error)))
            if len(usable) == len(clips):  # it is the fault of none of them
                raise
            return self.loading.collate(usable), usable
