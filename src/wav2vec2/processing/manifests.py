"""Manifests: a table of recordings, one per line, that says where each is and what is known of it.

TAB separated with a header line, no quoting, UTF-8. Only `path` is required, relative to the manifest; `duration` (in
seconds), `sample_rate`, `speaker` and `transcript` are read where they are there, further columns are kept as text.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

#: No line of a table of recordings is longer; a longer one is no text, and is not read to its end.
_LONGEST_LINE = 1 << 20


class ManifestError(ValueError):
    """A manifest that cannot be read, and the line at fault."""


@dataclass(frozen=True)
class Recording:
    """One line of a manifest. What it does not say is None."""

    #: Where the recording is.
    path: Path
    #: Its length in seconds.
    duration: float | None = None
    #: Samples a second.
    sample_rate: int | None = None
    #: Who speaks.
    speaker: str | None = None
    #: What is said.
    transcript: str | None = None
    #: The other columns, by name.
    others: Mapping[str, str] = field(default_factory=dict)


def read_manifest(path: str | Path) -> Iterator[Recording]:
    """The recordings of a manifest, line by line, so that its length does not matter.

    The header is checked at once; `ManifestError` names the file, the line and what is wrong with it.
    """
    path = Path(path)
    lines = _lines(path)
    _, header = next(lines, (1, ""))
    return _recordings(path, columns_of(path, header), lines)


def columns_of(path: Path, header: str) -> list[str]:
    """The names of the columns; `ManifestError` where `path` is none of them, or one stands twice."""
    columns = header.split("\t")
    if "path" not in columns:
        raise ManifestError(f"{path}, line 1: the header has no column `path` (columns are separated by TAB)")
    if len(set(columns)) != len(columns):
        raise ManifestError(f"{path}, line 1: a column stands twice in the header")
    return columns


def _recordings(path: Path, columns: list[str], lines: Iterator[tuple[int, str]]) -> Iterator[Recording]:
    for number, line in lines:
        if line:
            yield recording_of(path, columns, number, line)


def recording_of(path: Path, columns: list[str], number: int, line: str) -> Recording:
    """The recording of one line of a manifest; `ManifestError` says what is wrong with it."""
    values = line.split("\t")
    if len(values) != len(columns):
        raise ManifestError(f"{path}, line {number}: {len(values)} columns, but the header has {len(columns)}")
    try:
        return _recording(path.parent, dict(zip(columns, values, strict=True)))
    except ValueError as error:
        raise ManifestError(f"{path}, line {number}: {error}") from error


def _recording(folder: Path, values: dict[str, str]) -> Recording:
    name = values.pop("path")
    if not name or "\0" in name:
        raise ValueError("`path` must name a file")
    duration, rate = values.pop("duration", ""), values.pop("sample_rate", "")
    seconds = float(duration) if duration else None
    if seconds is not None and not 0 <= seconds < float("inf"):
        raise ValueError(f"duration={duration}: must be seconds, at least 0")
    hertz = int(rate) if rate else None
    if hertz is not None and hertz <= 0:
        raise ValueError(f"sample_rate={rate}: must be above 0")
    speaker, transcript = values.pop("speaker", None), values.pop("transcript", None)
    return Recording(folder / name, seconds, hertz, speaker or None, transcript, values)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers, without line ends."""
    with path.open("rb") as file:
        for number in count(1):
            line = file.readline(_LONGEST_LINE + 1)
            if not line:
                return
            yield number, text_of_line(path, number, line)


def text_of_line(path: Path, number: int, line: bytes) -> str:
    """A line without its end; `ManifestError` where it is no text."""
    if len(line) > _LONGEST_LINE:
        raise ManifestError(f"{path}, line {number}: longer than {_LONGEST_LINE} bytes, this is no manifest")
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}, line {number}: is not UTF-8 text ({error.reason})") from error
    return text.rstrip("\r\n")
