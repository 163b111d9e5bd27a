"""From the sources of a recipe to the micro-batches of one process, decoded ahead of time by worker processes."""

import math
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wav2vec2.training.data.audio_clips import (
    EVALUATION,
    SAMPLING_RATE,
    LengthLimits,
    Skipped,
    TrainingDataError,
)
from wav2vec2.training.data.bad_files import BadFiles, TooManyBadFiles
from wav2vec2.training.data.clip_selection import Selection, TableClips, select
from wav2vec2.training.data.clip_tables import ClipTable
from wav2vec2.training.data.data_summary import DataSummary, SourceSummary
from wav2vec2.training.data.durations import cache_folder
from wav2vec2.training.data.global_batches import GlobalBatches, SourceShare, shares_of
from wav2vec2.training.data.micro_batches import (
    Batch,
    Collate,
    Loading,
    MicroBatches,
    PlannedUpdate,
    UpdatePlan,
)
from wav2vec2.training.data.source_reading import kind_of, read_source
from wav2vec2.training.data.stream_pools import StreamedBatches
from wav2vec2.training.data.streams import DatasetStream, ExampleStream, TableStream
from wav2vec2.training.data.worker_processes import loaded, prepared_context
from wav2vec2.training.settings.run_config import DataSection, Source

__all__ = ["BadFiles", "Batch", "Collate", "TooManyBadFiles", "TrainingData"]

#: A clip with less than the receptive field of one frame (400 samples) has nothing in it for a model.
_ONE_FRAME = 400 / SAMPLING_RATE


@dataclass(frozen=True)
class MapUpdates:
    """The plan of a run over clips of known length, from `start` on."""

    batches: GlobalBatches
    clips: TableClips
    counted: Any
    start: int

    def __call__(self) -> Iterator[PlannedUpdate]:
        """Every update, for ever."""
        update = self.start
        while True:
            indices = self.batches(update)
            yield PlannedUpdate(
                update, self.counted[indices], _Chosen(self.clips, indices), epoch=self.batches.epoch_after(update)
            )
            update += 1


@dataclass(frozen=True)
class StreamUpdates:
    """The plan of a run over streams, from update `start` on, which begins at `position`."""

    batches: StreamedBatches
    start: int
    position: dict[str, Any]

    def __call__(self) -> Iterator[PlannedUpdate]:
        """Every update, for ever."""
        for number, one in enumerate(self.batches.updates(self.start, self.position)):
            seconds = self.batches.limits.counted(np.array([clip.seconds for clip in one.clips], np.float64))
            yield PlannedUpdate(
                self.start + number, seconds, one.clips.__getitem__, one.skipped, one.position, one.epoch
            )


@dataclass(frozen=True)
class Evaluation:
    """The plan of an evaluation: one "update" of all clips."""

    clips: TableClips
    indices: Any
    counted: Any

    def __call__(self) -> Iterator[PlannedUpdate]:
        """All clips at once."""
        yield PlannedUpdate(EVALUATION, self.counted[self.indices], _Chosen(self.clips, self.indices))


@dataclass(frozen=True)
class _Chosen:
    """The clips of a global batch by their index in it."""

    clips: TableClips
    indices: Any

    def __call__(self, index: int) -> Any:
        return self.clips(int(self.indices[index]))


