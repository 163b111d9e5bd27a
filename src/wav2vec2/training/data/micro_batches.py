"""Micro-batches, made by worker processes ahead of time, in an order and of a content that no worker changes.

Every worker walks through the same plan of updates and makes each W-th micro-batch of its process; the DataLoader takes
from the W workers in turn. What is random about a clip follows from its seed, so workers hold no state.
"""

import atexit
import multiprocessing
import signal
import sys
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from wav2vec2.training.data.audio_clips import (
    SAMPLING_RATE,
    Clip,
    LengthLimits,
    LoadedClip,
    Skipped,
    clip_seed,
    load_clip,
)
from wav2vec2.training.data.batch_parts import divide
from wav2vec2.training.data.durations import reason_of

#: Micro-batches that each worker makes ahead.
_AHEAD = 4

#: Seconds that a worker lives on after SIGTERM: the batch system sends it to all processes at once, and the training
#: process still has an update to finish. It ends its workers itself, long before.
_LAST_SECONDS = 30


class Collate(Protocol):
    """Clips -> the inputs of a model. Without clips, an input of the same kind that counts for nothing."""

    def __call__(self, clips: list[LoadedClip]) -> dict[str, Tensor]:
        """Called in a worker process, so it must survive pickling."""


@dataclass
class Batch:
    """Micro-batch `part` of `parts` of one process, in `update`.

    `ids` and `seconds` are of the clips that could be read, `skipped` of the others. `position` (JSON) is where a
    stream stands after the update, `epoch` how often the data has been seen by then.
    """

    update: int
    part: int
    parts: int
    inputs: dict[str, Tensor]
    ids: list[str]
    seconds: float
    skipped: list[Skipped] = field(default_factory=list)
    position: dict[str, Any] = field(default_factory=dict)
    epoch: float = 0.0


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
        return Batch(
            planned.update,
            part,
            parts,
            self.loading.collate(loaded),
            [one.id for one in loaded],
            sum(len(one.samples) for one in loaded) / SAMPLING_RATE,
            skipped,
            planned.position,
            planned.epoch,
        )

    def _load(self, clip: Clip, update: int, index: int) -> LoadedClip:
        seed = clip_seed(self.loading.seed, update, index)
        return load_clip(clip, seed, self.loading.limits, at_random=not self.loading.evaluation)


def loaded(dataset: MicroBatches, workers: int) -> Generator[Batch, None, None]:
    """The micro-batches of `dataset`, made by `workers` processes, or here if there are none.

    Workers come from a fork server (a small process that has imported this module and started no thread), not from a
    fork of the training process: threads of torch, tokenizers and the accelerator's driver do not survive a fork, and
    what they held locked stays locked. Closing the iterator ends the workers.
    """
    if not workers:
        yield from dataset
        return
    with warnings.catch_warnings():
        # several processes may share a machine with few processors; how many workers there are is the recipe's choice
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        loader = DataLoader(
            dataset,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=_AHEAD,
            collate_fn=_as_it_is,
            worker_init_fn=_begin_worker,
            multiprocessing_context=_context(),
            generator=torch.Generator(),  # or a seed for the workers would be drawn from the training's own numbers
        )
        iterator = iter(loader)
    close = _Closing(iterator)
    atexit.register(close)
    try:
        yield from iterator
    finally:
        close()
        atexit.unregister(close)


class _Closing:
    """Ends the workers of an iterator, at the latest when the interpreter ends."""

    def __init__(self, iterator: Any) -> None:
        self._iterator = iterator

    def __call__(self) -> None:
        """Ask them to end, and end those that are busy."""
        self._iterator._shutdown_workers()
        for worker in self._iterator._workers:
            if worker.is_alive():
                worker.kill()
            worker.join()


def _context() -> Any:
    """The fork server where there is one (POSIX), else new processes."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # what a worker needs to read its pickled task is imported once, in the server, instead of in every worker
    needed = [name for name in sorted(sys.modules) if name == "datasets" or name.startswith("wav2vec2.")]
    context.set_forkserver_preload(["__main__", *needed])
    return context


def _as_it_is(batch: Any) -> Any:
    """Instead of the DataLoader's own conversion."""
    return batch


def _begin_worker(number: int) -> None:
    """One thread each, and signals left to the training process, which finishes its update before it goes."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_LAST_SECONDS))
