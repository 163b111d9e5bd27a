"""The clips of a source as a table: lengths are known at once, everything else is read when a clip is asked for."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from wav2vec2.training.data.audio_clips import Clip, Skipped
from wav2vec2.training.data.text_columns import PathColumn, TextColumn

if TYPE_CHECKING:
    from datasets import Dataset

#: Rows of a data set that are in memory together while durations are read from the headers in their bytes.
_ROWS_AT_ONCE = 64


class ClipRows(Protocol):
    """n clips that can be chosen among and loaded."""

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Seconds (n,), NaN where a header could not be read."""

    @property
    def problems(self) -> list[Skipped]:
        """The clips whose headers could not be read, and why."""

    def transcript(self, index: int) -> str | None:
        """The transcript of one clip, read without its audio."""

    def clip(self, index: int) -> Clip:
        """All of one clip but its samples."""


class ClipTable(ClipRows, Protocol):
    """The n clips of one source as it was read. A column is None where the source says nothing of the kind."""

    @property
    def transcripts(self) -> Sequence[str | None] | None:
        """The column of transcripts."""

    @property
    def speakers(self) -> Sequence[str | None] | None:
        """The column of speakers."""

    @property
    def rates(self) -> Sequence[int | None] | None:
        """The column of sampling rates that a manifest claims, which need not be those of the files."""

    @property
    def paths(self) -> Sequence[Path | None] | None:
        """The column of files; an entry is None where the audio is no file of its own."""


@dataclass
class FileTable:
    """Audio files, with what a manifest says of them."""

    #: Where the files are.
    paths: Sequence[Path]
    #: What reports call the clips.
    ids: Sequence[str]
    #: Seconds (n,), NaN where a header could not be read.
    seconds: NDArray[np.float64]
    #: The clips whose headers could not be read, and why.
    problems: list[Skipped] = field(default_factory=list)
    #: Who speaks, if the manifest says so.
    speakers: Sequence[str | None] | None = None
    #: What is said, if the manifest says so.
    transcripts: Sequence[str | None] | None = None
    #: Sampling rates that the manifest claims, which need not be those of the files.
    rates: Sequence[int | None] | None = None

    def id(self, index: int) -> str:
        """What reports call one clip."""
        return self.ids[index]

    def entry(self, index: int) -> tuple[str, tuple[int, int]]:
        """What a cache of durations knows one clip by: its file's path, and its size and time of change."""
        status = os.stat(self.paths[index])
        return str(self.paths[index]), (status.st_size, status.st_mtime_ns)

    def encoded(self, indices: Iterable[int]) -> Iterator[tuple[int, Path | bytes]]:
        """Some clips and their files."""
        return ((index, self.paths[index]) for index in indices)

    def __getstate__(self) -> dict[str, Any]:
        """What worker processes need to find clips, in arrays that they share."""
        texts = {name: getattr(self, name) for name in ("ids", "speakers", "transcripts")}
        columns = {name: None if column is None else TextColumn(column) for name, column in texts.items()}
        return columns | {"paths": PathColumn(self.paths), "seconds": self.seconds, "problems": [], "rates": None}

    def transcript(self, index: int) -> str | None:
        """The transcript of one clip."""
        return None if self.transcripts is None else self.transcripts[index]

    def clip(self, index: int) -> Clip:
        """All of one clip but its samples."""
        speaker = None if self.speakers is None else self.speakers[index]
        seconds = float(self.seconds[index])
        return Clip(self.ids[index], self.paths[index], seconds, speaker=speaker, transcript=self.transcript(index))


@dataclass(frozen=True)
class Columns:
    """Which columns of a data set hold what; None where there is none."""

    #: Column with the encoded audio, or with where it lies.
    audio: str
    #: Column with transcripts.
    text: str | None = None
    #: Column with names or numbers of speakers.
    speaker: str | None = None
    #: Column with durations in seconds.
    seconds: str | None = None


