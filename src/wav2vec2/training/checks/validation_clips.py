"""The clips of a run as its validation sees them: texts and lengths of all, audio only of those it looks into."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wav2vec2.training.data.audio_clips import Clip, Skipped
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.data.clip_tables import ClipTable, DatasetTable, FileTable, as_text
from wav2vec2.training.data.streams import DatasetStream

#: Of a stream, the texts of this many first clips are checked, and the audio of fewer is kept to be looked into.
_OF_A_STREAM, _AUDIO_OF_A_STREAM = 200, 32

Audio = Path | bytes


class ClipRecord(NamedTuple):
    """What is known of a clip without decoding it; `sample_rate` is what a manifest says, None if it says none."""

    id: str
    audio: Callable[[], Audio]
    seconds: float
    sample_rate: int | None
    speaker: str | None
    transcript: str | None


@dataclass
class ClipSource:
    """n clips as columns. `seconds` (n,) is NaN where it is not known; `audio(index)` reads encoded audio or says where
    it lies; `paths` says so for all where they are files. `complete` is False for the first clips of a stream."""

    ids: Sequence[str]
    seconds: NDArray[np.float64]
    transcripts: Sequence[str | None]
    audio: Callable[[int], Audio]
    rates: Sequence[int | None] = ()
    speakers: Sequence[str | None] = ()
    paths: Sequence[Path | None] = ()
    problems: list[Skipped] = field(default_factory=list)
    shortest: float = 0.0
    longest: float = float("inf")
    complete: bool = True

    def __post_init__(self) -> None:
        for name in ("rates", "speakers", "paths"):
            if not len(getattr(self, name)):
                setattr(self, name, [None] * len(self.ids))

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[ClipRecord]:
        for index in range(len(self)):
            yield self[index]

    def __getitem__(self, index: int) -> ClipRecord:
        return ClipRecord(
            self.ids[index],
            lambda: self.audio(index),
            float(self.seconds[index]),
            self.rates[index],
            self.speakers[index],
            self.transcripts[index],
        )

    def usable(self) -> NDArray[np.int64]:
        """The clips that are trained on: of a length within the limits (an unknown one counts), with a transcript."""
        within = ~((self.seconds < self.shortest) | (self.seconds > self.longest))
        if self.complete:
            within &= ~np.isnan(self.seconds)
        return np.array([index for index in np.flatnonzero(within).tolist() if self.transcripts[index]], np.int64)


def source_of_files(
    clips: Sequence[Clip], rates: Sequence[int | None] = (), *, shortest: float = 0.0, longest: float = float("inf")
) -> ClipSource:
    """A source from clips that are in memory."""
    return ClipSource(
        [clip.id for clip in clips],
        np.array([clip.seconds for clip in clips], np.float64),
        [clip.transcript for clip in clips],
        lambda index: clips[index].audio,
        rates,
        [clip.speaker for clip in clips],
        [clip.audio if isinstance(clip.audio, Path) else None for clip in clips],
        shortest=shortest,
        longest=longest,
    )


def clip_sources(data: TrainingData) -> tuple[ClipSource, ClipSource | None]:
    """Training and validation clips of a run, as the run itself has read them; None without validation."""
    joined = _joined([_source(one) for one in data.train_tables])
    joined.shortest, joined.longest = data.limits.shortest, data.limits.longest
    if not data.valid_tables:
        return joined, None
    valid = _joined([_source(one) for one in data.valid_tables])
    valid.shortest = data.valid_limits.shortest
    return joined, valid


def _source(table: ClipTable | DatasetStream) -> ClipSource:
    if isinstance(table, DatasetStream):
        return _head_of(copy.deepcopy(table))  # the run's own begins at its first example
    return _of_dataset(table) if isinstance(table, DatasetTable) else _of_files(table)


def _of_files(table: ClipTable) -> ClipSource:
    assert isinstance(table, FileTable)
    texts = [None] * len(table.ids) if table.transcripts is None else table.transcripts
    speakers = table.speakers or ()
    return ClipSource(
        table.ids, table.seconds, texts, table.paths.__getitem__, table.rates, speakers, table.paths, table.problems
    )


def _of_dataset(table: DatasetTable) -> ClipSource:
    """Texts and speakers as columns; the audio of a row only when it is asked for."""

    def column(name: str | None) -> list[str | None]:
        return [None] * len(table.seconds) if name is None else [as_text(value) for value in table.rows[name][:]]

    ids = [f"{table.label}row {number}" for number in range(len(table.seconds))]
    texts, speakers = column(table.columns.text), column(table.columns.speaker)

    def audio(index: int) -> Audio:
        return table.clip(index).audio

    return ClipSource(ids, table.seconds, texts, audio, (), speakers, problems=table.problems)


def _head_of(stream: DatasetStream) -> ClipSource:
    """The first clips of a stream; audio of the very first, so that memory is bounded."""
    clips: list[Clip] = []
    while len(clips) < _OF_A_STREAM and not stream.epoch:
        clip = stream.next_clip()
        if stream.epoch:
            break
        kept = clip.audio if len(clips) < _AUDIO_OF_A_STREAM else b""
        clips.append(Clip(clip.id, kept, clip.seconds, speaker=clip.speaker, transcript=clip.transcript))
    source = source_of_files(clips)
    source.complete = False
    return source


def _joined(sources: list[ClipSource]) -> ClipSource:
    """Several sources as one."""
    if len(sources) == 1:
        return sources[0]
    first = np.cumsum([0, *(len(one) for one in sources)])

    def audio(index: int) -> Audio:
        number = int(np.searchsorted(first, index, side="right")) - 1
        return sources[number].audio(int(index - first[number]))

    return ClipSource(
        [name for one in sources for name in one.ids],
        np.concatenate([one.seconds for one in sources]),
        [text for one in sources for text in one.transcripts],
        audio,
        [rate for one in sources for rate in one.rates],
        [speaker for one in sources for speaker in one.speakers],
        [path for one in sources for path in one.paths],
        [problem for one in sources for problem in one.problems],
        complete=all(one.complete for one in sources),
    )
