"""The clips of a run as the checks see them: a view of the very tables that the run has read and will train on."""

import copy
from collections.abc import Callable, Collection
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2vec2.training.checks.report import EXAMPLES, Finding, Severity, example
from wav2vec2.training.data.audio_clips import Clip
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.data.clip_tables import ClipList, ClipTable, TableClips
from wav2vec2.training.data.streams import DatasetStream

#: Of a stream, the texts of this many first clips are checked, and the audio of fewer is kept to be looked into.
_OF_A_STREAM, _AUDIO_OF_A_STREAM = 200, 32

Audio = Path | bytes


class ClipSource:
    """The n clips of one or several tables, with the lengths that are used: `shortest` to `longest` seconds.

    `where` is what reports call them, "train" or "valid".
    What is known without looking into the audio are columns of n entries: `seconds` (NaN where they are not known),
    `transcripts`, `speakers`, `paths` (None where the audio is no file of its own) and `rates` (what manifests say).
    `problems` are the clips whose headers could not be read. `complete` is False for the first clips of a stream.
    """

    def __init__(
        self,
        where: str,
        tables: list[ClipTable],
        *,
        shortest: float = 0.0,
        longest: float = float("inf"),
        complete: bool = True,
    ) -> None:
        self.where = where
        self._clips = TableClips(tables)
        self.shortest, self.longest, self.complete = shortest, longest, complete
        self.seconds = self._clips.seconds
        self.problems = [problem for table in tables for problem in table.problems]
        self.transcripts = self._clips.column(lambda table: table.transcripts)
        self.speakers = self._clips.column(lambda table: table.speakers)
        self.paths = self._clips.column(lambda table: table.paths)
        self.rates = self._clips.column(lambda table: table.rates)

    def __len__(self) -> int:
        return len(self.seconds)

    def id(self, index: int) -> str:
        """What reports call a clip, here as in training."""
        return self._clips(index).id

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
    ) -> Finding:
        """What was `found` in some clips out of so many, with the first few of them as examples. `detail` says what was
        measured of a clip."""
        examples = [example(self.id(i), self.transcripts[i], detail(i)) for i in islice(map(int, found), EXAMPLES)]
        return Finding(kind, severity, self.where, message, len(found), of, examples, right)

    def usable(self) -> NDArray[np.int64]:
        """The clips that are trained on: of a length within the limits (an unknown one counts), with a transcript."""
        within = ~((self.seconds < self.shortest) | (self.seconds > self.longest))
        if self.complete:
            within &= ~np.isnan(self.seconds)
        return np.array([index for index in np.flatnonzero(within).tolist() if self.transcripts[index]], np.int64)


def clip_sources(data: TrainingData) -> tuple[ClipSource, ClipSource | None]:
    """Training and validation clips of a run, as the run itself has read them; None without validation."""
    tables: list[ClipTable] = []
    for one in data.train_tables:
        tables.append(first_clips(one) if isinstance(one, DatasetStream) else one)
    complete = not any(isinstance(one, DatasetStream) for one in data.train_tables)
    shortest, longest = data.limits.shortest, data.limits.longest
    train = ClipSource("train", tables, shortest=shortest, longest=longest, complete=complete)
    if not data.valid_tables:
        return train, None
    return train, ClipSource("valid", data.valid_tables, shortest=data.valid_limits.shortest)


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
