"""Pools of streamed clips: read from one stream or several, shuffled, and cut into global batches."""

import threading
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from torch.utils.data import get_worker_info

from wav2vec2.training.data.audio_clips import Clip, LengthLimits, Skipped, TrainingDataError
from wav2vec2.training.data.durations import read_headers
from wav2vec2.training.data.global_batches import even_groups
from wav2vec2.training.data.streams import ExampleStream
from wav2vec2.training.settings.random_seeds import seed_of

#: Examples whose headers are read together.
_AT_ONCE = 32

#: Pools' worth of examples without one that can be used, after which reading on would be in vain.
_POOLS_IN_VAIN = 10


@dataclass(frozen=True)
class StreamedUpdate:
    """The clips of one update, what could not be used when they were read, and where the streams stand after it."""

    clips: list[Clip]
    skipped: list[Skipped]
    position: dict[str, Any]
    epoch: float


@dataclass(frozen=True)
class Pool:
    """Clips that were read together, shuffled and cut into batches; where the streams stood before and after."""

    batches: list[list[Clip]]
    skipped: list[Skipped]
    epoch: float
    before: list[dict[str, Any]]
    after: list[dict[str, Any]]


class _Ahead:
    """A pool that is read while the one before is used; in a worker process only.

    The thread is a daemon: a worker that is told to end does not wait for the network. In the training process, which
    ends by taking the interpreter apart, a thread that goes on reading could crash it.
    """

    def __init__(self, read: Callable[[], Pool]) -> None:
        self._read = read
        self._found: Pool | Exception | None = None
        self._thread: threading.Thread | None = None
        if get_worker_info() is not None:
            self._thread = threading.Thread(target=self._run, name="next pool", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            self._found = self._read()
        except Exception as error:
            self._found = error

    def result(self) -> Pool:
        """The pool, or the error that reading it ended in."""
        if self._thread is None:
            return self._read()
        self._thread.join()
        if isinstance(self._found, Pool):
            return self._found
        raise self._found or RuntimeError("reading ahead ended without a pool")


class StreamedBatches:
    """The global batches of a run over streams, of which each is drawn from by its share of `shares`.

    The draws are of examples, by a generator seeded with the number of the pool.
    """

    def __init__(
        self,
        streams: Sequence[ExampleStream],
        shares: Sequence[float],
        limits: LengthLimits,
        *,
        seed: int,
        seconds_per_update: float,
        pool_size: int,
        with_text: bool,
        can_be_spelled: Callable[[str], bool] | None = None,
    ) -> None:
        self.streams, self.shares, self.limits = list(streams), list(shares), limits
        self.seed, self.seconds_per_update, self.pool_size = seed, seconds_per_update, pool_size
        self.with_text, self.can_be_spelled = with_text, can_be_spelled

    def updates(self, start_update: int, position: dict[str, Any]) -> Iterator[StreamedUpdate]:
        """The updates from `start_update` on, for ever. `position` is that of the update before.

        The streams themselves stay at their beginning: each call reads copies of its own.
        """
        mine = copy(self)
        mine.streams = [copy(stream) for stream in self.streams]
        return mine._updates(start_update, position)

    def _updates(self, start_update: int, position: dict[str, Any]) -> Iterator[StreamedUpdate]:
        number, used = self._go_to(start_update, position)
        pool = self._read(number)
        while True:
            following = _Ahead(partial(self._read, number + 1))
            for index, clips in enumerate(pool.batches[used:], used):
                here = {"pool": number, "used": index + 1, "streams": pool.before}
                if index + 1 == len(pool.batches):
                    here = {"pool": number + 1, "used": 0, "streams": pool.after}
                yield StreamedUpdate(clips, pool.skipped if index == 0 else [], here, pool.epoch)
            pool, number, used = following.result(), number + 1, 0

    def _go_to(self, start_update: int, position: dict[str, Any]) -> tuple[int, int]:
        """Set the streams to `position`, and return the pool and how much of it was used."""
        if not position:
            if start_update:
                raise TrainingDataError(
                    f"update {start_update} of a stream cannot be found without its position: resume from a checkpoint"
                )
            return 0, 0
        states = position["streams"]
        if len(states) != len(self.streams):
            raise TrainingDataError(
                f"the checkpoint knows the position of {len(states)} streams, the run has {len(self.streams)}: resume "
                "with the sources it began with"
            )
        for stream, state in zip(self.streams, states, strict=True):
            stream.load_state(state)
        return position["pool"], position["used"]

    def _read(self, number: int) -> Pool:
        """Read a pool: enough examples, then enough seconds for a whole number of updates."""
        generator = np.random.Generator(np.random.PCG64(seed_of(self.seed, "pool", number)))
        before = [stream.state() for stream in self.streams]
        clips: list[Clip] = []
        skipped: list[Skipped] = []
        seconds, goal, tried = 0.0, float("inf"), 0
        while seconds < goal:
            drawn = [self._draw(generator) for _ in range(self._wanted(len(clips), goal))]
            tried += len(drawn)
            for clip, reason in self._measured(drawn):
                if reason is not None:
                    skipped.append(Skipped(clip.id, reason))
                elif self._usable(clip):
                    clips.append(clip)
                    seconds += self._counted(clip)
            if len(clips) >= self.pool_size and goal == float("inf"):
                goal = max(1, np.ceil(seconds / self.seconds_per_update)) * self.seconds_per_update
            if not clips and tried >= _POOLS_IN_VAIN * self.pool_size:
                raise TrainingDataError(self._in_vain(tried, skipped))
        epoch = float(np.dot(self.shares, [stream.epoch for stream in self.streams]))
        return Pool(
            self._batches(clips, generator), skipped, epoch, before, [stream.state() for stream in self.streams]
        )

    def _wanted(self, have: int, goal: float) -> int:
        """How many examples to read now: one by one towards the end of the pool, which is decided by seconds."""
        if goal == float("inf"):
            return max(1, min(_AT_ONCE, self.pool_size - have))
        return 1

    def _draw(self, generator: np.random.Generator) -> Clip:
        stream = 0 if len(self.streams) == 1 else int(np.searchsorted(np.cumsum(self.shares), generator.random()))
        return self.streams[min(stream, len(self.streams) - 1)].next_clip()

    def _measured(self, clips: list[Clip]) -> Iterator[tuple[Clip, str | None]]:
        """Clips with their length from the header of their bytes, or why it could not be read."""
        unknown = [index for index, clip in enumerate(clips) if np.isnan(clip.seconds)]
        found = dict(read_headers((index, clips[index].audio) for index in unknown))
        for index, clip in enumerate(clips):
            seconds = found.get(index, clip.seconds)
            if isinstance(seconds, str):
                yield clip, seconds
            else:
                yield Clip(clip.id, clip.audio, seconds, clip.start, clip.speaker, clip.transcript), None

    def _usable(self, clip: Clip) -> bool:
        if clip.seconds < self.limits.shortest or (self.with_text and not clip.transcript):
            return False
        if self.can_be_spelled is not None and not self.can_be_spelled(clip.transcript or ""):
            return False
        return self.limits.crop or clip.seconds <= self.limits.longest

    def _counted(self, clip: Clip) -> float:
        return min(clip.seconds, self.limits.longest)

    def _batches(self, clips: list[Clip], generator: np.random.Generator) -> list[list[Clip]]:
        """Sorted by length, cut into batches of equal seconds, in random order; ties in random order too."""
        lengths = np.array([self._counted(clip) for clip in clips])
        order = np.lexsort((generator.permutation(len(clips)), lengths))
        count = max(1, round(float(lengths.sum()) / self.seconds_per_update))
        groups = even_groups(lengths[order], min(count, len(clips)))
        batches: list[list[Clip]] = [[] for _ in range(int(groups[-1]) + 1)]
        for index, group in zip(order, groups, strict=True):
            batches[group].append(clips[index])
        return [batches[index] for index in generator.permutation(len(batches))]

    def _in_vain(self, tried: int, skipped: list[Skipped]) -> str:
        names = ", ".join(stream.name for stream in self.streams)
        limits = f"{self.limits.shortest:g} to {self.limits.longest:g} s"
        if skipped:
            return f"{names}: none of {tried} examples can be used; {len(skipped)} unreadable ({skipped[0].reason})"
        wanted = f"{limits}, with a transcript" if self.with_text else f"at least {self.limits.shortest:g} s"
        return f"{names}: none of {tried} examples can be used ({wanted})"
