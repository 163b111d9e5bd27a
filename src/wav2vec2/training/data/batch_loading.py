"""From the sources of a recipe to the micro-batches of one process, decoded ahead of time by worker processes."""

import copy
import math
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wav2vec2.training.data.audio_clips import SAMPLING_RATE, LengthLimits, Skipped, TrainingDataError
from wav2vec2.training.data.clip_selection import ClipSelection, DataSummary, SourceSummary, select
from wav2vec2.training.data.clip_tables import ClipTable, TableClips
from wav2vec2.training.data.division import LengthGrid
from wav2vec2.training.data.global_batches import GlobalBatches, SourceShare, shares_of
from wav2vec2.training.data.kept_clips import KeptClips
from wav2vec2.training.data.micro_batches import Batch, Collate, Loading, MicroBatches, UpdatePlan
from wav2vec2.training.data.other_speeds import ClipsAtSpeeds
from wav2vec2.training.data.source_reading import kind_of, label_of, read_source
from wav2vec2.training.data.streams import DatasetStream, ExampleStream, StreamedBatches, TableStream
from wav2vec2.training.data.update_plans import EvaluationPlan, MapUpdates, StreamUpdates
from wav2vec2.training.data.worker_processes import loaded, prepared_context
from wav2vec2.training.settings.run_config import DataSection, FinetuneDataSection, Source

if TYPE_CHECKING:
    from wav2vec2.training.data.lanes import LanedBatches
    from wav2vec2.training.data.shard_table import ShardTable

__all__ = ["Batch", "TrainingData"]

#: A clip with less than the receptive field of one frame (400 samples) has nothing in it for a model.
_ONE_FRAME = 400 / SAMPLING_RATE

#: Makes the plan of a run from its next update, and from where the run stands in its streams.
Plan = Callable[[int, dict[str, Any]], UpdatePlan]


