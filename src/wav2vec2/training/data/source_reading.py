"""The sources of a recipe (a folder of audio, a manifest, parquet shards, a data set), each read as a table of clips.

Nothing is decoded here: lengths come from the manifest, the cache of durations, or the headers of the files. The
library `datasets` would decode audio by torchcodec alone, which cannot be imported on many machines; so its audio
columns are cast to `Audio(decode=False)`, which gives the bytes of the file, and the decoding is ours, as everywhere.
"""

import os
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from wav2vec2.processing.audio_sources import AUDIO_ENDINGS
from wav2vec2.processing.manifests import ManifestError, Recording, read_manifest
from wav2vec2.processing.slot_tables import text_in
from wav2vec2.shards.column_names import SECONDS_COLUMNS, SPEAKER_COLUMNS, TEXT_COLUMNS, first_of
from wav2vec2.shards.storage import is_url
from wav2vec2.training.data.audio_clips import TrainingDataError
from wav2vec2.training.data.clip_tables import ClipTable, Columns, DatasetTable, FileTable
from wav2vec2.training.data.durations import DurationCache, measure

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

    from wav2vec2.training.settings.run_config import Source

#: What the name of a data set on the Hub looks like.
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")

#: Folders that say the corpus or the language of the shards in them.
_PARTITIONED = re.compile(r"(^|/)(corpus|language)=[^/]+(/|$)")

#: Files that `Dataset.save_to_disk` and `DatasetDict.save_to_disk` write.
_SAVED = ("state.json", "dataset_dict.json")


def kind_of(source: "Source") -> str:
    """What a source is: "folder", "manifest", "parquet", "dataset" or "shards"; "auto" is what its path says."""
    if source.format != "auto":
        return source.format
    path = Path(source.path)
    if is_url(source.path) or path.suffix in (".arrow", ".tar"):
        return "shards"
    if path.is_dir():
        return _kind_of_folder(path)
    if path.is_file():
        if path.suffix.lower() in AUDIO_ENDINGS:
            raise TrainingDataError(f"{path}: is one audio file; give the folder it is in, or a manifest that lists it")
        return "parquet" if path.suffix == ".parquet" else "manifest"
    if "*" in source.path:
        return "parquet"
    if _HUB_NAME.fullmatch(source.path) and path.suffix not in (".tsv", ".parquet"):
        return "dataset"
    raise TrainingDataError(f"{path}: nothing there; give a folder, a manifest (.tsv), parquet files or a data set")


def are_shards(source: "Source") -> bool:
    """Whether a source is shards, of whatever may be one."""
    path = Path(source.path)
    may_be = source.format == "shards" or is_url(source.path) or path.is_dir() or path.suffix in (".arrow", ".tar")
    return may_be and kind_of(source) == "shards"


def _kind_of_folder(path: Path) -> str:
    """What the files below a folder are; a folder with both audio files and parquet is ambiguous."""
    if any((path / name).is_file() for name in _SAVED):
        return "dataset"
    found = set()
    for folder, _, names in os.walk(path):
        endings = {os.path.splitext(name)[1].lower() for name in names}
        if endings & AUDIO_ENDINGS:
            found.add("folder")
        if ".tar" in endings or (".parquet" in endings and _PARTITIONED.search(folder)):
            found.add("shards")
        elif ".parquet" in endings:
            found.add("parquet")
    if len(found) == 1:
        return found.pop()
    if found:
        both = "both audio files and parquet" if found == {"folder", "parquet"} else " and ".join(sorted(found))
        raise TrainingDataError(f"{path}: holds {both}; set {' or '.join(f'format={one}' for one in sorted(found))}")
    raise TrainingDataError(f"{path}: no audio in this folder (nothing ends in {' '.join(sorted(AUDIO_ENDINGS))})")


def label_of(sources: "Sequence[Source]", number: int) -> str:
    """What goes before the ids of a source where there are several, since names of files repeat."""
    names = [Path(source.path).name for source in sources]
    if len(names) == 1:
        return ""
    return f"{number + 1}:{names[number]}/" if names.count(names[number]) > 1 else f"{names[number]}/"


def read_source(source: "Source", folder: Path | str | None, label: str = "", *, with_text: bool = False) -> ClipTable:
    """The table of clips of a source that is no stream. `folder` keeps durations, as `DurationCache` has it, `label`
    goes before every id."""
    kind, kept_as = kind_of(source), str(Path(source.path).resolve())
    table: FileTable | DatasetTable
    if kind == "folder":
        table = _read_folder(source, label, with_text)
    elif kind == "manifest":
        table = _read_manifest(source, label, with_text)
    else:
        table, kept_as = _read_dataset(source, kind, label, with_text)
    if not len(table.seconds):
        raise TrainingDataError(f"{source.path}: empty, there is not one clip in it")
    cache = DurationCache(folder, kept_as)
    measure(table, cache)
    return table


def _read_folder(source: "Source", label: str, with_text: bool) -> FileTable:
    """Every audio file below a folder, in the order of the names, whatever order the disk lists them in."""
    where = Path(source.path)
    if with_text:
        raise TrainingDataError(f"{source.path}: a folder has no transcripts; give a manifest with a `transcript`")
    if not where.is_dir():
        raise TrainingDataError(f"{where}: is not a folder")
    found = sorted(
        os.path.join(parent, name)
        for parent, _, names in os.walk(where)
        for name in names
        if os.path.splitext(name)[1].lower() in AUDIO_ENDINGS
    )
    if not found:
        raise TrainingDataError(f"{where}: no audio in this folder (nothing ends in {' '.join(sorted(AUDIO_ENDINGS))})")
    ids = [label + Path(os.path.relpath(name, where)).as_posix() for name in found]
    return FileTable([Path(name) for name in found], ids, np.full(len(found), np.nan))


