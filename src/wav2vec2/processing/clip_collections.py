"""Collections of clips, cut into units that can be read one without the others: shards (parquet files with a column of
encoded audio, WebDataset tars) and blocks of a manifest's rows.

What is named may be a file, a folder of shards, a pattern, or any of these as a URL that fsspec knows (`s3://`,
`gs://`, `hf://`, `https://`, `memory://`). A shard behind a URL is fetched once, whole, into a temporary file;
manifests and what they name lie on this machine's disks.
"""

import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from wav2vec2.processing.audio_sources import AUDIO_ENDINGS
from wav2vec2.processing.manifests import ManifestError, columns_of, recording_of, text_of_line

#: What a shard ends in, and how many bytes into a file its first bytes are.
_TAR_ENDINGS = (".tar", ".tar.gz", ".tgz")
SHARD_ENDINGS = (".parquet", *_TAR_ENDINGS)
MANIFEST_ENDING = ".tsv"

#: Columns in which a clip's name is looked for.
_ID_COLUMNS = ("id", "key", "__key__")

#: The rows, and the seconds of audio, after which a block of a manifest ends.
BLOCK_ROWS, BLOCK_SECONDS = 500, 7200.0

#: Rows of a parquet file that are in memory at once; seconds between the attempts to fetch a shard.
_ROWS_AT_ONCE, _PAUSES = 16, (1.0, 5.0)


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

    def clips(self) -> Iterator[Clip]:
        """Its clips in order. Where the rest of a shard cannot be read, the last one has its name and the error.

        An OSError says that it could not be reached now, which a later attempt may do.
        """
        if self.block is not None:
            yield from _manifest_clips(Path(self.source), *self.block)
            return
        with _local(self.source) as path:
            name = PurePosixPath(self.place).name
            try:
                yield from _parquet_clips(path, name) if name.endswith(".parquet") else _tar_clips(path)
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
    if "://" in given or (given.endswith((*SHARD_ENDINGS, MANIFEST_ENDING)) and not path.is_dir()):
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
    from fsspec.core import url_to_fs

    if given.endswith(MANIFEST_ENDING) and "://" not in given:
        yield from _manifest_blocks(Path(given))
        return
    files, root = url_to_fs(given)
    if files.isdir(root):
        found = {one: one.removeprefix(root).lstrip("/") for one in files.find(root) if one.endswith(SHARD_ENDINGS)}
    else:
        paths = files.glob(root) if any(sign in root for sign in "*?[") else [root] * files.exists(root)
        found = {one: PurePosixPath(one).name for one in paths}
    if not found:
        raise FileNotFoundError(f"{given}: no shards there (files that end in {', '.join(SHARD_ENDINGS)})")
    for path, place in sorted(found.items()):
        if not path.endswith(SHARD_ENDINGS):
            raise ValueError(f"{path}: no shard: it does not end in {', '.join(SHARD_ENDINGS)}")
        yield Unit(files.unstrip_protocol(path) if "://" in given else path, place)


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
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ImportError("parquet is read by pyarrow, which is not installed: pip install pyarrow") from error
    with ParquetFile(path) as file:
        columns = file.schema_arrow.names
        if "audio" not in columns:
            raise ValueError(f"it has no column `audio` (its columns: {', '.join(columns)})")
        names = next((one for one in _ID_COLUMNS if one in columns), None)
        wanted = ["audio"] if names is None else ["audio", names]
        number = 0
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=wanted):
            for row in batch.to_pylist():
                yield clip_of_row(row["audio"], None if names is None else row[names], f"{name}:{number}")
                number += 1


def clip_of_row(audio: Any, id: object, otherwise: str) -> Clip:
    """Audio is bytes, or what `datasets` writes: {"bytes": ..., "path": ...}. Without a name, its path is one."""
    path = audio.get("path") if isinstance(audio, dict) else None
    content = audio.get("bytes") if isinstance(audio, dict) else audio
    name = str(id if id is not None else path or otherwise)
    if not isinstance(content, bytes):
        return Clip(name, error=f"{name}: no bytes of audio in this row")
    return Clip(name, content)


class _Member(tarfile.TarInfo):
    """A member of an archive that has to be whole: Python's reader takes a broken header for the archive's end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_Member":
        """The next member."""
        try:
            return super().fromtarfile(archive)
        except tarfile.HeaderError as error:
            if isinstance(error, tarfile.EOFHeaderError):  # type: ignore[attr-defined]
                raise
            raise tarfile.ReadError(f"cut off or corrupt at byte {archive.offset}") from error


def _tar_clips(path: Path) -> Iterator[Clip]:
    """Of WebDataset's samples those members that are audio, by their key: the name up to the first dot."""
    with tarfile.open(path, "r|*", tarinfo=_Member) as archive:
        for member in archive:
            place = PurePosixPath(member.name)
            if not member.isfile() or place.suffix.lower() not in AUDIO_ENDINGS or place.name.startswith("."):
                continue
            stream = archive.extractfile(member)
            content = b"" if stream is None else stream.read()
            if len(content) < member.size:
                raise tarfile.ReadError(f"cut off in {member.name}")
            yield Clip(str(place.with_name(place.name.partition(".")[0])), content)


@contextmanager
def _local(source: str) -> Iterator[Path]:
    """The shard as a file on this machine."""
    if "://" not in source:
        yield Path(source)
        return
    from fsspec.core import url_to_fs

    with tempfile.TemporaryDirectory() as folder:
        files, remote = url_to_fs(source)
        local = Path(folder) / "shard"
        _in_several_attempts(lambda: _fetch(files, remote, local), source)
        yield local


def _fetch(files: Any, remote: str, local: Path) -> None:
    files.get_file(remote, str(local))
    if (size := files.size(remote)) not in (None, local.stat().st_size):
        raise OSError(f"{local.stat().st_size} of {size} bytes came")


def _in_several_attempts(fetch: Callable[[], object], source: str) -> None:
    for pause in (*_PAUSES, None):
        try:
            fetch()
        except Exception as error:  # every storage has errors of its own
            if pause is None or isinstance(error, FileNotFoundError):
                raise OSError(f"{source}: could not be fetched: {error}") from error
            time.sleep(pause)
        else:
            return