class TrainingData:
    """The audio of a run: read from its sources once, then given as micro-batches to each process.

    Nothing is decoded here. Clips under `min_seconds` are left out; longer ones than `max_seconds` are cropped at
    random, or, with text, left out, as are clips without a transcript. `summary` says how many of what.
    Where several processes start on one machine, let one of them come first: the others then find its durations cached.
    """

    def __init__(self, section: DataSection, seed: int, *, with_text: bool = False) -> None:
        self.section = section
        self.seed = seed
        self.with_text = with_text
        #: Those of the copies of training clips.
        self.speeds = section.speeds if isinstance(section, FinetuneDataSection) else []
        self.can_be_spelled: Callable[[str], bool] | None = None
        self.can_be_scored: Callable[[str], bool] | None = None
        #: Which clips need not be read, if anything of clips is kept.
        self.kept: KeptClips | None = None
        self.limits = LengthLimits(section.min_seconds, section.max_seconds, crop=not with_text)
        # with text, clips of an evaluation may be as short as one frame
        self.valid_limits = replace(self.limits, shortest=_ONE_FRAME if with_text else self.limits.shortest)
        self._tables: dict[tuple[str, int], ClipTable] = {}
        self._streams: dict[int, DatasetStream] = {}
        self._shards: list[ShardTable] = []
        self._lanes: LanedBatches | None = None
        self._read()
        self._choose()
        if section.workers:
            prepared_context()  # so that it has imported everything by the time that it is needed

    def without_unknown(
        self, can_be_spelled: Callable[[str], bool], can_be_scored: Callable[[str], bool]
    ) -> "TrainingData":
        """The same data, without the clips whose transcripts have characters that are not known. No source is read
        again.

        `can_be_spelled` says of a transcript whether its clip is trained on (worker processes get a copy of it),
        `can_be_scored` whether it is evaluated.
        """
        other = copy.copy(self)
        other.can_be_spelled, other.can_be_scored = can_be_spelled, can_be_scored
        other._choose()
        return other

    def _read(self) -> None:
        """Read every source, the only time, and note which format each has."""
        self._sources: dict[str, list[Source]] = {"train": [], "valid": []}
        cache, with_text = self.section.cache, self.with_text
        for where, sources in (("train", self.section.train), ("valid", self.section.valid)):
            if where == "valid" and any(source.streaming for source in sources):
                raise TrainingDataError("data.valid: an evaluation is over all of its clips, so none can be a stream")
            for number, source in enumerate(sources):
                label = label_of(sources, number)
                try:
                    known = replace(source, format=kind_of(source))
                    if known.format == "shards":
                        self._read_shards(where, number, known, label)
                    elif not source.streaming:
                        self._tables[where, number] = read_source(known, cache, label, with_text=with_text)
                    else:
                        self._streams[number] = DatasetStream(known, known.format, label, with_text=with_text)
                        self._streams[number].check()
                except TrainingDataError as error:
                    raise TrainingDataError(f"data.{where}.{number}: {error}") from error
                self._sources[where].append(known)

    def _read_shards(self, where: str, number: int, source: Source, label: str) -> None:
        """Shards to train on are read as lanes; those of an evaluation, which is over all clips, as other tables."""
        from wav2vec2.training.data.shard_table import open_shards  # pyarrow, which other sources do not need

        table = open_shards(source, self.section, label, with_text=self.with_text)
        if where == "train":
            self._shards.append(table)
        else:
            self._tables[where, number] = table

    def _choose(self) -> None:
        """Choose among the clips that were read, and plan updates and evaluations with them."""
        self.valid_left_out: dict[str, int] = {}
        self.valid = self._evaluation() if self.section.valid else None
        read = self._laned if self._shards else self._streamed if self._streams else self._mapped
        self._plan, self.summary, longest = read()
        steps = self.section.length_steps
        self._grid = LengthGrid(longest, steps) if steps else None

    @property
    def train_tables(self) -> list[ClipTable | DatasetStream]:
        """What the sources of training were read as, for whoever looks into the data before the run."""
        if self._shards:
            return list[ClipTable | DatasetStream](self._shards)
        return [self._streams.get(n) or self._tables["train", n] for n in range(len(self.section.train))]

    @property
    def on_shards(self) -> bool:
        """Whether training is on shards."""
        return bool(self._shards)

    @property
    def valid_tables(self) -> list[ClipTable]:
        """What the sources of evaluations were read as."""
        return [self._tables["valid", n] for n in range(len(self.section.valid))]

    @property
    def problems(self) -> list[Skipped]:
        """The clips whose headers could not be read."""
        tables: list[ClipTable] = [*self._shards, *self._tables.values()]
        return [problem for table in tables for problem in table.problems]

    @property
    def hours(self) -> float | None:
        """Hours of usable training audio, None of a stream that does not say."""
        return self.summary.hours

    @property
    def clips(self) -> int | None:
        """Usable training clips, None of a stream."""
        return self.summary.clips

    @property
    def numbers(self) -> int:
        """How many numbers the clips of the run have, those of training first, then those of evaluations; 0 where
        training is on a stream, whose clips have none."""
        return 0 if self._streams else self._rows("train") + self._rows("valid")

    def notes(self, update: int, position: dict[str, Any]) -> list[str]:
        """What is to be said of a run that goes on after `update`, where its data stand at `position`."""
        changed = self._lanes.changed_shares(update, position) if self._lanes and position else None
        return [] if changed is None else [changed]

    @property
    def has_valid(self) -> bool:
        """Whether there is anything to evaluate on."""
        return self.valid is not None

    def batches(
        self,
        collate: Collate,
        *,
        processes: int,
        process: int,
        start_update: int,
        position: dict[str, Any],
        pin: bool = False,
    ) -> Generator[Batch, None, None]:
        """The micro-batches of `process`, for ever: all parts of `start_update`, then of the next update.

        `position` is that of the last batch before, {} at the beginning; clips of known length do not need it. With
        `pin`, tensors come in memory that a GPU reads by itself. Close the iterator to end its workers.
        """
        plan = self._plan(start_update, position)
        limit = self.section.seconds_per_batch
        loading = Loading(collate, self.limits, self.seed, processes, process, limit, self._grid, kept=self.kept)
        return loaded(MicroBatches(plan, loading), self.section.workers, pin=pin)

    def evaluation_batches(
        self, collate: Collate, *, processes: int, process: int, seconds_per_batch: float, pin: bool = False
    ) -> Generator[Batch, None, None]:
        """Every clip of the validation sources once over all processes, which get the same number of batches.

        Without text, of a long clip its first `max_seconds`; with text, all of it.
        """
        if self.valid is None:
            raise ValueError("there is nothing to evaluate on: data.valid is empty")
        loading = Loading(
            collate,
            self.valid_limits,
            self.seed,
            processes,
            process,
            seconds_per_batch,
            self._grid,
            evaluation=True,
            kept=self.kept,
        )
        return loaded(MicroBatches(self.valid, loading), self.section.workers, pin=pin)

    def _used(
        self, where: str, number: int, limits: LengthLimits, usable: Callable[[str], bool] | None
    ) -> tuple[ClipsAtSpeeds, ClipSelection]:
        """The clips of a source that is no stream, those of training with their copies, and which are usable."""
        table = ClipsAtSpeeds(self._tables[where, number], self.speeds if where == "train" else ())
        selection = select(table, limits, with_text=self.with_text, can_be_spelled=usable)
        if not len(selection.usable):
            reasons = ", ".join(f"{count} {reason}" for reason, count in selection.left_out.items())
            first = f" ({table.problems[0].id}: {table.problems[0].reason})" if table.problems else ""
            allowed = f"data.min_seconds={limits.shortest:g}, data.max_seconds={limits.longest:g}"
            path = self._sources[where][number].path
            raise TrainingDataError(f"{path}: none of its clips can be used: {reasons}{first}; {allowed}")
        return table, selection

    def _mapped(self) -> tuple[Plan, DataSummary, float]:
        """The plan over sources whose clips are all known (shares, copies, rounds), and the longest of them."""
        section = self.section
        read = [self._used("train", number, self.limits, self.can_be_spelled) for number in range(len(section.train))]
        clips, usable = _numbered_through(read)
        counted = self.limits.counted(clips.seconds)
        longest = float(counted[np.concatenate(usable)].max())
        self._require_room(longest, "the longest clip has")
        audio = [float(counted[one].sum()) for one in usable]
        hours = [selection.hours for _, selection in read]
        shares = self._shares(hours)
        copies = [round(share * sum(audio) / own, 9) for share, own in zip(shares, audio, strict=True)]
        batches = GlobalBatches(
            counted,
            [SourceShare(*one) for one in zip(usable, copies, strict=True)],
            seed=self.seed,
            seconds_per_update=section.seconds_per_update,
            bucket_updates=section.bucket_updates,
        )
        summary = DataSummary(
            [
                SourceSummary(source.path, source.format, len(one), own, share, times)
                for source, one, own, share, times in zip(
                    self._sources["train"], usable, hours, shares, copies, strict=True
                )
            ],
            _left_out([selection for _, selection in read]),
            batches.batches_per_round / batches.epochs_per_round,
        )
        return lambda start, position: MapUpdates(batches, clips, counted, start), summary, longest

    def _require_room(self, seconds: float, whose: str) -> None:
        """Refuse updates without room for one clip of so many seconds."""
        if seconds > self.section.seconds_per_update:
            raise TrainingDataError(
                f"data.seconds_per_update={self.section.seconds_per_update:g} has no room for one clip: {whose} "
                f"{seconds:.4g} s. Raise it, or lower data.max_seconds"
            )

    def _shares(self, hours: Sequence[float | None]) -> list[float]:
        """The share of each source in the audio of an epoch. Weights need no hours; the power of the hours does."""
        weights = [source.weight for source in self.section.train]
        if len(hours) > 1 and None in hours and None in weights:
            raise TrainingDataError("of a stream among several sources, give `weight` (of all sources) or `hours`")
        try:
            return shares_of([1.0 if one is None else one for one in hours], weights, self.section.balance)
        except ValueError as error:
            raise TrainingDataError(str(error)) from error

    def _laned(self) -> tuple[Plan, DataSummary, float]:
        """The plan over shards, of which each process reads its own lanes."""
        from wav2vec2.training.data.laned_run import laned_run  # pyarrow, as above

        others = [source.path for source in self._sources["train"] if source.format != "shards"]
        if others:
            raise TrainingDataError(f"{others[0]}: shards are not read beside other sources: index it (wav2vec2 index)")
        self._lanes, summary, longest = laned_run(
            self._shards, self.section, self.limits, self.seed, with_text=self.with_text, spelled=self.can_be_spelled
        )
        self._require_room(longest, "the longest clip has")
        return self._lanes.plan, summary, longest

    def _streamed(self) -> tuple[Plan, DataSummary, float]:
        """The plan over streams, and the longest that a clip can be. A source of known clips among them becomes a
        stream of its shuffled clips."""
        section, train = self.section, self._sources["train"]
        self._require_room(section.max_seconds, "a clip of a stream may have data.max_seconds, which is")
        used = {
            number: self._used("train", number, self.limits, self.can_be_spelled)
            for number, source in enumerate(train)
            if not source.streaming
        }
        more = sum(1 / speed for speed in (1.0, *self.speeds))
        told = [source.hours and source.hours * more for source in train]
        hours = [used[number][1].hours if number in used else told[number] for number in range(len(train))]
        shares = self._shares(hours)
        streams, counts = list[ExampleStream](), list[int | None]()
        for number, source in enumerate(train):
            if number in used:
                clips, selection = used[number]
                originals = clips.originals(selection.usable)
                streams.append(TableStream(source.path, self._tables["train", number], originals, self.seed))
                counts.append(len(selection.usable))
            else:
                streams.append(self._streams[number])
                counts.append(None)
        batches = StreamedBatches(
            streams,
            shares,
            self.limits,
            seed=self.seed,
            seconds_per_update=section.seconds_per_update,
            pool_size=section.stream_pool,
            with_text=self.with_text,
            can_be_spelled=self.can_be_spelled,
            speeds=self.speeds,
        )
        summary = DataSummary(
            [
                SourceSummary(source.path, source.format, count, own, share, None)
                for source, count, own, share in zip(train, counts, hours, shares, strict=True)
            ],
            _left_out([selection for _, selection in used.values()]),
        )
        return lambda start, position: StreamUpdates(batches, start, position), summary, section.max_seconds

    def _evaluation(self) -> EvaluationPlan:
        """All validation clips; without text, those under `min_seconds` are left out as in training."""
        chosen = replace(self.valid_limits, longest=math.inf) if self.with_text else self.valid_limits
        numbers = range(len(self.section.valid))
        read = [self._used("valid", number, chosen, self.can_be_scored) for number in numbers]
        clips, usable = _numbered_through(read)
        self.valid_left_out = _left_out([selection for _, selection in read])
        counted = self.valid_limits.counted(clips.seconds)
        return EvaluationPlan(clips, np.concatenate(usable), counted, self._rows("train"))

    def _rows(self, where: str) -> int:
        """How many clips the sources of training have, with their copies, or those of evaluations."""
        if where == "train" and self._shards:
            return sum(map(len, self._shards)) * (1 + len(self.speeds))
        read = sum(len(table.seconds) for (whose, _), table in self._tables.items() if whose == where)
        return read * (1 + len(self.speeds)) if where == "train" else read


def _numbered_through(read: list[tuple[ClipsAtSpeeds, ClipSelection]]) -> tuple[TableClips, list[NDArray[np.int64]]]:
    """The tables of all sources as one, and the numbers that the usable clips of each source have in it."""
    clips = TableClips([table for table, _ in read])
    return clips, [selection.usable + first for (_, selection), first in zip(read, clips.first[:-1], strict=True)]


def _left_out(selections: list[ClipSelection]) -> dict[str, int]:
    return dict(sum((selection.left_out for selection in selections), Counter[str]()))
