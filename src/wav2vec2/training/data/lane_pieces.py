"""Which clips of an index are used, as pieces: the clips of one shard that are drawn by the same share.

This looks at every length once, in the mapped file, and keeps a few numbers of each piece. A clip is used at each of
the speeds of a run; what is said here of clips is said of each of these copies.

Shapes: n clips of a batch of the index, v speeds, p pieces, G groups.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import pyarrow.compute as compute
from numpy.typing import NDArray

from wav2vec2.training.data.audio_clips import LengthLimits
from wav2vec2.training.data.lane_shares import LaneGroup
from wav2vec2.training.data.shard_table import ShardTable

_Bools = NDArray[np.bool_]
_Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Usable:
    """Which clips are used: those within `limits` at one of the `speeds` and, `with_text`, that have a transcript."""

    limits: LengthLimits
    with_text: bool
    speeds: tuple[float, ...] = (1.0,)

    def columns(self, table: ShardTable) -> list[str]:
        """The columns of its index that say so."""
        return ["seconds", table.text] if self.with_text else ["seconds"]

    def reasons(self, seconds: NDArray[np.float64], transcripts: object = None) -> dict[str, _Bools]:
        """Why clips (n,) are left out."""
        limits, known = self.limits, ~np.isnan(seconds)
        short = known & (seconds < limits.shortest)
        long = known & (seconds > limits.longest) & (not limits.crop)
        found = {
            "unreadable": ~known,
            f"shorter than {limits.shortest:g} s": short,
            f"longer than {limits.longest:g} s": long,
        }
        if self.with_text:
            empty = compute.fill_null(compute.equal(compute.binary_length(transcripts), 0), True)
            found["without a transcript"] = known & ~short & ~long & empty.to_numpy(zero_copy_only=False)
        return found

    def within(self, table: ShardTable, begin: int, end: int) -> _Numbers:
        """The clips from `begin` up to `end` that are used: clip i of n at speed j has the number j n + i."""
        lengths, *texts = (table.index.column(name, begin, end) for name in self.columns(table))
        seconds = lengths.to_numpy()
        used = [~_any(self.reasons(seconds / speed, *texts)) for speed in self.speeds]
        return np.flatnonzero(np.concatenate(used)).astype(np.int64)


def _any(reasons: dict[str, _Bools]) -> _Bools:
    found: _Bools = np.any(list(reasons.values()), axis=0)
    return found


class _Uses:
    """How often the clips of a batch are used (n,), the seconds of that (n,), the longest, and what is left out."""

    def __init__(self, usable: Usable, lengths: NDArray[np.float64], texts: Sequence[object]) -> None:
        self.count, self.seconds = np.zeros(len(lengths), np.int64), np.zeros(len(lengths))
        self.longest, self.left_out = 0.0, Counter[str]()
        for speed in usable.speeds:
            reasons = usable.reasons(lengths / speed, *texts)
            used = ~_any(reasons)
            counted = np.where(used, usable.limits.counted(lengths / speed), 0.0)
            self.count += used
            self.seconds += counted
            self.longest = max(self.longest, float(counted.max(initial=0.0)))
            self.left_out += Counter({reason: int(which.sum()) for reason, which in reasons.items() if which.any()})


@dataclass(frozen=True)
class Pieces:
    """The clips of a run, as pieces."""

    #: What is drawn by a share of its own.
    groups: list[LaneGroup]
    #: Of each piece (p,) the number of its group,
    group: _Numbers
    #: of its source,
    source: _Numbers
    #: of its shard, through all sources,
    shard: _Numbers
    #: its clips in the index of the source,
    begin: _Numbers
    end: _Numbers
    #: how many of them are used, and
    clips: _Numbers
    #: how many seconds one use of each gives.
    seconds: NDArray[np.float64]
    #: How long the longest use is.
    longest: float
    #: How many clips are left out for which reason.
    left_out: Counter[str]

    @property
    def clips_of_groups(self) -> _Numbers:
        """How many clips each group has (G,)."""
        return np.bincount(self.group, self.clips, len(self.groups)).astype(np.int64)

    @property
    def seconds_of_groups(self) -> NDArray[np.float64]:
        """Seconds of each group (G,)."""
        return np.bincount(self.group, self.seconds, len(self.groups)).astype(np.float64)


def pieces_of(tables: Sequence[ShardTable], names: Sequence[str], usable: Usable, *, by_language: bool) -> Pieces:
    """The pieces of sources with these names; without `by_language` a source is one group, whatever is in it."""
    groups: dict[LaneGroup, int] = {}
    found: list[tuple[NDArray[Any], ...]] = []
    longest, left_out, shards = 0.0, Counter[str](), 0
    for number, (table, name) in enumerate(zip(tables, names, strict=True)):
        corpus = PurePath(name).name
        own = [LaneGroup(number, one.corpus or corpus, one.language) for one in table.index.groups]
        own = own if by_language else [LaneGroup(number, corpus, "")] * len(own)
        numbers = np.array([groups.setdefault(one, len(groups)) for one in own], np.int64)
        read = usable.columns(table)
        for start, batch in table.index.batches(["group", *read]):
            uses = _Uses(usable, batch.column("seconds").to_numpy(), [batch.column(one) for one in read[1:]])
            longest, left_out = max(longest, uses.longest), left_out + uses.left_out
            group = numbers[batch.column("group").to_numpy()]
            begins = _begins(table.index.first, start, group)
            sums = (np.add.reduceat(uses.count, begins), np.add.reduceat(uses.seconds, begins))
            shard = np.searchsorted(table.index.first, start + begins, side="right") - 1 + shards
            found.append((group[begins], np.full(len(begins), number), shard, start + begins, *sums))
        shards += len(table.index.shards)
    columns = [np.concatenate(column) for column in zip(*found, strict=True)]
    return _joined(list(groups), columns, tables, longest, left_out)


def _begins(first: _Numbers, start: int, group: _Numbers) -> NDArray[np.intp]:
    """Where in a batch that begins with clip `start` another shard or another group begins."""
    new = np.zeros(len(group), bool)
    new[0] = True
    new[1:] = group[1:] != group[:-1]
    new[first[slice(*np.searchsorted(first, [start, start + len(group)]))] - start] = True
    return np.flatnonzero(new)


def _joined(
    groups: list[LaneGroup],
    columns: list[NDArray[Any]],
    tables: Sequence[ShardTable],
    longest: float,
    left_out: Counter[str],
) -> Pieces:
    """Pieces that two batches of an index share, as one; those without a usable clip are dropped."""
    group, source, shard, begin, clips, seconds = columns
    new = np.ones(len(group), bool)
    new[1:] = (group[1:] != group[:-1]) | (shard[1:] != shard[:-1])
    at = np.flatnonzero(new)
    lengths = np.array([len(table) for table in tables])
    begins = begin[at].astype(np.int64)
    ends = np.append(begins[1:], 0)
    last = np.append(source[at][1:] != source[at][:-1], True)
    ends[last] = lengths[source[at][last].astype(np.int64)]
    kept = np.add.reduceat(clips, at).astype(np.int64)
    used = kept > 0
    return Pieces(
        groups,
        group[at][used],
        source[at][used],
        shard[at][used],
        begins[used],
        ends[used],
        kept[used],
        np.add.reduceat(seconds, at)[used],
        longest,
        left_out,
    )