def _read_manifest(source: "Source", label: str, with_text: bool) -> FileTable:
    """What a manifest lists, in its order."""
    where = Path(source.path)
    try:
        recordings = list(read_manifest(where))
    except (OSError, ManifestError) as error:
        raise TrainingDataError(f"{where}: the manifest cannot be read ({error})") from error
    return FileTable(
        [one.path for one in recordings],
        [label + _relative(one.path, where.parent) for one in recordings],
        np.array([np.nan if one.duration is None else one.duration for one in recordings], np.float64),
        speakers=[one.speaker for one in recordings],
        transcripts=_transcripts(source, recordings, with_text=with_text),
        rates=[one.sample_rate for one in recordings],
    )


def _relative(path: Path, folder: Path) -> str:
    """The path as the manifest has it: reports are about the data, not about where a machine keeps it."""
    text, start = str(path), str(folder) + os.sep
    return text[len(start) :] if text.startswith(start) else text


def _transcripts(source: "Source", recordings: list[Recording], *, with_text: bool) -> list[str | None] | None:
    """The transcripts in a manifest, None if there is not one."""
    column = source.text_column
    texts = [text_in(one, column) for one in recordings]
    if all(text is None for text in texts):
        if (with_text or column is not None) and recordings:
            raise TrainingDataError(
                f"{source.path}: the manifest has no column `{column or 'transcript'}` with transcripts"
            )
        return None
    return texts


def open_dataset(source: "Source", kind: str, *, with_text: bool) -> "tuple[Dataset | IterableDataset, Columns]":
    """The data set of a source (an `IterableDataset` for a stream), its audio left encoded, and its columns."""
    try:
        library = import_module("datasets")  # imported by runs alone that use it
    except ImportError as error:
        raise TrainingDataError(
            'this source needs the `datasets` library, which is not installed: pip install "wav2vec2[train]"'
        ) from error
    try:
        opened = _opened(library, source, kind)
    except TrainingDataError:
        raise
    except Exception as error:
        here = "" if Path(source.path).exists() or kind == "parquet" else "no file or folder of this name, and "
        raise TrainingDataError(f"{source.path}: {here}the data set cannot be opened ({error})") from error
    if isinstance(opened, dict):
        opened = _split_of(opened, source)
    names = opened.column_names
    if names is None:  # a stream that does not say its columns has those of its first example
        names = next(iter(opened.iter(batch_size=1)), {})
    columns = _find_columns(source, list(names), opened.features or {}, with_text=with_text)
    if isinstance((opened.features or {}).get(columns.audio), library.Audio):
        opened = opened.cast_column(columns.audio, library.Audio(decode=False))
    return opened, columns


def _opened(library: ModuleType, source: "Source", kind: str) -> Any:
    """What the library makes of a source: a data set, or a dictionary of its splits."""
    path = Path(source.path)
    if kind == "parquet":
        split = source.split or "train"
        files = {split: _parquet_files(source.path)}
        return library.load_dataset("parquet", data_files=files, split=split, streaming=source.streaming)
    if path.is_dir() and any((path / name).is_file() for name in _SAVED):
        saved = library.load_from_disk(source.path)
        if not source.streaming:
            return saved
        if isinstance(saved, dict):
            return {name: split.to_iterable_dataset() for name, split in saved.items()}
        return saved.to_iterable_dataset()
    return library.load_dataset(
        source.path, source.name, split=source.split, streaming=source.streaming, revision=source.revision
    )


def _parquet_files(path: str) -> list[str]:
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


def _split_of(opened: "dict[str, Dataset]", source: "Source") -> "Dataset":
    """The split that the source names, or the only one that there is."""
    if source.split is not None:
        if source.split not in opened:
            raise TrainingDataError(f"{source.path}: no split {source.split!r}; there are {', '.join(opened)}")
        return opened[source.split]
    if len(opened) == 1:
        return next(iter(opened.values()))
    raise TrainingDataError(f"{source.path}: has several splits, name one with `split`: {', '.join(opened)}")


def _find_columns(source: "Source", names: list[str], features: Mapping[str, Any], *, with_text: bool) -> Columns:
    """Which columns hold what. What is needed and is not there is an error that names the columns that are."""

    present = f"its columns are: {', '.join(names) or 'none'}"
    if source.audio_column not in names:
        raise TrainingDataError(
            f"{source.path}: no column {source.audio_column!r} with audio (set `audio_column`); {present}"
        )
    if source.text_column is not None and source.text_column not in names:
        raise TrainingDataError(f"{source.path}: no column {source.text_column!r}; {present}")
    text = source.text_column or first_of(TEXT_COLUMNS, names)
    if with_text and text is None:
        raise TrainingDataError(f"{source.path}: no column with transcripts (set `text_column`); {present}")
    seconds = first_of(SECONDS_COLUMNS, names)
    if seconds is not None and "float" not in str(getattr(features.get(seconds), "dtype", "")):
        seconds = None  # whole numbers may as well be milliseconds or samples
    return Columns(source.audio_column, text, first_of(SPEAKER_COLUMNS, names), seconds)


def _read_dataset(source: "Source", kind: str, label: str, with_text: bool) -> tuple[DatasetTable, str]:
    """A map-style data set as a table of clips, its durations from a column of seconds if all are there; and what its
    other durations are kept as."""
    rows, columns = open_dataset(source, kind, with_text=with_text)
    seconds = np.full(len(rows), np.nan)
    if columns.seconds is not None:
        said = np.asarray(rows.select_columns([columns.seconds])[:][columns.seconds], np.float64)
        seconds = said if np.isfinite(said).all() else seconds
    return DatasetTable(rows, columns, label, seconds), f"data set {rows._fingerprint} {columns.audio}"
