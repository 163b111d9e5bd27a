"""Global batches out of shards: every process knows which clips an update has, and reads those of its own lanes alone.

A run has a fixed number of *lanes*; lane l owns the shards l, l + L, ... Their clips are in an order that is shuffled
anew in each epoch: the shards of a lane, the fragments of a shard, the clips of a fragment. Each group (a corpus in a
language, where these have shares of their own) goes through its clips in all lanes at once, evenly: when its progress
is x epochs, so is that of each of its lanes, to a clip. So a clip is used once in an epoch, no lane runs out before the
others, and where a run stands is one number for each group.

A clip comes also at other speeds, if the run says so: copies are clips of the same fragment, so that what is read is
read once for all of them.

A *window* is the clips of `bucket_updates` updates. Those of like length become an update, and each update takes as
much from each part of the lanes, so that processes that keep to their lanes have about as much to do.

Shapes: n clips, p pieces, G groups, L lanes, q pairs of a group and a lane.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wav2vec2.training.data.audio_clips import Clip, TrainingDataError
from wav2vec2.training.data.global_batches import even_groups
from wav2vec2.training.data.lane_pieces import Pieces, Usable
from wav2vec2.training.data.lane_shares import LaneGroup
from wav2vec2.training.data.micro_batches import PlannedUpdate
from wav2vec2.training.data.shard_table import ShardTable
from wav2vec2.training.settings.random_seeds import seed_of

_Numbers = NDArray[np.int64]

#: Multiples of it, without their whole part, are spread evenly, and so is each k-th of them.
_GOLDEN = (5**0.5 - 1) / 2

#: A part of the lanes has at least so many clips for each update of a window.
_CLIPS_OF_A_PART = 2

#: Windows without one clip that can be spelled, after which going on would be in vain.
_WINDOWS_IN_VAIN = 10


@dataclass(frozen=True)
class LanedUpdates:
    """The plan of a run over lanes, from update `start` on, which begins at `position`."""

    batches: "LanedBatches"
    start: int
    position: dict[str, Any]

    def __call__(self) -> Iterator[PlannedUpdate]:
        """Every update, for ever."""
        return self.batches.updates(self.start, self.position)


class LanedBatches:
    """The global batches of a run over the shards of `tables`, of whose groups each has its share in `shares`."""

    def __init__(
        self,
        tables: Sequence[ShardTable],
        pieces: Pieces,
        shares: Mapping[LaneGroup, float],
        usable: Usable,
        *,
        lanes: int,
        seed: int,
        seconds_per_update: float,
        bucket_updates: int,
        can_be_spelled: Callable[[str], bool] | None = None,
    ) -> None:
        self.tables, self.usable, self.seed, self.lanes = list(tables), usable, seed, lanes
        self.can_be_spelled, self._speeds = can_be_spelled, np.array(usable.speeds)
        #: The first clip of each source among the n of the run. Clip i at speed j has the number j n + i.
        self.first = np.cumsum([0, *(len(table) for table in tables)])
        self.shares = np.array([shares[group] for group in pieces.groups])
        total = float(pieces.seconds.sum())
        self.per_window = max(1, min(bucket_updates, int(total / seconds_per_update)))
        amount = self.per_window * seconds_per_update
        #: What each group (G,) advances in a window, in epochs of its own.
        self.rates = self.shares * amount / np.maximum(pieces.seconds_of_groups, 1e-9)
        # position of groups by names, so that it stays what it is when a group joins
        self._names = [f"{group.source} {group.corpus} {group.language}" for group in pieces.groups]
        clips_of_a_window = amount * pieces.clips.sum() / total
        self.parts = _parts_of(lanes, int(clips_of_a_window / self.per_window / _CLIPS_OF_A_PART))
        self._pair_up(pieces)
        self._cached()

    def _pair_up(self, pieces: Pieces) -> None:
        """Sort the pieces by group and lane."""
        lane = pieces.shard % self.lanes
        order = np.lexsort((pieces.shard, lane, pieces.group))
        self._begin, self._end, self._source = pieces.begin[order], pieces.end[order], pieces.source[order]
        self._count = pieces.clips[order]
        pair = pieces.group[order] * self.lanes + lane[order]
        names, starts = np.unique(pair, return_index=True)
        self._starts = np.append(starts, len(order))
        self._lane = names % self.lanes
        self._clips = np.add.reduceat(self._count, starts)
        self._groups = np.searchsorted(names // self.lanes, np.arange(len(self._names) + 1))
        # where in its first step a lane takes its first clip: spread evenly over the lanes of a group
        self._phase = (np.arange(len(names)) * _GOLDEN + _generator(self.seed, "phase", 0).random()) % 1

    def _cached(self) -> None:
        self._order = lru_cache(maxsize=4096)(self._order_of)
        self._shuffled = lru_cache(maxsize=1024)(self._shuffle)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_order", "_shuffled")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._cached()

    @property
    def open_at_once(self) -> int:
        """How many pairs of a group and a lane have a fragment in use."""
        return len(self._clips)

    def plan(self, start: int, position: dict[str, Any]) -> LanedUpdates:
        """The plan of a run from update `start` on."""
        return LanedUpdates(self, start, position)

    def updates(self, update: int, position: dict[str, Any]) -> Iterator[PlannedUpdate]:
        """The updates from this one on, for ever. `position` is that of the update before."""
        if update and not position:
            raise TrainingDataError(
                f"update {update} over lanes cannot be found without its position: resume from a checkpoint"
            )
        number, used, progress, rates = self._stands(position)
        in_vain = 0
        while True:
            batches = self._window(number, progress, rates)
            here = {"window": number, **self._told(progress, rates)}
            after = {"window": number + 1, "used": 0, **self._told(progress + rates, self.rates)}
            for index, (clips, seconds, lanes) in enumerate(batches[used:], used):
                done = (index + 1) / len(batches)
                last = index + 1 == len(batches)
                yield PlannedUpdate(
                    update,
                    seconds,
                    partial(self._clip, clips),
                    position=after if last else here | {"used": index + 1},
                    epoch=float(np.dot(self.shares, progress + done * rates)),
                    lanes=lanes,
                    fetch=partial(self._fetch, clips),
                )
                update += 1
            in_vain = 0 if batches else in_vain + 1
            if in_vain == _WINDOWS_IN_VAIN:
                raise TrainingDataError("data.train: not one clip of many has a transcript that can be spelled")
            number, used, progress, rates = number + 1, 0, progress + rates, self.rates

    def changed_shares(self, update: int, position: dict[str, Any]) -> str | None:
        """From which update on new shares count, of a run that goes on at `update`; None if they are what they were."""
        number, used, progress, rates = self._stands(position)
        if not position or np.allclose(self._numbers(position["shares"]), self.shares, rtol=1e-9):
            return None
        left = len(self._window(number, progress, rates)) - used if used else 0
        return f"other shares of corpora and languages than before count from update {update + left + 1:,} on"

    def _stands(self, position: dict[str, Any]) -> tuple[int, int, NDArray[np.float64], NDArray[np.float64]]:
        """Number of the window, how many of its updates are done, the progress of the groups before it, and what they
        advance in it: a window that has begun ends with the shares that it began with."""
        if not position:
            return 0, 0, np.zeros(len(self.rates)), self.rates
        if position.get("lanes") != self.lanes:
            raise TrainingDataError(
                f"data.lanes={self.lanes}: the run began with {position.get('lanes', 'other sources, not with lanes')}"
            )
        rates = self._numbers(position["rates"]) if position["used"] else self.rates
        return position["window"], position["used"], self._numbers(position["progress"]), rates

    def _told(self, progress: NDArray[np.float64], rates: NDArray[np.float64]) -> dict[str, Any]:
        by_name = {"progress": progress, "rates": rates, "shares": self.shares}
        return {"lanes": self.lanes} | {name: self._by_name(numbers) for name, numbers in by_name.items()}

    def _by_name(self, numbers: NDArray[np.float64]) -> dict[str, float]:
        return dict(zip(self._names, numbers.tolist(), strict=True))

    def _numbers(self, by_name: Mapping[str, float]) -> NDArray[np.float64]:
        return np.array([by_name.get(name, 0.0) for name in self._names])

    def _window(
        self, number: int, progress: NDArray[np.float64], rates: NDArray[np.float64]
    ) -> list[tuple[_Numbers, NDArray[np.float64], _Numbers]]:
        """The clips, their seconds and their lanes of each update of a window."""
        taken = [
            piece
            for group in np.flatnonzero(rates).tolist()
            for piece in self._taken(group, float(progress[group]), float(progress[group] + rates[group]))
        ]
        if not taken:
            return []
        clips, seconds, lanes = (np.concatenate(column) for column in zip(*taken, strict=True))
        if self.can_be_spelled is not None:
            spelled = np.array([self.can_be_spelled(self._transcript(clip) or "") for clip in clips.tolist()], bool)
            clips, seconds, lanes = clips[spelled], seconds[spelled], lanes[spelled]
        seconds = self.usable.limits.counted(seconds)
        generator = _generator(self.seed, "window", number)
        updates = self._updates_of(seconds, lanes % self.parts, generator)
        return [(clips[one], seconds[one], lanes[one]) for one in updates]

    def _taken(self, group: int, begin: float, end: float) -> Iterator[tuple[_Numbers, NDArray[np.float64], _Numbers]]:
        """The clips of a group between two points of its progress, their seconds and lanes."""
        pairs = slice(*self._groups[group : group + 2].tolist())
        for epoch in range(int(begin), int(np.ceil(end))):
            low, high = self._before(pairs, begin - epoch), self._before(pairs, end - epoch)
            for own in np.flatnonzero(high > low).tolist():
                pair = pairs.start + own
                for clips, seconds in self._of_pair(pair, epoch, int(low[own]), int(high[own])):
                    yield clips, seconds, np.full(len(clips), self._lane[pair])

    def _before(self, pairs: slice, progress: float) -> _Numbers:
        """How many clips each pair has given at this progress in an epoch."""
        clips = self._clips[pairs]
        return np.clip(np.ceil(min(1.0, progress) * clips - self._phase[pairs]), 0, clips).astype(np.int64)

    def _of_pair(self, pair: int, epoch: int, begin: int, end: int) -> Iterator[tuple[_Numbers, NDArray[np.float64]]]:
        """The clips of a pair from number `begin` up to `end` in the order of an epoch, and their seconds."""
        order, ends = self._order(pair, epoch)
        for number in range(int(np.searchsorted(ends, begin, side="right")), len(order)):
            start = int(ends[number]) - int(self._count[order[number]])
            if start >= end:
                return
            piece = int(order[number])
            inside = self._shuffled(piece, epoch)[max(0, begin - start) : end - start]
            first, source = int(self._begin[piece]), int(self._source[piece])
            seconds = self.tables[source].index.seconds(first, int(self._end[piece]))
            copy, own = np.divmod(inside.astype(np.int64), len(seconds))
            yield own + (copy * self.first[-1] + self.first[source] + first), seconds[own] / self._speeds[copy]

    def _order_of(self, pair: int, epoch: int) -> tuple[_Numbers, _Numbers]:
        """The pieces of a pair in the order of an epoch, and how many clips there are up to the end of each."""
        pieces = np.arange(self._starts[pair], self._starts[pair + 1])
        order = _generator(self.seed, f"lane {pair}", epoch).permutation(pieces)
        return order, np.cumsum(self._count[order])

    def _shuffle(self, piece: int, epoch: int) -> NDArray[np.int32]:
        """The usable clips of a piece, as `Usable.within` counts them: its fragments in random order, and the clips
        within each."""
        begin, end = int(self._begin[piece]), int(self._end[piece])
        table = self.tables[self._source[piece]]
        rows = self.usable.within(table, begin, end)
        generator = _generator(self.seed, f"piece {piece}", epoch)
        rows = generator.permutation(rows)
        fragments = table.index.column("fragment", begin, end).to_numpy()[rows % (end - begin)]
        names, own = np.unique(fragments, return_inverse=True)
        return rows[np.argsort(generator.permutation(len(names))[own], kind="stable")].astype(np.int32)

    def _updates_of(
        self, seconds: NDArray[np.float64], part: _Numbers, generator: np.random.Generator
    ) -> list[_Numbers]:
        """Clips in as many groups as a window has updates, in random order: of like length, of about as many seconds,
        and with about as much of each part of the lanes."""
        count = min(self.per_window, len(seconds))
        if not count:
            return []
        order = np.lexsort((generator.permutation(len(seconds)), seconds, part))
        lengths, parts = seconds[order], part[order]
        ends = np.cumsum(lengths)
        starts = np.searchsorted(parts, np.arange(self.parts + 1))
        before = np.append(0.0, ends)[starts]
        totals = np.maximum(np.diff(before), 1e-9)
        phase = (np.arange(self.parts) * _GOLDEN + generator.random()) % 1
        place = (ends - before[parts] - lengths * phase[parts]) / totals[parts]
        update = np.clip((place * count).astype(np.int64), 0, count - 1)
        if len(np.unique(update)) < count:
            order = np.lexsort((order, seconds))
            update = even_groups(seconds[order], count)
        return [order[update == one] for one in generator.permutation(count)]

    def _table(self, clip: int) -> tuple[ShardTable, int]:
        own = clip % int(self.first[-1])
        source = int(np.searchsorted(self.first, own, side="right")) - 1
        return self.tables[source], own - int(self.first[source])

    def _transcript(self, clip: int) -> str | None:
        table, own = self._table(clip)
        return table.transcript(own)

    def _clip(self, clips: _Numbers, index: int) -> Clip:
        number = int(clips[index])
        table, own = self._table(number)
        return replace(table.clip(own).at(self.usable.speeds[number // int(self.first[-1])]), number=number)

    def _fetch(self, clips: _Numbers, indices: _Numbers) -> None:
        """Have what a micro-batch is read with in the cache."""
        for number, table in enumerate(self.tables):
            own = clips[indices] % self.first[-1] - self.first[number]
            table.reader.fetch(own[(own >= 0) & (own < len(table))].tolist())


def _parts_of(lanes: int, most: int) -> int:
    """The largest divisor of the number of lanes up to `most`: a process then has whole parts."""
    return max([divisor for divisor in range(1, min(lanes, most) + 1) if lanes % divisor == 0], default=1)


def _generator(seed: int, purpose: str, number: int) -> np.random.Generator:
    """Random numbers for one purpose: the same on every platform."""
    return np.random.Generator(np.random.PCG64(seed_of(seed, "lanes", purpose, number)))
