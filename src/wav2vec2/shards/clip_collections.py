"""Collections of clips, cut into units that can be read one without the others: shards and blocks of a manifest's rows.

What is named may be a file, a folder of shards, a pattern, or any of these as an address that fsspec knows. A shard of
a store is fetched once, whole, into a temporary file; manifests and what they name lie on this machine's disks.
"""

import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from wav2vec2.processing.audio_sources import AUDIO_ENDINGS
from wav2vec2.processing.manifests import ManifestError, columns_of, recording_of, text_of_line
from wav2vec2.shards.column_names import ID_COLUMNS, first_of
from wav2vec2.shards.found_clips import encoded_in
from wav2vec2.shards.shard_listing import MANIFEST_ENDING, SHARD_ENDINGS, shards_of
from wav2vec2.shards.storage import Storage, is_url
from wav2vec2.shards.tar_shards import audio_in, opened_tar

#: The rows, and the seconds of audio, after which a block of a manifest ends.
BLOCK_ROWS, BLOCK_SECONDS = 500, 7200.0

#: Rows of a parquet file that are in memory at once.
_ROWS_AT_ONCE = 16


@dataclass(frozen=True)
class Clip:
    """A clip by its name: the bytes of its file or the path to it, or the `error` for which there is neither."""

    id: str
    content: bytes | Path | None = None
    error: str | None = None


@dataclass(frozen=True)
class Unit:
    """What one process reads at a time."""

    #: The path or the URL of the shard, or of the manifest.
    source: str
    #: Its name below what was given, which is the same on every machine: `de/train-00.parquet`, or with the first and
    #: the last line of a block `clips.tsv.000000002-000000501`.
    place: str
    #: Of a manifest: the byte where the block begins, the number of its first line, and how many lines it has.
    block: tuple[int, int, int] | None = None
    #: Of a shard: "parquet", "tar" or "shar".
    layout: str = ""

    def clips(self) -> Iterator[Clip]:
        """Its clips in order. Where the rest of a shard cannot be read, the last one has its name and the error.

        An OSError or a ShardError says that it could not be reached now, which a later attempt may do.
        """
        if self.block is not None:
            yield from _manifest_clips(Path(self.source), *self.block)
            return
        with _local(self.source) as path:
            try:
                if self.layout == "parquet":
                    yield from _parquet_clips(path, PurePosixPath(self.place).name)
                else:
                    yield from _tar_clips(path, self.layout)
            except (ValueError, OSError, EOFError, tarfile.TarError, zlib.error) as error:
                if getattr(error, "errno", None) is not None:
                    raise
                reason = " ".join(str(error).split()).removesuffix(".")
                yield Clip(self.source, error=f"{self.source}: the shard is damaged from here on: {reason}")


def are_collections(given: Sequence[str]) -> bool:
    """Whether these name collections; files of audio beside collections are a ValueError."""
    kinds = {one: _is_collection(one) for one in given}
    if len(set(kinds.values())) > 1:
        shards, audio = (next(one for one in given if kinds[one] is kind) for kind in (True, False))
        raise ValueError(f"{shards} is a collection of clips and {audio} is not: do them in two runs")
    return any(kinds.values())


def units_of(given: Sequence[str]) -> list[Unit]:
    """The units of all that is named, in order."""
    units = [unit for one in given for unit in _units_of(one)]
    places: dict[str, str] = {}
    for unit in units:
        if unit.place in places:
            raise ValueError(
                f"{places[unit.place]} and {unit.source}: both are called {unit.place}; do them in two runs"
            )
        places[unit.place] = unit.source
    return units


def _is_collection(given: str) -> bool:
    path = Path(given)
    if is_url(given) or (given.endswith((*SHARD_ENDINGS, MANIFEST_ENDING)) and not path.is_dir()):
        return True
    if not path.is_dir():
        return any(sign in given for sign in "*?[") and not path.exists()
    names = [one.name for one in path.rglob("*")]
    shard = next((name for name in names if name.endswith(SHARD_ENDINGS)), None)
    audio = next((name for name in names if PurePosixPath(name).suffix.lower() in AUDIO_ENDINGS), None)
    if shard is not None and audio is not None:
        raise ValueError(f"{given}: holds shards ({shard}) and files of audio ({audio}): name those you mean")
    return shard is not None


