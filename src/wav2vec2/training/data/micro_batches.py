"""Micro-batches, made by worker processes ahead of time, in an order and of a content that no worker changes.

Every worker walks through the same plan of updates and makes each W-th micro-batch of its process; the DataLoader takes
from the W workers in turn. What is random about a clip follows from its seed, so workers hold no state. NumPy and torch
are all that they need: neither Transformers nor a model.

What goes from a worker to the training process is samples, and a few numbers of each clip: which samples are real is
said by lengths, of which the device makes the mask.

Shapes: B clips and rows without one, S samples of a row, n clips of an update.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
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
    kept_clip,
    load_clip,
)
from wav2vec2.training.data.division import (
    AS_THE_CLIPS,
    Division,
    LengthGrid,
    Shape,
    divide,
    divide_by_lane,
    processes_of,
)
from wav2vec2.training.data.durations import reason_of
from wav2vec2.training.data.kept_clips import KeptClips

if TYPE_CHECKING:
    from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor

#: Where no clip could be read, so many samples (one frame) stand in, so that every process takes part in the update.
_EMPTY_SAMPLES = 400

#: Tensors of a batch that `numbers_of` makes.
_NUMBERS = {"sample_lengths", "clip_seeds"}


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

    def __call__(self, clips: list[LoadedClip], shape: Shape = AS_THE_CLIPS) -> dict[str, Tensor]:
        """`input_values` (B, S), of at least this shape, `sample_lengths` and `clip_seeds` (B,). Without clips, one row
        of no real sample."""
        facts = [clip.facts for clip in clips]
        values = torch.empty(filled(shape, facts))
        for row, clip in zip(values.numpy(), clips, strict=False):
            row[: len(clip.samples)] = self.heard(clip)
            row[len(clip.samples) :] = self.padding
        values[len(clips) :] = self.padding
        return {"input_values": values} | numbers_of(facts, len(values))

    def heard(self, clip: LoadedClip) -> NDArray[np.float32]:
        """One clip as a model hears it."""
        waveform = as_waveform(clip.samples, "the audio")
        return normalised(waveform, "the audio") if self.normalize else waveform


@dataclass(frozen=True)
class ClipByClip:
    """As `waveforms`, but `input_values` (N,) are one clip behind the other, without padding, and of clips that are
    kept there is nothing in it. The training process makes a batch of what is kept and what is new."""

    waveforms: Waveforms

    def __call__(self, clips: list[LoadedClip], shape: Shape = AS_THE_CLIPS) -> dict[str, Tensor]:
        """What was read of these clips, and the numbers of all of them for a batch of this shape."""
        facts = [clip.facts for clip in clips]
        read = [torch.from_numpy(np.array(self.waveforms.heard(clip))) for clip in clips if not clip.kept]
        return {"input_values": torch.cat([torch.empty(0), *read])} | numbers_of(facts, filled(shape, facts).rows)


def filled(shape: Shape, clips: Sequence[ClipFacts]) -> Shape:
    """What a batch of these clips is padded to, of which `shape` is the least: without clips, a row of one frame."""
    if not clips:
        return Shape(1, _EMPTY_SAMPLES)
    return Shape(max(len(clips), shape.rows), max([shape.samples, *(clip.length for clip in clips)]))


def numbers_of(clips: Sequence[ClipFacts], rows: int) -> dict[str, Tensor]:
    """`sample_lengths` and `clip_seeds` (B,) of the clips in the first rows of a batch; 0 for rows without one."""
    found = torch.zeros(2, rows, dtype=torch.long)
    found[:, : len(clips)] = torch.tensor([[clip.length for clip in clips], [clip.seed for clip in clips]])
    return {"sample_lengths": found[0], "clip_seeds": found[1]}


class Collate(Protocol):
    """Makes a batch of clips; without clips, a batch of the same kind that counts for nothing."""

    def __call__(self, clips: list[LoadedClip], shape: Shape = AS_THE_CLIPS) -> dict[str, Tensor]:
        """Called in a worker process, so it must survive pickling. What it raises is the fault of a clip.

        `shape` is what the batch may be padded to.
        """


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
    #: What the clips are padded to.
    shape: Shape = AS_THE_CLIPS
    #: The samples of each clip that went through the convolutions by itself; None where the model has them all before
    #: it, as one batch.
    convolved: list[int] | None = None

    @property
    def ids(self) -> list[str]:
        """What reports call the clips."""
        return [clip.id for clip in self.clips]

    def __getstate__(self) -> dict[str, Any]:
        """What a worker hands over: not the tensors that follow from the clips. Each would cost more to send than the
        numbers in it."""
        follows = _NUMBERS & self.inputs.keys() if "input_values" in self.inputs else set()
        sent = {name: tensor for name, tensor in self.inputs.items() if name not in follows}
        return self.__dict__ | {"inputs": sent, "follows": follows}

    def __setstate__(self, state: dict[str, Any]) -> None:
        follows = state.pop("follows")
        self.__dict__.update(state)
        if follows:
            numbers = numbers_of(self.clips, self.shape.rows)
            self.inputs |= {name: numbers[name] for name in follows}

    def pin_memory(self) -> "Batch":
        """With its tensors where a GPU can read them while something else is done."""
        return replace(self, inputs={name: tensor.pin_memory() for name, tensor in self.inputs.items()})


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
    #: The lane (n,) that each clip is read from, where a process keeps to its lanes.
    lanes: NDArray[np.int64] | None = None
    #: Told of the clips of a micro-batch, by their indices, before each is asked for: they can be read at once.
    fetch: Callable[[NDArray[np.int64]], None] | None = None


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
    #: The lengths that micro-batches have; None where they are as long as their longest clip.
    grid: LengthGrid | None = None
    #: Of a clip that is too long, take the beginning instead of a crop at random.
    evaluation: bool = False
    #: Which clips need not be read, if anything of clips is kept.
    kept: KeptClips | None = None


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
            division = self._divided(planned)
            for part in range(division.parts):
                if number % workers == mine:
                    yield self._batch(planned, part, division)
                number += 1

    def _divided(self, planned: PlannedUpdate) -> Division:
        """Which clips of an update each process takes at each of its parts."""
        loading = self.loading
        how = loading.processes, loading.seconds_per_batch, loading.grid
        if planned.lanes is not None and processes_of(planned.lanes, loading.processes) == loading.processes:
            return divide_by_lane(planned.seconds, planned.lanes, *how)
        return divide(planned.seconds, *how)

    def _batch(self, planned: PlannedUpdate, part: int, division: Division) -> Batch:
        """Decode the clips of one part. Those that cannot be are reported, the others are as they would be anyway."""
        loading = self.loading
        loaded: list[LoadedClip] = []
        skipped = list(planned.skipped) if part == 0 and loading.process == 0 else []
        indices = division.groups[loading.process][part]
        if planned.fetch is not None:
            planned.fetch(indices)
        for index in indices:
            name = f"clip {index} of update {planned.update}"  # of a row that cannot even be read
            try:
                clip = planned.clip(int(index))
                name = clip.id
                seed = clip_seed(loading.seed, planned.update, int(index))
                samples = 0 if loading.kept is None else loading.kept.samples(clip.number)
                if samples:
                    loaded.append(kept_clip(clip, seed, samples))
                else:
                    loaded.append(load_clip(clip, seed, loading.limits, at_random=not loading.evaluation))
            except MemoryError:
                raise
            except Exception as error:
                skipped.append(Skipped(name, reason_of(error)))
        shape = self._fitted(division.shapes[loading.process][part], loaded)
        inputs, loaded = self._collated(loaded, skipped, shape)
        facts = [one.facts for one in loaded]
        return Batch(
            planned.update,
            part,
            division.parts,
            inputs,
            facts,
            sum(one.length for one in facts) / SAMPLING_RATE,
            skipped,
            planned.position,
            planned.epoch,
            filled(shape, facts),
        )

    def _collated(
        self, clips: list[LoadedClip], skipped: list[Skipped], shape: Shape
    ) -> tuple[dict[str, Tensor], list[LoadedClip]]:
        """The batch, and the clips in it. A clip that no batch can be made of, by itself, goes to the skipped ones."""
        try:
            return self.loading.collate(clips, shape), clips
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
            return self.loading.collate(usable, shape), usable

    def _fitted(self, shape: Shape, clips: list[LoadedClip]) -> Shape:
        """A shape for clips that may be longer than their headers said: then the next steps of the grid."""
        longest = max((clip.facts.length for clip in clips), default=0)
        if self.loading.grid is None or not shape.samples or longest <= shape.samples:
            return shape
        return shape._replace(samples=int(self.loading.grid.samples(np.array([longest]))[0]))
