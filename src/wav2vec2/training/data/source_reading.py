"""Reading the sources of a recipe: a folder of audio, a manifest, parquet shards, a data set, each as a table of clips.

Nothing is decoded here: lengths come from the manifest, the cache of durations, or the headers of the files.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wav2vec2.processing.audio_sources import AUDIO_ENDINGS
from wav2vec2.processing.manifests import ManifestError, Recording, read_manifest
from wav2vec2.training.data.audio_clips import TrainingDataError
from wav2vec2.training.data.clip_tables import ClipTable, FileTable
from wav2vec2.training.data.dataset_reading import SAVED, read_dataset
from wav2vec2.training.data.durations import DurationCache, as_skipped, file_durations

if TYPE_CHECKING:
    from wav2vec2.training.settings.run_config import Source

#: What the name of a data set on the Hub looks like.
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def kind_of(source: "Source") -> str:
    """What a source is: "folder", "manifest", "parquet" or "dataset"; with format "auto", what its path says."""
    if source.format != "auto":
        return source.format
    path = Path(source.path)
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


def _kind_of_folder(path: Path) -> str:
    """One look through the folder: whichever of audio and parquet comes first decides, both are ambiguous."""
    if any((path / name).is_file() for name in SAVED):
        return "dataset"
    found = set()
    for _, _, names in os.walk(path):
        endings = {os.path.splitext(name)[1].lower() for name in names}
        found |= {"parquet"} & {ending[1:] for ending in endings} | ({"folder"} if endings & AUDIO_ENDINGS else set())
    if len(found) == 1:
        return found.pop()
    if found:
        raise TrainingDataError(f"{path}: holds both audio files and parquet; set format=folder or format=parquet")
    raise TrainingDataError(f"{path}: no audio in this folder (nothing ends in {' '.join(sorted(AUDIO_ENDINGS))})")


def read_source(source: "Source", folder: Path, label: str = "", *, with_text: bool = False) -> ClipTable:
    """The table of clips of a source that is no stream. `folder` keeps durations, `label` goes before every id."""
    kind = kind_of(source)
    table: ClipTable
    if kind == "folder":
        if with_text:
            raise TrainingDataError(f"{source.path}: a folder has no transcripts; give a manifest with a `transcript`")
        table = _read_folder(Path(source.path), folder, label)
    elif kind == "manifest":
        table = _read_manifest(source, folder, label, with_text=with_text)
    else:
        table = read_dataset(source, kind, folder, label, with_text=with_text)
    if not len(table.seconds):
        raise TrainingDataError(f"{source.path}: empty, there is not one clip in it")
    return table


def _read_folder(where: Path, folder: Path, label: str) -> FileTable:
    """Every audio file below a folder, in the order of the names, whatever order the disk lists them in."""
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
    paths = [Path(name) for name in found]
    ids = [label + Path(os.path.relpath(name, where)).as_posix() for name in found]
    seconds, reasons = file_durations(paths, DurationCache(folder, str(where.resolve())))
    return FileTable(paths, ids, seconds, as_skipped(reasons, ids.__getitem__))


def _read_manifest(source: "Source", folder: Path, label: str, *, with_text: bool) -> FileTable:
    """What a manifest lists, in its order. Lengths it does not say are read from the headers."""
    where = Path(source.path)
    try:
        recordings = list(read_manifest(where))
    except (OSError, ManifestError) as error:
        raise TrainingDataError(f"{where}: the manifest cannot be read ({error})") from error
    paths = [one.path for one in recordings]
    ids = [label + _relative(one.path, where.parent) for one in recordings]
    seconds = np.array([np.nan if one.duration is None else one.duration for one in recordings], np.float64)
    unknown = np.flatnonzero(np.isnan(seconds))
    table = FileTable(paths, ids, seconds, [], [one.speaker for one in recordings])
    if len(unknown):
        cache = DurationCache(folder, str(where.resolve()))
        seconds[unknown], reasons = file_durations([paths[index] for index in unknown], cache)
        table.problems = as_skipped(reasons, lambda number: ids[unknown[number]])
    table.rates = [one.sample_rate for one in recordings]
    table.transcripts = _transcripts(source, recordings, with_text=with_text)
    return table


def _relative(path: Path, folder: Path) -> str:
    """The path as the manifest has it: reports are about the data, not about where a machine keeps it."""
    text, start = str(path), str(folder) + os.sep
    return text[len(start) :] if text.startswith(start) else text


def _transcripts(source: "Source", recordings: list[Recording], *, with_text: bool) -> list[str | None] | None:
    column = source.text_column
    if column is None or column == "transcript":
        texts = [one.transcript for one in recordings]
    else:
        texts = [one.others.get(column) for one in recordings]
    if all(text is None for text in texts):
        if (with_text or column is not None) and recordings:
            raise TrainingDataError(
                f"{source.path}: the manifest has no column `{column or 'transcript'}` with transcripts"
            )
        return None
    return texts
