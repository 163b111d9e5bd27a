"""The clips of a run as the checks see them: a view of the very tables that the run has read and will train on."""

import copy
from collections.abc import Callable, Collection, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from wav2vec2.training.checks.report import EXAMPLES, Finding, Severity, example
from wav2vec2.training.data.audio_clips import Clip
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.data.clip_tables import ClipList, ClipTable, TableClips
from wav2vec2.training.data.streams import DatasetStream

if TYPE_CHECKING:
    from wav2vec2.training.data.shard_table import ShardTable

#: Of a stream or of shards, the texts of this many clips are checked, and the audio of fewer is kept to be looked into.
_OF_A_STREAM, _AUDIO_OF_A_STREAM = 200, 32

Audio = Path | bytes

T = TypeVar("T")


class ClipSource:
    """The n clips of one or several tables, with the lengths that are used: `shortest` to `longest` seconds.

    `where` is what reports call them, "train" or "valid".
    What is known without looking into the audio are columns of n entries: `seconds` (NaN where they are not known),
    `transcripts`, `speakers`, `paths` (None where the audio is no file of its own) and `rates` (what manifests say).
    `problems` are the clips whose headers could not be read. `complete` is False for a part of a stream or of shards.
    Copies at other `speeds` are no clips here: they say what their clips say, but for their length.
    """

    def __init__(
        self,
        where: str,
        tables: list[ClipTable],
        *,
        shortest: float = 0.0,
        longest: float = float("inf"),
        complete: bool = True,
        speeds: Sequence[float] = (),
    ) -> None:
        self.where = where
        self._clips = TableClips(tables)
        self.shortest, self.longest, self.complete = shortest, longest, complete
        self.speeds = (1.0, *speeds)
        self.seconds = self._clips.seconds
        self.problems = [problem for table in tables for problem in table.problems]
        self.transcripts = _column(tables, lambda table: table.transcripts)
        self.speakers = _column(tables, lambda table: table.speakers)
        self.paths = _column(tables, lambda table: table.paths)
        self.rates = _column(tables, lambda table: table.rates)

    def __len__(self) -> int:
        return len(self.seconds)

    def id(self, index: int, speed: float = 1.0) -> str:
        """What reports call a clip or its copy at a speed, here as in training."""
        return self._clips(index).at(speed).id

    def audio(self, index: int) -> Audio:
        """The encoded audio of a clip, or where it lies."""
        return self._clips(index).audio

    def finding(
        self,
        kind: str,
        severity: Severity,
        message: str,
        found: Collection[int] | NDArray[np.int64],
        of: int,
        right: str = "",
        detail: Callable[[int], str] = lambda index: "",
        speed: float = 1.0,
    ) -> Finding:
        """What was `found` in some clips out of so many, with the first few of them as examples. `detail` says what was
        measured of a clip, `speed` whose copies are meant."""
        first = islice(map(int, found), EXAMPLES)
        examples = [example(self.id(index, speed), self.transcripts[index], detail(index)) for index in first]
        return Finding(kind, severity, self.where, message, len(found), of, examples, right)

    def usable(self) -> NDArray[np.int64]:
        """The clips that are trained on, be it as a copy alone: of a length that is used, with a transcript."""
        used = np.any([self.of_used_length(speed) for speed in self.speeds], axis=0)
        return np.array([index for index in np.flatnonzero(used).tolist() if self.transcripts[index]], np.int64)

    def of_used_length(self, speed: float) -> NDArray[np.bool_]:
        """Whether each clip (n,), at this speed, is within the limits; the unknown length of one in a stream counts."""
        seconds = self.seconds / speed
        return ~((seconds < self.shortest) | (seconds > self.longest) | (np.isnan(seconds) & self.complete))


def clip_sources(data: TrainingData) -> tuple[ClipSource, ClipSource | None]:
    """Training and validation clips of a run, as the run itself has read them; None without validation."""
    tables: list[ClipTable] = []
    complete = True  # until some clips of many stand for them
    for one in data.train_tables:
        if isinstance(one, DatasetStream):
            tables.append(first_clips(one))
        elif data.on_shards:
            tables.append(clips_in_between(cast("ShardTable", one)) if len(one.seconds) > _OF_A_STREAM else one)
        else:
            tables.append(one)
        complete &= tables[-1] is one
    limits = {"shortest": data.limits.shortest, "longest": data.limits.longest}
    train = ClipSource("train", tables, **limits, complete=complete, speeds=data.speeds)
    if not data.valid_tables:
        return train, None
    return train, ClipSource("valid", data.valid_tables, shortest=data.valid_limits.shortest)


def _column(tables: list[ClipTable], of: Callable[[ClipTable], Sequence[T | None] | None]) -> list[T | None]:
    """A column of all tables, one after the other, with None for the clips of a table that does not have it."""
    found: list[T | None] = []
    for table in tables:
        values = of(table)
        found += [None] * len(table.seconds) if values is None else values
    return found


def clips_in_between(table: "ShardTable") -> ClipList:
    """As many clips of shards, from everywhere in them, with the audio of some alone."""
    numbers = np.linspace(0, len(table) - 1, _OF_A_STREAM).astype(int)
    heard = numbers[np.linspace(0, _OF_A_STREAM - 1, _AUDIO_OF_A_STREAM).astype(int)]
    others = np.setdiff1d(numbers, heard)
    return ClipList([*map(table.clip, heard.tolist()), *map(table.facts, others.tolist())])


def first_clips(stream: DatasetStream) -> ClipList:
    """The first clips of a stream, with the audio of the very first ones alone, so that memory is bounded."""
    stream = copy.deepcopy(stream)  # the run's own begins at its first example
    clips: list[Clip] = []
    while len(clips) < _OF_A_STREAM and not stream.epoch:
        clip = stream.next_clip()
        if stream.epoch:
            break
        kept = clip.audio if len(clips) < _AUDIO_OF_A_STREAM else b""
        clips.append(Clip(clip.id, kept, clip.seconds, speaker=clip.speaker, transcript=clip.transcript))
    return ClipList(clips)
