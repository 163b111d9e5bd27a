"""Data sets of the `datasets` library and parquet shards: opened, checked, and left encoded.

`datasets` decodes audio by torchcodec alone, which cannot be imported on many machines; so its audio columns are cast
to `Audio(decode=False)`, which gives the bytes of the file, and the decoding is ours, as everywhere else.
"""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wav2vec2.training.data.audio_clips import Skipped, TrainingDataError
from wav2vec2.training.data.clip_tables import Columns, DatasetTable, encoded_audio
from wav2vec2.training.data.durations import DurationCache, read_headers

if TYPE_CHECKING:
    from wav2vec2.training.settings.run_config import Source

#: Names under which published data sets have what we need, in the order we look for them.
TEXT_COLUMNS = ("transcript", "text", "sentence", "transcription", "normalized_text", "raw_transcription")
SPEAKER_COLUMNS = ("speaker", "speaker_id", "client_id")
SECONDS_COLUMNS = ("duration", "seconds", "duration_seconds")

#: Files that `Dataset.save_to_disk` and `DatasetDict.save_to_disk` write.
SAVED = ("state.json", "dataset_dict.json")

#: Rows read at a time while durations are read from the headers in their bytes.
_ROWS_AT_ONCE = 64


def datasets_library() -> Any:
    """The `datasets` library, imported only by runs that use it."""
    try:
        return import_module("datasets")
    except ImportError as error:
        raise TrainingDataError(
            'this source needs the `datasets` library, which is not installed: pip install "wav2vec2[train]"'
        ) from error


def open_dataset(source: "Source", kind: str, *, with_text: bool) -> tuple[Any, Columns]:
    """The data set of a source (a `Dataset`, or an `IterableDataset` for a stream), undecoded, and its columns."""
    library = datasets_library()
    try:
        opened = _opened(library, source, kind)
    except TrainingDataError:
        raise
    except Exception as error:
        here = "" if Path(source.path).exists() or kind == "parquet" else "no file or folder of this name, and "
        raise TrainingDataError(f"{source.path}: {here}the data set cannot be opened ({error})") from error
    opened = _split_of(opened, source)
    names = _column_names(opened)
    columns = find_columns(source, names, opened.features, with_text=with_text)
    feature = (opened.features or {}).get(columns.audio)
    if isinstance(feature, library.Audio):
        opened = opened.cast_column(columns.audio, library.Audio(decode=False))
    return opened, columns


def _opened(library: Any, source: "Source", kind: str) -> Any:
    path = Path(source.path)
    if kind == "parquet":
        files = parquet_files(source.path)
        return library.load_dataset(
            "parquet",
            data_files={source.split or "train": files},
            split=source.split or "train",
            streaming=source.streaming,
        )
    if path.is_dir() and any((path / name).is_file() for name in SAVED):
        saved = library.load_from_disk(source.path)
        return _streamed(saved) if source.streaming else saved
    return library.load_dataset(
        source.path, source.name, split=source.split, streaming=source.streaming, revision=source.revision
    )


def _streamed(saved: Any) -> Any:
    if isinstance(saved, dict):
        return {name: split.to_iterable_dataset() for name, split in saved.items()}
    return saved.to_iterable_dataset()


def parquet_files(path: str) -> list[str]:
    """The shards that a path means (a file, a folder, or a pattern with *), in order."""
    where = Path(path)
    if where.is_dir():
        found = sorted(str(one) for one in where.rglob("*.parquet"))
    elif "*" in path:
        anchor = Path(where.anchor)
        found = sorted(str(one) for one in anchor.glob(str(where.relative_to(anchor))))
    else:
        found = [path] if where.is_file() else []
    if not found:
        raise TrainingDataError(f"{path}: no parquet file there")
    return found


def _split_of(opened: Any, source: "Source") -> Any:
    if not isinstance(opened, dict):
        return opened
    if source.split is not None:
        if source.split not in opened:
            raise TrainingDataError(f"{source.path}: no split {source.split!r}; there are {', '.join(opened)}")
        return opened[source.split]
    if len(opened) == 1:
        return next(iter(opened.values()))
    raise TrainingDataError(f"{source.path}: has several splits, name one with `split`: {', '.join(opened)}")


def _column_names(opened: Any) -> list[str]:
    """The columns; of a stream that does not say them, those of its first example."""
    if opened.column_names is not None:
        return list(opened.column_names)
    return list(next(iter(opened.iter(batch_size=1)), {}))


def find_columns(source: "Source", names: list[str], features: Any, *, with_text: bool) -> Columns:
    """Which columns hold what. What is needed and is not there is an error that names the columns that are."""
    present = f"its columns are: {', '.join(names) or 'none'}"
    if source.audio_column not in names:
        raise TrainingDataError(
            f"{source.path}: no column {source.audio_column!r} with audio (set `audio_column`); {present}"
        )
    if source.text_column is not None and source.text_column not in names:
        raise TrainingDataError(f"{source.path}: no column {source.text_column!r}; {present}")
    text = source.text_column or _first(TEXT_COLUMNS, names)
    if with_text and text is None:
        raise TrainingDataError(f"{source.path}: no column with transcripts (set `text_column`); {present}")
    seconds = _first(SECONDS_COLUMNS, names)
    if seconds is not None and "float" not in str(getattr((features or {}).get(seconds), "dtype", "")):
        seconds = None  # whole numbers may as well be milliseconds or samples
    return Columns(source.audio_column, text, _first(SPEAKER_COLUMNS, names), seconds)


def _first(wanted: tuple[str, ...], names: list[str]) -> str | None:
    return next((name for name in wanted if name in names), None)


def read_dataset(source: "Source", kind: str, folder: Path, label: str, *, with_text: bool) -> DatasetTable:
    """A map-style data set as a table of clips, its durations from a column of seconds, the cache, or the headers."""
    rows, columns = open_dataset(source, kind, with_text=with_text)
    if columns.seconds is not None:
        seconds = np.asarray(rows.select_columns([columns.seconds])[:][columns.seconds], np.float64)
        if np.isfinite(seconds).all():
            return DatasetTable(rows, columns, label, seconds)
    table = DatasetTable(rows, columns, label, np.full(len(rows), np.nan))
    cache = DurationCache(folder, f"data set {rows._fingerprint} {columns.audio}")
    missing = []
    for index in range(len(rows)):
        known = cache.get(str(index), (0, 0))
        if known is None:
            missing.append(index)
        else:
            table.seconds[index] = known
    for index, found in read_headers(_encoded_rows(rows, columns.audio, missing)):
        if isinstance(found, str):
            table.problems.append(Skipped(f"{label}row {index}", found))
        else:
            table.seconds[index] = found
            cache.put(str(index), (0, 0), found)
    cache.save()
    return table


def _encoded_rows(rows: Any, column: str, wanted: list[int]) -> Iterator[tuple[int, Path | bytes]]:
    """(row, its encoded audio) of the wanted rows, a few in memory at a time."""
    audio = rows.select_columns([column])
    for begin in range(0, len(wanted), _ROWS_AT_ONCE):
        piece = wanted[begin : begin + _ROWS_AT_ONCE]
        for index, value in zip(piece, audio[piece][column], strict=True):
            yield index, encoded_audio(value)[0]
