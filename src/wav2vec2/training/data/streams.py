"""Global batches out of streams: data sets too large to download, read in order, shuffled a pool at a time.

A *pool* is the next `stream_pool` examples, or as many as an update takes, and then as many more as make a whole number
of updates. It is shuffled, cut into batches of clips of like length, and used up before the next is read. The position
of a run in its streams is where they stood when the pool began and how many batches of it were used, so that a resumed
run reads one pool again and nothing else.

Every process, and every worker of each, reads the same streams and decodes only what it has to: batches then do not
depend on how many there are. What is read (not what is decoded) is multiplied by their number, and each holds two pools
of encoded audio in memory, one in use and one being read: lower `workers` or `stream_pool` where the network or memory
is short.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import get_worker_info

from wav2vec2.training.data.audio_clips import Clip, LengthLimits, Skipped, TrainingDataError
from wav2vec2.training.data.clip_tables import ClipTable, Columns, clip_of_row
from wav2vec2.training.data.durations import read_headers
from wav2vec2.training.data.global_batches import even_groups
from wav2vec2.training.data.micro_batches import PlannedUpdate
from wav2vec2.training.data.source_reading import open_dataset
from wav2vec2.training.settings.random_seeds import seed_of

if TYPE_CHECKING:
    from datasets import IterableDataset

    from wav2vec2.training.settings.run_config import Source

#: Where a stream stands, as JSON.
State = dict[str, Any]

#: Examples whose headers are read together.
_AT_ONCE = 32

#: Pools' worth of examples without one that can be used, after which reading on would be in vain.
_POOLS_IN_VAIN = 10


class ExampleStream(Protocol):
    """Examples in a fixed order, which begins again when they end."""

    #: What messages call the stream.
    name: str

    def state(self) -> State:
        """Where the stream stands, as JSON."""

    def load_state(self, state: State) -> None:
        """Go on from where the stream stood."""

    def next_clip(self) -> Clip:
        """The next example; its `seconds` are NaN where only its header knows them."""

    @property
    def epoch(self) -> int:
        """How often the stream has begun again."""


class DatasetStream:
    """A streaming data set of `datasets`, opened when the first example is asked for."""

    def __init__(self, source: "Source", kind: str, label: str, *, with_text: bool) -> None:
        self.name = source.path
        self._source, self._kind, self._label, self._with_text = source, kind, label, with_text
        self._state: State = {"epoch": 0, "number": 0, "stream": None}
        self._opened: tuple[IterableDataset, Columns] | None = None
        self._iterator: Iterator[dict[str, Any]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """All but what is open, which stays with its process."""
        return {**self.__dict__, "_opened": None, "_iterator": None}

    def check(self) -> None:
        """Open the data set, so that what is wrong with it is said before the run begins."""
        if self._kind in ("folder", "manifest"):
            raise TrainingDataError(f"{self.name}: only a data set or parquet can be a stream, not a {self._kind}")
        self._dataset()

    @property
    def epoch(self) -> int:
        """How often the stream has begun again."""
        return int(self._state["epoch"])

    def state(self) -> State:
        """Epoch, number of the next example, and what `datasets` itself remembers."""
        stream = None
        if self._iterator is not None:
            opened = self._dataset()[0]
            stream = opened.state_dict() if hasattr(opened, "state_dict") else None
        elif self._state["stream"] is not None:
            stream = self._state["stream"]
        return {**self._state, "stream": stream}

    def load_state(self, state: State) -> None:
        """Go on from where the stream stood: at once where `datasets` can, else by reading up to there."""
        self._state, self._opened, self._iterator = dict(state), None, None

    def next_clip(self) -> Clip:
        """The next example, with `seconds` if a column says them."""
        for _ in range(2):
            if self._iterator is None:
                self._iterator = self._begin()
            batch = next(self._iterator, None)
            if batch is not None:
                row = {name: values[0] for name, values in batch.items()}
                number = self._state["number"]
                self._state = {**self._state, "number": number + 1}  # copies of this stream share the old one
                columns = self._dataset()[1]
                seconds = row.get(columns.seconds) if columns.seconds else None
                return clip_of_row(row, columns, self._label, number, float("nan") if seconds is None else seconds)
            self._state = {"epoch": self.epoch + 1, "number": 0, "stream": None}
            self._opened = self._iterator = None
        raise TrainingDataError(f"{self.name}: the stream is empty")

    def _begin(self) -> Iterator[dict[str, Any]]:
        """The examples from here on, as batches of one: `datasets` would give each DataLoader worker other shards if it
        were iterated over directly, and ours must all read the same."""
        opened = self._dataset()[0]
        if self._state["stream"] is not None:
            opened.load_state_dict(self._state["stream"])
        elif self._state["number"]:
            opened = opened.skip(self._state["number"])
        return iter(opened.iter(batch_size=1))

    def _dataset(self) -> "tuple[IterableDataset, Columns]":
        if self._opened is None:
            self._opened = open_dataset(self._source, self._kind, with_text=self._with_text)
        return self._opened


class TableStream:
    """A source that is no stream, beside others that are: its clips in an order shuffled by seed and epoch."""

    def __init__(self, name: str, table: ClipTable, usable: NDArray[np.int64], seed: int) -> None:
        self.name, self._table, self._usable, self._seed = name, table, usable, seed
        self._epoch = self._number = 0
        self._order = self._shuffled()

    @property
    def epoch(self) -> int:
        """How often all clips have been given."""
        return self._epoch

    def state(self) -> State:
        """Epoch and number of the next clip."""
        return {"epoch": self._epoch, "number": self._number}

    def load_state(self, state: State) -> None:
        """Go on from where the stream stood."""
        self._epoch, self._number = state["epoch"], state["number"]
        self._order = self._shuffled()

    def next_clip(self) -> Clip:
        """The next clip."""
        if self._number == len(self._order):
            self._epoch, self._number = self._epoch + 1, 0
            self._order = self._shuffled()
        self._number += 1
        return self._table.clip(int(self._order[self._number - 1]))

    def _shuffled(self) -> NDArray[np.int64]:
        seed = seed_of(self._seed, "stream of clips", self.name, self._epoch)
        return np.random.Generator(np.random.PCG64(seed)).permutation(self._usable)


@dataclass(frozen=True)
class Pool:
    """Clips that were read together, shuffled and cut into batches."""

    #: The clips of one update after another.
    batches: list[list[Clip]]
    #: What could not be used.
    skipped: list[Skipped]
    #: How often the streams have been read, on average over the shares of the audio.
    epoch: float
    #: Where each stream stood before the pool was read.
    before: list[State]
    #: Where each stream stood afterwards.
    after: list[State]


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

    The draws are of examples, by a generator seeded with the number of the pool. Copies of an example at other `speeds`
    are in its pool.
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
        speeds: Sequence[float] = (),
    ) -> None:
        self.streams, self.shares, self.limits = list(streams), list(shares), limits
        self.seed, self.seconds_per_update, self.pool_size = seed, seconds_per_update, pool_size
        self.with_text, self.can_be_spelled, self.speeds = with_text, can_be_spelled, (1.0, *speeds)

    def updates(self, start_update: int, position: dict[str, Any]) -> Iterator[PlannedUpdate]:
        """The updates from `start_update` on, for ever. `position` is that of the update before.

        The streams themselves stay at their beginning: each call reads copies of its own.
        """
        mine = copy(self)
        mine.streams = [copy(stream) for stream in self.streams]
        return mine._updates(start_update, position)

    def _updates(self, update: int, position: dict[str, Any]) -> Iterator[PlannedUpdate]:
        number, used = self._go_to(update, position)
        pool = self._read(number)
        while True:
            following = _Ahead(partial(self._read, number + 1))
            for index, clips in enumerate(pool.batches[used:], used):
                here = {"pool": number, "used": index + 1, "streams": pool.before}
                if index + 1 == len(pool.batches):
                    here = {"pool": number + 1, "used": 0, "streams": pool.after}
                seconds = self.limits.counted(np.array([clip.seconds for clip in clips], np.float64))
                skipped = pool.skipped if index == 0 else []
                yield PlannedUpdate(update, seconds, clips.__getitem__, skipped, here, pool.epoch)
                update += 1
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
            # one by one towards the end of the pool, which is decided by seconds
            wanted = max(1, min(_AT_ONCE, self.pool_size - len(clips))) if goal == float("inf") else 1
            drawn = [self._draw(generator) for _ in range(wanted)]
            tried += len(drawn)
            for clip, reason in self._measured(drawn):
                if reason is not None:
                    skipped.append(Skipped(clip.id, reason))
                elif self._usable(clip):
                    clips.append(clip)
                    seconds += min(clip.seconds, self.limits.longest)
            if len(clips) >= self.pool_size and goal == float("inf"):
                goal = max(1, np.ceil(seconds / self.seconds_per_update)) * self.seconds_per_update
            if not clips and tried >= _POOLS_IN_VAIN * self.pool_size:
                raise TrainingDataError(self._in_vain(tried, skipped))
        epoch = float(np.dot(self.shares, [stream.epoch for stream in self.streams]))
        return Pool(
            self._batches(clips, generator), skipped, epoch, before, [stream.state() for stream in self.streams]
        )

    def _draw(self, generator: np.random.Generator) -> Clip:
        """The next example of a stream that is drawn by its share."""
        stream = 0 if len(self.streams) == 1 else int(np.searchsorted(np.cumsum(self.shares), generator.random()))
        return self.streams[min(stream, len(self.streams) - 1)].next_clip()

    def _measured(self, clips: list[Clip]) -> Iterator[tuple[Clip, str | None]]:
        """Clips at each speed with their length from the header of their bytes, or once why it could not be read."""
        unknown = [index for index, clip in enumerate(clips) if np.isnan(clip.seconds)]
        found = dict(read_headers((index, clips[index].audio) for index in unknown))
        for index, clip in enumerate(clips):
            seconds = found.get(index, clip.seconds)
            if isinstance(seconds, str):
                yield clip, seconds
            else:
                yield from ((replace(clip, seconds=seconds).at(speed), None) for speed in self.speeds)

    def _usable(self, clip: Clip) -> bool:
        """Whether a clip is of a length that is used and, with text, has a transcript that can be spelled."""
        if clip.seconds < self.limits.shortest or (self.with_text and not clip.transcript):
            return False
        if self.can_be_spelled is not None and not self.can_be_spelled(clip.transcript or ""):
            return False
        return self.limits.crop or clip.seconds <= self.limits.longest

    def _batches(self, clips: list[Clip], generator: np.random.Generator) -> list[list[Clip]]:
        """Sorted by length, cut into batches of equal seconds, in random order; ties in random order too."""
        lengths = np.minimum([clip.seconds for clip in clips], self.limits.longest)
        order = np.lexsort((generator.permutation(len(clips)), lengths))
        count = max(1, round(float(lengths.sum()) / self.seconds_per_update))
        groups = even_groups(lengths[order], min(count, len(clips)))
        batches: list[list[Clip]] = [[] for _ in range(int(groups[-1]) + 1)]
        for index, group in zip(order, groups, strict=True):
            batches[group].append(clips[index])
        return [batches[index] for index in generator.permutation(len(batches))]

    def _in_vain(self, tried: int, skipped: list[Skipped]) -> str:
        """The message of a run that finds nothing in its streams that it can use."""
        names = ", ".join(stream.name for stream in self.streams)
        limits = f"{self.limits.shortest:g} to {self.limits.longest:g} s"
        if skipped:
            return f"{names}: none of {tried} examples can be used; {len(skipped)} unreadable ({skipped[0].reason})"
        wanted = f"{limits}, with a transcript" if self.with_text else f"at least {self.limits.shortest:g} s"
        return f"{names}: none of {tried} examples can be used ({wanted})"
