"""Making an index: every shard is read once, and again only when its file has changed.

A shard that cannot be read is listed with the reason and passed over; the rest is as if it were not there.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa

from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.shards.found_clips import FoundClip
from wav2vec2.shards.manifest_shards import clips_in_manifest
from wav2vec2.shards.parquet_shards import clips_in_parquet
from wav2vec2.shards.shard_index import CLIPS, ENDING, SHARDS, Group, IndexedClip, ShardIndex, about
from wav2vec2.shards.shard_listing import Shard, shards_of
from wav2vec2.shards.storage import MISSING, ShardError, Storage, is_url
from wav2vec2.shards.tar_shards import clips_in_shar, clips_in_tar

#: Shards that are read at once.
_THREADS = 8

#: Clips that are written at once.
_ROWS = 2**17

#: Told now and then: what was done, and which share of all that is.
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class IndexRequest:
    """What is indexed, and which columns of parquet shards are meant."""

    #: Folder, pattern or address of the shards, or a manifest.
    source: str
    #: Of a partitioned data set, the split.
    split: str | None = None
    #: Column of parquet shards that holds the audio.
    audio_column: str = "audio"
    #: Column of parquet shards that holds the transcript; by default a known name.
    text_column: str | None = None


def index_path(request: IndexRequest, cache: Path | str | None = None) -> Path:
    """Where the index of a source is kept: beside it, where that is a folder that can be written to, else in `cache`
    (by default the user's cache folder)."""
    asked = "\0".join(str(one) for one in (request.split, request.audio_column, request.text_column))
    default = asked == "\0".join(("None", "audio", "None"))
    folder = Path(request.source)
    if not is_url(request.source) and folder.is_dir() and os.access(folder, os.W_OK) and default and cache is None:
        return folder / f"wav2vec2.index{ENDING}"
    name = hashlib.sha256(f"{_absolute(request.source)}\0{asked}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return cache_folder(cache) / f"{name}{ENDING}"


def cache_folder(cache: Path | str | None) -> Path:
    """Where indices and fragments are kept."""
    if cache:
        return Path(cache)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wav2vec2" / "shards"


def make_index(request: IndexRequest, path: Path, tell: Progress | None = None) -> ShardIndex:
    """Write the index of a source to `path`, taking what has not changed from the index that is there."""
    source = _absolute(request.source)
    storage = Storage(source)
    shards = shards_of(source, storage, request.split)
    before = _Before(path, source, request)
    path.parent.mkdir(parents=True, exist_ok=True)
    reader = _Reader(storage, request, before)
    with (
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".index-") as folder,
        replaced_file(path, shared=True) as new,
    ):
        written = _written(reader, shards, Path(folder, "rows"), tell)
        _put_together(written, source, request, Path(new.name))
    found = ShardIndex(path)
    if not len(found):
        raise ShardError(f"{request.source}: not one clip in its shards" + _examples(found.problems))
    return found


def current_index(request: IndexRequest, path: Path) -> ShardIndex:
    """The index at `path` if the source has the very shards that it was made of, else a new one. Shards that could not
    be read are not tried again."""
    try:
        index = ShardIndex(path)
    except ShardError:
        return make_index(request, path)
    source = _absolute(request.source)
    listed = {(one.url, one.size, one.stamp) for one in shards_of(source, Storage(source), request.split)}
    indexed = set(zip(*(index.shards[name].to_pylist() for name in ("url", "size", "stamp")), strict=True))
    same = index.source == source and index.audio_column == request.audio_column and listed == indexed
    return index if same and all(stamp for _, _, stamp in listed) else make_index(request, path)


def _examples(problems: list[tuple[str, str]]) -> str:
    return f"; {problems[0][0]}: {problems[0][1]}" if problems else ""


def _absolute(source: str) -> str:
    return source if is_url(source) else os.path.abspath(source)


class _Before:
    """The index that is there already, if it is of the same source."""

    def __init__(self, path: Path, source: str, request: IndexRequest) -> None:
        self._index: ShardIndex | None = None
        self._known: dict[tuple[str, int, str], list[int]] = {}
        try:
            index = ShardIndex(path)
        except ShardError:
            return
        if index.source == source and index.audio_column == request.audio_column:
            self._index = index
            columns = [index.shards[name].to_pylist() for name in ("url", "size", "stamp", "problem")]
            for number, (url, size, stamp, problem) in enumerate(zip(*columns, strict=True)):
                if stamp and problem is None:  # what could not be read is tried again
                    self._known.setdefault((url, size, stamp), []).append(number)

    def pieces(self, shard: Shard) -> list[list[FoundClip]]:
        """The clips of a shard that has not changed, as pieces that are shards of their own; none of another."""
        numbers = self._known.get((shard.url, shard.size, shard.stamp), [])
        return [self._clips(number) for number in numbers]

    def _clips(self, shard: int) -> list[FoundClip]:
        index = self._index
        assert index is not None
        begin, end = index.first[shard : shard + 2].tolist()
        rows = zip(*(index.column(name, begin, end).to_pylist() for name in IndexedClip._fields), strict=True)
        groups = (index.groups[one] for one in index.column("group", begin, end).to_pylist())
        return [
            FoundClip(*[*row[:-1], group.corpus or None, group.language or None, row[-1]])
            for row, group in zip(rows, groups, strict=True)
        ]


@dataclass(frozen=True)
class _Reader:
    storage: Storage
    request: IndexRequest
    before: _Before

    def pieces(self, shard: Shard) -> Iterator[list[FoundClip]] | list[list[FoundClip]] | str:
        """The clips of a shard, or why it cannot be read. A manifest is many pieces, each a shard of its own."""
        known = self.before.pieces(shard)
        if known:
            return known
        if shard.stamp == MISSING:
            return "is not there"
        try:
            if shard.layout == "manifest":
                return clips_in_manifest(shard.url)
            if shard.layout == "shar":
                return [clips_in_shar(self.storage, shard.url, shard.cuts)]
            if shard.layout == "tar":
                return [clips_in_tar(self.storage, shard.url)]
            columns = self.request.audio_column, self.request.text_column
            return [clips_in_parquet(self.storage, shard.url, shard.size, *columns)]
        except MemoryError:
            raise
        except Exception as error:  # whatever a file of other people can bring about
            reason = " ".join(str(error).split()) or type(error).__name__
            return reason.removeprefix(f"{shard.url}: ")


@dataclass(frozen=True)
class _Written:
    """Where the rows are, and what they refer to."""

    rows: Path
    groups: list[Group]
    shards: pa.Table


def _written(reader: _Reader, shards: list[Shard], path: Path, tell: Progress | None) -> _Written:
    """The rows of all shards in a file of their own, some at a time."""
    groups: dict[Group, int] = {}
    about_shards: list[tuple[str, str, int, str, int, str | None]] = []
    waiting: list[tuple[FoundClip, int]] = []
    with pa.ipc.new_file(str(path), CLIPS) as writer, ThreadPoolExecutor(_THREADS) as pool:
        remaining = iter(shards)
        while some := list(islice(remaining, 2 * _THREADS)):
            for shard, pieces in zip(some, pool.map(reader.pieces, some), strict=True):
                fixed = (shard.url, shard.layout, shard.size, shard.stamp)
                if isinstance(pieces, str):
                    about_shards.append((*fixed, 0, pieces))
                    continue
                for clips in pieces:
                    about_shards.append((*fixed, len(clips), None))
                    waiting += _in_groups(shard, clips, groups)
                    if len(waiting) >= _ROWS:
                        writer.write_batch(_batch(waiting))
                        waiting = []
            if tell is not None:
                tell(f"{len(about_shards)} shards", min(1.0, len(about_shards) / len(shards)))
        if waiting:
            writer.write_batch(_batch(waiting))
    columns = list(zip(*about_shards, strict=True))
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SHARDS, strict=True)]
    return _Written(path, list(groups), pa.table(arrays, SHARDS))


