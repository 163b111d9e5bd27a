"""The clips of a source as a table: lengths known at once, everything else only when a clip is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wav2vec2.training.data.audio_clips import Clip, Skipped


class ClipTable(Protocol):
    """n clips. `seconds` (n,) is NaN where a header could not be read, which `problems` then lists."""

    seconds: NDArray[np.float64]
    problems: list[Skipped]

    @property
    def has_text(self) -> bool:
        """Whether there are transcripts at all."""

    def transcript(self, index: int) -> str | None:
        """The transcript of one clip, without its audio."""

    def clip(self, index: int) -> Clip:
        """All of one clip but its samples."""


@dataclass
class FileTable:
    """Audio files, with what a manifest says of them."""

    paths: list[Path]
    ids: list[str]
    seconds: NDArray[np.float64]
    problems: list[Skipped] = field(default_factory=list)
    speakers: Sequence[str | None] | None = None
    transcripts: Sequence[str | None] | None = None
    rates: Sequence[int | None] = ()  # that a manifest says, which need not be those of the files

    @property
    def has_text(self) -> bool:
        """Whether there are transcripts at all."""
        return self.transcripts is not None

    def transcript(self, index: int) -> str | None:
        """The transcript of one clip."""
        return None if self.transcripts is None else self.transcripts[index]

    def clip(self, index: int) -> Clip:
        """All of one clip but its samples."""
        speaker = None if self.speakers is None else self.speakers[index]
        seconds = float(self.seconds[index])
        return Clip(self.ids[index], self.paths[index], seconds, speaker=speaker, transcript=self.transcript(index))


@dataclass
class DatasetTable:
    """A map-style data set of `datasets`, whose rows are read from its memory-mapped files as they are needed."""

    rows: Any
    columns: "Columns"
    label: str
    seconds: NDArray[np.float64]
    problems: list[Skipped] = field(default_factory=list)
    _texts: Any = None

    @property
    def has_text(self) -> bool:
        """Whether there are transcripts at all."""
        return self.columns.text is not None

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


@dataclass(frozen=True)
class Columns:
    """Which columns of a data set hold what."""

    audio: str
    text: str | None = None
    speaker: str | None = None
    seconds: str | None = None


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


def encoded_audio(value: Any) -> tuple[Path | bytes, str | None]:
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


def as_text(value: Any) -> str | None:
    """Text or a number (many data sets number their speakers) as text, nothing as None."""
    return None if value is None else str(value)
