"""A manifest (.tsv) as shards: so many of its lines are one, whose clips are files of their own."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from wav2vec2.processing.manifests import Recording, read_manifest
from wav2vec2.shards.column_names import CORPUS_COLUMNS, LABEL_COLUMNS, LANGUAGE_COLUMNS, text_of
from wav2vec2.shards.found_clips import FoundClip, measured

#: Lines of a manifest that are one shard.
_LINES = 1000

#: Headers read at once: most of the time of each is waiting for the disk.
_THREADS = 8


def clips_in_manifest(path: str) -> Iterator[list[FoundClip]]:
    """The clips of a manifest, some at a time, those whose lengths it does not say with the lengths of their files."""
    folder = str(Path(path).parent) + "/"
    recordings = read_manifest(path)
    return _pieces(folder, recordings)


def _pieces(folder: str, recordings: Iterator[Recording]) -> Iterator[list[FoundClip]]:
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="headers") as pool:
        while some := list(islice(recordings, _LINES)):
            unknown = [one.path for one in some if one.duration is None]
            found = dict(zip(unknown, pool.map(measured, unknown), strict=True))
            yield [_clip(folder, one, found) for one in some]


def _clip(folder: str, one: Recording, found: dict[Path, float]) -> FoundClip:
    seconds = found[one.path] if one.duration is None else one.duration
    columns = CORPUS_COLUMNS, LANGUAGE_COLUMNS, LABEL_COLUMNS
    others = [text_of(wanted, one.others) or None for wanted in columns]
    name = str(one.path).removeprefix(folder)
    return FoundClip(name, 0, 0, 0, seconds, one.speaker, one.transcript, *others)