def _in_groups(shard: Shard, clips: list[FoundClip], groups: dict[Group, int]) -> list[tuple[FoundClip, int]]:
    """The clips of a shard with the numbers of their groups, in the order in which an index has them."""
    found = []
    for clip in clips:
        group = Group(clip.corpus or shard.corpus or "", clip.language or shard.language or "")
        found.append((clip, groups.setdefault(group, len(groups))))
    return sorted(found, key=lambda one: (one[1], one[0].fragment, one[0].offset))


def _batch(rows: list[tuple[FoundClip, int]]) -> pa.RecordBatch:
    values = [
        [group for _, group in rows] if name == "group" else [getattr(clip, name) for clip, _ in rows]
        for name in CLIPS.names
    ]
    return pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(values, CLIPS, strict=True)], schema=CLIPS
    )


def _put_together(written: _Written, source: str, request: IndexRequest, path: Path) -> None:
    """The index: the rows behind what is said of the shards, which is known when the last one has been read."""
    described = about(source, request.audio_column, written.groups, written.shards)
    with pa.memory_map(str(written.rows)) as rows, pa.ipc.new_file(str(path), CLIPS.with_metadata(described)) as new:
        file = pa.ipc.open_file(rows)
        for number in range(file.num_record_batches):
            new.write_batch(file.get_batch(number).replace_schema_metadata(described))