@dataclass
class DatasetTable:
    """A map-style data set of `datasets`, whose rows are read from its memory-mapped files as they are needed."""

    #: The data set, its audio left encoded.
    rows: "Dataset"
    #: Which of its columns hold what.
    columns: Columns
    #: What goes before the id of every clip.
    label: str
    #: Seconds (n,), NaN where a header could not be read.
    seconds: NDArray[np.float64]
    #: The clips whose headers could not be read, and why.
    problems: list[Skipped] = field(default_factory=list)
    #: The rows without their audio, once a transcript was asked for.
    _texts: "Dataset | None" = None

    # no column says the rates, and where audio lies in files of its own is known row by row alone
    rates: ClassVar[None] = None
    paths: ClassVar[None] = None

    def id(self, index: int) -> str:
        """What reports call one clip whose name in the data set is not known."""
        return f"{self.label}row {index}"

    def entry(self, index: int) -> tuple[str, tuple[int, int]]:
        """What a cache of durations knows one clip by; the whole cache is of this state of the data set."""
        return str(index), (0, 0)

    def encoded(self, indices: Iterable[int]) -> Iterator[tuple[int, Path | bytes]]:
        """Some clips and their encoded audio, a few in memory at a time."""
        audio, wanted = self.rows.select_columns([self.columns.audio]), list(indices)
        for begin in range(0, len(wanted), _ROWS_AT_ONCE):
            piece = wanted[begin : begin + _ROWS_AT_ONCE]
            for index, value in zip(piece, audio[piece][self.columns.audio], strict=True):
                yield index, encoded_audio(value)[0]

    @property
    def transcripts(self) -> list[str | None] | None:
        """The column of transcripts, read anew each time."""
        return self._column(self.columns.text)

    @property
    def speakers(self) -> list[str | None] | None:
        """The column of speakers, read anew each time."""
        return self._column(self.columns.speaker)

    def _column(self, name: str | None) -> list[str | None] | None:
        return None if name is None else [as_text(value) for value in self.rows[name][:]]

    def transcript(self, index: int) -> str | None:
        """The transcript of one clip, read without its audio."""
        if self.columns.text is None:
            return None
        if self._texts is None:
            self._texts = self.rows.select_columns([self.columns.text])
        return as_text(self._texts[index][self.columns.text])

    def clip(self, index: int) -> Clip:
        """All of one clip but its samples; its encoded bytes are among it where the data set holds them."""
        return clip_of_row(self.rows[index], self.columns, self.label, index, float(self.seconds[index]))


class ClipList:
    """Clips that are in memory already, such as the first ones of a stream."""

    rates: None = None

    def __init__(self, clips: Sequence[Clip]) -> None:
        self._clips = clips
        self.seconds = np.array([clip.seconds for clip in clips], np.float64)
        self.problems: list[Skipped] = []
        self.transcripts = [clip.transcript for clip in clips]
        self.speakers = [clip.speaker for clip in clips]
        self.paths = [clip.audio if isinstance(clip.audio, Path) else None for clip in clips]

    def transcript(self, index: int) -> str | None:
        """The transcript of one clip."""
        return self.transcripts[index]

    def clip(self, index: int) -> Clip:
        """One clip."""
        return self._clips[index]


class TableClips:
    """The tables of several sources as one, whose clips are numbered through."""

    def __init__(self, tables: Sequence[ClipRows]) -> None:
        self.tables = list(tables)
        self.first = np.cumsum([0, *(len(table.seconds) for table in tables)])
        self.seconds = np.concatenate([np.empty(0), *(table.seconds for table in tables)])

    def __call__(self, index: int) -> Clip:
        """The clip with this number."""
        table = int(np.searchsorted(self.first, index, side="right")) - 1
        return self.tables[table].clip(int(index - self.first[table]))


def clip_of_row(row: dict[str, Any], columns: Columns, label: str, number: int, seconds: float) -> Clip:
    """A row of a data set as a clip. Its id has the row's number, since names in data sets repeat."""
    audio, name = encoded_audio(row[columns.audio])
    return Clip(
        f"{label}row {number}" + (f" ({name})" if name else ""),
        audio,
        seconds,
        speaker=as_text(row[columns.speaker]) if columns.speaker else None,
        transcript=as_text(row[columns.text]) if columns.text else None,
    )


def encoded_audio(value: object) -> tuple[Path | bytes, str | None]:
    """What a data set says of audio -> the encoded bytes or where they lie, and a name if it has one.

    `Audio(decode=False)` gives {"bytes", "path"}; columns of paths or of bytes are taken as they are.
    """
    name = None
    if isinstance(value, dict):
        path = value.get("path")
        name = Path(path).name if path else None
        value = value.get("bytes") or path
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value), name
    if isinstance(value, str) and value:
        return Path(value), name or Path(value).name
    return b"", name


def as_text(value: object) -> str | None:
    """Text or a number (many data sets number their speakers) as text, nothing as None."""
    return None if value is None else str(value)