def _units_of(given: str) -> Iterator[Unit]:
    if given.endswith(MANIFEST_ENDING) and not is_url(given):
        yield from _manifest_blocks(Path(given))
        return
    storage = Storage(given)
    for shard in shards_of(given, storage, manifests=False):
        yield Unit(shard.url, storage.place(shard.url, given), layout=shard.layout)


def _manifest_blocks(path: Path) -> Iterator[Unit]:
    """Blocks of so many rows, or of so many hours where the manifest has durations."""
    with path.open("rb") as file:
        header = file.readline()
        columns = columns_of(path, text_of_line(path, 1, header))
        begin, first, end, rows, seconds = len(header), 2, len(header), 0, 0.0
        for line in file:
            end += len(line)
            rows += 1
            seconds += _declared_seconds(line, columns)
            if rows == BLOCK_ROWS or seconds >= BLOCK_SECONDS:
                yield _block(path, begin, first, rows)
                begin, first, rows, seconds = end, first + rows, 0, 0.0
    if rows:
        yield _block(path, begin, first, rows)
    if end == len(header):
        raise ManifestError(f"{path}: has no lines below its header")


def _block(path: Path, begin: int, first: int, rows: int) -> Unit:
    return Unit(str(path), f"{path.name}.{first:09d}-{first + rows - 1:09d}", (begin, first, rows))


def _declared_seconds(line: bytes, columns: list[str]) -> float:
    """What a line says of its length, where it does; what is wrong with it is told when its turn comes."""
    if "duration" not in columns:
        return 0.0
    try:
        return float(line.split(b"\t")[columns.index("duration")])
    except (ValueError, IndexError):
        return 0.0


def _manifest_clips(path: Path, begin: int, first: int, rows: int) -> Iterator[Clip]:
    with path.open("rb") as file:
        columns = columns_of(path, text_of_line(path, 1, file.readline()))
        file.seek(begin)
        for number, line in zip(range(first, first + rows), file, strict=False):
            if line.strip():
                yield _clip_of_line(path, columns, number, line)


def _clip_of_line(path: Path, columns: list[str], number: int, line: bytes) -> Clip:
    try:
        text = text_of_line(path, number, line)
        recording = recording_of(path, columns, number, text)
    except ManifestError as error:
        return Clip(f"{path}, line {number}", error=str(error))
    return Clip(recording.others.get("id") or text.split("\t")[columns.index("path")], recording.path)


def _parquet_clips(path: Path, name: str) -> Iterator[Clip]:
    try:
        from wav2vec2.shards.parquet_shards import rows_of
    except ImportError as error:
        raise ImportError("parquet is read by pyarrow, which is not installed: pip install pyarrow") from error
    for number, row in enumerate(rows_of(path, "audio", ID_COLUMNS, _ROWS_AT_ONCE)):
        id = first_of(ID_COLUMNS, row)
        yield _clip_of_row(row["audio"], None if id is None else row[id], f"{name}:{number}")


def _clip_of_row(audio: Any, id: object, otherwise: str) -> Clip:
    """Audio is bytes, or what `datasets` writes: {"bytes": ..., "path": ...}. Without a name, its path is one."""
    path = audio.get("path") if isinstance(audio, dict) else None
    content = encoded_in(audio)
    name = str(id if id is not None else path or otherwise)
    if content is None:
        return Clip(name, error=f"{name}: no bytes of audio in this row")
    return Clip(name, content)


def _tar_clips(path: Path, layout: str) -> Iterator[Clip]:
    """Those of a tar, compressed or not, by the names that an index would have for them."""
    with path.open("rb") as file, opened_tar(file, "r|*") as archive:
        for member, name in audio_in(archive, layout):
            stream = archive.extractfile(member)
            content = b"" if stream is None else stream.read()
            if len(content) < member.size:
                raise tarfile.ReadError(f"cut off in {member.name}")
            yield Clip(name, content)


@contextmanager
def _local(source: str) -> Iterator[Path]:
    """The shard as a file on this machine."""
    if not is_url(source):
        yield Path(source)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard"
        Storage(source).fetch(source, path)
        yield path