class TrainingData:
    """The audio of a run: read from its sources once, then given as micro-batches to each process.

    Nothing is decoded here. Clips under `min_seconds` are left out; longer ones than `max_seconds` are cropped at
    random, or, with text, left out, as are clips without a transcript. `summary` says how many of what.
    Where several processes start on one machine, let one of them come first: the others then find its durations cached.
    """

    def __init__(
        self,
        section: DataSection,
        seed: int,
        *,
        with_text: bool = False,
        can_be_spelled: Callable[[str], bool] | None = None,
        can_be_scored: Callable[[str], bool] | None = None,
    ) -> None:
        """`can_be_spelled` says of a transcript whether its clip is trained on (worker processes get a copy of it),
        `can_be_scored` whether it is evaluated."""
        self.section = section
        self.seed = seed
        self.with_text = with_text
        self.can_be_spelled, self.can_be_scored = can_be_spelled, can_be_scored
        self.limits = LengthLimits(section.min_seconds, section.max_seconds, crop=not with_text)
        self.problems: list[Skipped] = []
        #: What the sources were read as, in their order, for whoever looks into the data before the run.
        self.train_tables: list[ClipTable | DatasetStream] = []
        self.valid_tables: list[ClipTable] = []
        self._folder = cache_folder(section.cache)
        self._plan = self._streamed() if any(one.streaming for one in section.train) else self._mapped()
        self.valid_left_out: dict[str, int] = {}
        self.valid = self._evaluation() if section.valid else None
        if section.workers:
            prepared_context()  # so that it has imported everything by the time that it is needed

    @property
    def hours(self) -> float | None:
        """Hours of usable training audio, None of a stream that does not say."""
        return self.summary.hours

    @property
    def clips(self) -> int | None:
        """Usable training clips, None of a stream."""
        return self.summary.clips

    @property
    def has_valid(self) -> bool:
        """Whether there is anything to evaluate on."""
        return self.valid is not None

    def batches(
        self, collate: Collate, *, processes: int, process: int, start_update: int, position: dict[str, Any]
    ) -> Generator[Batch, None, None]:
        """The micro-batches of `process`, for ever: all parts of `start_update`, then of the next update.

        `position` is that of the last batch before, {} at the beginning; clips of known length do not need it. Close
        the iterator to end its workers.
        """
        plan = self._plan(start_update, position)
        loading = Loading(
            collate, self.limits, self.seed, processes, process, self.section.seconds_per_batch, evaluation=False
        )
        return loaded(MicroBatches(plan, loading), self.section.workers)

    def evaluation_batches(
        self, collate: Collate, *, processes: int, process: int, seconds_per_batch: float
    ) -> Generator[Batch, None, None]:
        """Every clip of the validation sources once over all processes, which get the same number of batches.

        Without text, of a long clip its first `max_seconds`; with text, all of it.
        """
        if self.valid is None:
            raise ValueError("there is nothing to evaluate on: data.valid is empty")
        loading = Loading(collate, self.valid_limits, self.seed, processes, process, seconds_per_batch, evaluation=True)
        return loaded(MicroBatches(self.valid, loading), self.section.workers)

    def _label(self, source: Source, sources: list[Source]) -> str:
        """What goes before the ids of a source where there are several, since names of files repeat."""
        if len(sources) == 1:
            return ""
        name = Path(source.path).name
        repeated = sum(Path(one.path).name == name for one in sources) > 1
        return f"{sources.index(source) + 1}:{name}/" if repeated else f"{name}/"

    def _read(
        self, source: Source, sources: list[Source], limits: LengthLimits, usable: Callable[[str], bool] | None
    ) -> tuple[ClipTable, Selection]:
        try:
            table = read_source(source, self._folder, self._label(source, sources), with_text=self.with_text)
        except TrainingDataError as error:
            where = "train" if sources is self.section.train else "valid"
            raise TrainingDataError(f"data.{where}.{sources.index(source)}: {error}") from error
        self.problems.extend(table.problems)
        selection = select(table, limits, with_text=self.with_text, can_be_spelled=usable)
        if not len(selection.usable):
            reasons = ", ".join(f"{count} {reason}" for reason, count in selection.left_out.items())
            first = f" ({table.problems[0].id}: {table.problems[0].reason})" if table.problems else ""
            allowed = f"data.min_seconds={limits.shortest:g}, data.max_seconds={limits.longest:g}"
            raise TrainingDataError(f"{source.path}: none of its clips can be used: {reasons}{first}; {allowed}")
        return table, selection

    def _mapped(self) -> Any:
        """Plan over sources whose clips are all known: shares, copies, rounds."""
        section = self.section
        read = [self._read(source, section.train, self.limits, self.can_be_spelled) for source in section.train]
        self.train_tables.extend(table for table, _ in read)
        clips = TableClips([table for table, _ in read])
        counted = self.limits.counted(clips.seconds)
        usable = [selection.usable + first for (_, selection), first in zip(read, clips.first[:-1], strict=True)]
        self._require_room(float(counted[np.concatenate(usable)].max()), "the longest clip has")
        audio = [float(counted[one].sum()) for one in usable]
        hours = [selection.hours for _, selection in read]
        shares = self._shares(hours)
        copies = [round(share * sum(audio) / own, 9) for share, own in zip(shares, audio, strict=True)]
        sources = [SourceShare(*one) for one in zip(usable, copies, strict=True)]
        batches = GlobalBatches(
            counted,
            sources,
            seed=self.seed,
            seconds_per_update=section.seconds_per_update,
            bucket_updates=section.bucket_updates,
        )
        self.summary = DataSummary(
            [
                SourceSummary(source.path, kind_of(source), len(one), own, share, times)
                for source, one, own, share, times in zip(section.train, usable, hours, shares, copies, strict=True)
            ],
            _left_out([selection for _, selection in read]),
            batches.batches_per_round / batches.epochs_per_round,
        )

        def plan(start_update: int, position: dict[str, Any]) -> UpdatePlan:
            return MapUpdates(batches, clips, counted, start_update)

        return plan

    def _require_room(self, seconds: float, whose: str) -> None:
        """An update has at least one clip."""
        if seconds > self.section.seconds_per_update:
            raise TrainingDataError(
                f"data.seconds_per_update={self.section.seconds_per_update:g} has no room for one clip: {whose} "
                f"{seconds:.4g} s. Raise it, or lower data.max_seconds"
            )

    def _shares(self, hours: list[float]) -> list[float]:
        try:
            return shares_of(hours, [source.weight for source in self.section.train], self.section.balance)
        except ValueError as error:
            raise TrainingDataError(str(error)) from error

    def _streamed(self) -> Any:
        """Plan over streams; a source of known clips among them becomes a stream of its shuffled clips."""
        section, streams, summaries = self.section, list[ExampleStream](), list[SourceSummary]()
        self._require_room(section.max_seconds, "a clip of a stream may have data.max_seconds, which is")
        selections = []
        for source in section.train:
            kind, label = kind_of(source), self._label(source, section.train)
            count, hours = None, source.hours
            if source.streaming:
                if kind in ("folder", "manifest"):
                    raise TrainingDataError(f"{source.path}: only a data set or parquet can be a stream, not a {kind}")
                stream = DatasetStream(source, kind, label, with_text=self.with_text)
                stream.check()
                streams.append(stream)
                self.train_tables.append(stream)
            else:
                table, selection = self._read(source, section.train, self.limits, self.can_be_spelled)
                selections.append(selection)
                self.train_tables.append(table)
                count, hours = len(selection.usable), selection.hours
                streams.append(TableStream(source.path, table, selection.usable, self.seed))
            summaries.append(SourceSummary(source.path, kind, count, hours, 1.0, None))
        shares = self._stream_shares([one.hours for one in summaries])
        self.summary = DataSummary(
            [replace(one, share=share) for one, share in zip(summaries, shares, strict=True)], _left_out(selections)
        )
        batches = StreamedBatches(
            streams,
            shares,
            self.limits,
            seed=self.seed,
            seconds_per_update=section.seconds_per_update,
            pool_size=section.stream_pool,
            with_text=self.with_text,
            can_be_spelled=self.can_be_spelled,
        )

        def plan(start_update: int, position: dict[str, Any]) -> UpdatePlan:
            return StreamUpdates(batches, start_update, position)

        return plan

    def _stream_shares(self, hours: list[float | None]) -> list[float]:
        """Weights need no hours; the power of the hours does."""
        weighted = all(source.weight is not None for source in self.section.train)
        if len(hours) > 1 and not weighted and None in hours:
            raise TrainingDataError("of a stream among several sources, give `weight` (of all sources) or `hours`")
        return self._shares([one or 1.0 for one in hours])

    def _evaluation(self) -> Evaluation:
        """All validation clips; without text, those under `min_seconds` are left out as in training."""
        sources = self.section.valid
        if any(source.streaming for source in sources):
            raise TrainingDataError("data.valid: an evaluation is over all of its clips, so none can be a stream")
        shortest = _ONE_FRAME if self.with_text else self.limits.shortest
        self.valid_limits = LengthLimits(shortest, self.limits.longest, self.limits.crop)
        chosen = replace(self.valid_limits, longest=math.inf) if self.with_text else self.valid_limits
        read = [self._read(source, sources, chosen, self.can_be_scored) for source in sources]
        self.valid_tables.extend(table for table, _ in read)
        clips = TableClips(self.valid_tables)
        usable = [selection.usable + first for (_, selection), first in zip(read, clips.first[:-1], strict=True)]
        self.valid_left_out = _left_out([selection for _, selection in read])
        return Evaluation(clips, np.concatenate(usable), self.valid_limits.counted(clips.seconds))


def _left_out(selections: list[Selection]) -> dict[str, int]:
    return dict(sum((selection.left_out for selection in selections), Counter[str]()))
