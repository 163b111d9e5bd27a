"""Parquet shards with encoded audio in a column: bytes, or bytes and a path as `datasets` writes them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from wav2vec2.shards.column_names import (
    CORPUS_COLUMNS,
    LABEL_COLUMNS,
    LANGUAGE_COLUMNS,
    SECONDS_COLUMNS,
    SPEAKER_COLUMNS,
    TEXT_COLUMNS,
    as_text,
    first_of,
)
from wav2vec2.shards.found_clips import FoundClip, encoded_in, measured
from wav2vec2.shards.storage import Ranges, ShardError, Storage

#: What is said of a clip, as `FoundClip` has it.
_TEXTS = ("speaker", "transcript", "corpus", "language", "label")

#: Bytes at the end of a file that are read first: mostly all of the footer.
_TAIL = 64 * 2**10


class _WithTail(Ranges):
    """A file whose footer is read once."""

    def __init__(self, storage: Storage, url: str, size: int) -> None:
        super().__init__(storage, url, size)
        self._tail_at = max(0, size - _TAIL)
        self._tail: bytes | None = None

    def _piece(self, start: int, end: int) -> bytes:
        if start < self._tail_at:
            return super()._piece(start, end)
        if self._tail is None:
            self._tail = super()._piece(self._tail_at, self._size)
        return self._tail[start - self._tail_at : end - self._tail_at]


def opened(storage: Storage, url: str, size: int) -> parquet.ParquetFile:
    """A shard, of which nothing but the footer has been read."""
    if storage.local:
        return parquet.ParquetFile(url)
    return parquet.ParquetFile(pa.PythonFile(_WithTail(storage, url, size), mode="r"), pre_buffer=False)


def clips_in_parquet(
    storage: Storage, url: str, size: int, audio_column: str, text_column: str | None
) -> list[FoundClip]:
    """The clips of a shard. Its audio is read only where no column says the seconds of all clips."""
    with opened(storage, url, size) as shard:
        names = shard.schema_arrow.names
        _require(audio_column, names)
        if text_column is not None:
            _require(text_column, names)
        seconds = first_of(SECONDS_COLUMNS, names)
        if seconds is not None and not pa.types.is_floating(shard.schema_arrow.field(seconds).type):
            seconds = None  # whole numbers may as well be milliseconds or samples
        columns = {
            "seconds": seconds,
            "speaker": first_of(SPEAKER_COLUMNS, names),
            "transcript": text_column or first_of(TEXT_COLUMNS, names),
            "corpus": first_of(CORPUS_COLUMNS, names),
            "language": first_of(LANGUAGE_COLUMNS, names),
            "label": first_of(LABEL_COLUMNS, names),
        }
        wanted = {name: column for name, column in columns.items() if column is not None}
        return [clip for group in range(shard.num_row_groups) for clip in _clips(shard, group, wanted, audio_column)]


def audio_of(shard: parquet.ParquetFile, group: int, column: str) -> list[bytes]:
    """The encoded audio of every row of a row group, empty bytes where there is none."""
    kind = shard.schema_arrow.field(column).type
    inside = [f"{column}.bytes"] if pa.types.is_struct(kind) else [column]
    values = shard.read_row_group(group, columns=inside).column(0).to_pylist()
    return [encoded_in(value) or b"" for value in values]


def rows_of(path: Path, audio_column: str, others: Sequence[str], at_once: int) -> Iterator[dict[str, Any]]:
    """The rows of a shard on this disk from the first to the last, so many `at_once` in memory: their audio, and those
    of the `others` that it has."""
    with parquet.ParquetFile(path) as shard:
        names = shard.schema_arrow.names
        _require(audio_column, names)
        wanted = [audio_column, *(name for name in others if name in names)]
        for batch in shard.iter_batches(batch_size=at_once, columns=wanted):
            yield from batch.to_pylist()


def _require(column: str, names: Sequence[str]) -> None:
    if column not in names:
        raise ShardError(f"it has no column `{column}` (its columns: {', '.join(names)})")


def _clips(shard: parquet.ParquetFile, group: int, wanted: Mapping[str, str], audio_column: str) -> Iterator[FoundClip]:
    """Those of one row group."""
    rows = shard.metadata.row_group(group).num_rows
    read = shard.read_row_group(group, columns=list(dict.fromkeys(wanted.values()))) if wanted else None
    values: dict[str, Sequence[Any]] = {
        name: [None] * rows if read is None or name not in wanted else read.column(wanted[name]).to_pylist()
        for name in ("seconds", *_TEXTS)
    }
    sizes, seconds = [0] * rows, values["seconds"]
    if None in seconds:
        audio = audio_of(shard, group, audio_column)
        sizes, seconds = [len(one) for one in audio], [measured(one) for one in audio]
    for row in range(rows):
        texts = [values[name][row] for name in _TEXTS]
        said = [as_text(text) for text in texts]
        yield FoundClip(f"row group {group} row {row}", group, row, sizes[row], seconds[row], *said)
