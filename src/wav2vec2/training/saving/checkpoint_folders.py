"""Folders that are whole or not there: written aside, flushed, listed with checksums, and renamed into place.

    checkpoints/update-00001000/                        a whole checkpoint
    checkpoints/update-00001000/training_state/files.json   its files with sizes and checksums, written last
    checkpoints/.writing-update-00002000-1f2e3d4c/      one being written, or what a kill left of it
    checkpoints/.replaced-update-00001000-1f2e3d4c/     stands in for the one of its name until the new one is there
    checkpoints/.deleting-update-00000500-1f2e3d4c/     one being deleted

Renaming a folder is atomic, so at every instant each name stands for a whole checkpoint or for nothing.
"""

import errno
import json
import logging
import math
import os
import re
import secrets
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

logger = logging.getLogger("wav2vec2")

#: What only resuming needs stands apart from what every user of the model needs.
STATE_FOLDER = "training_state"
_LIST = f"{STATE_FOLDER}/files.json"
_VERSION = 1
_NAME = re.compile(r"update-(\d{8,})|\.replaced-update-(\d{8,})-[0-9a-f]{8}")
_CHUNK = 1 << 22


@dataclass(frozen=True)
class FileList:
    """What `files.json` says: the `update` after which the checkpoint was saved, the `metric` that tells how good it
    is, and which `files` there must be, with their sizes and CRC-32."""

    update: int
    metric: float | None
    files: dict[str, tuple[int, int]]


def name_of(update: int) -> str:
    """The folder of a checkpoint; sorting names sorts updates."""
    return f"update-{update:08d}"


def update_of(folder: Path) -> int | None:
    """The update that a folder's name says, None for a folder that is no checkpoint."""
    match = _NAME.fullmatch(folder.name)
    return int(match[1] or match[2]) if match else None


def checkpoints_in(root: Path) -> list[Path]:
    """The folders under `root` that claim to be checkpoints, newest first, stand-ins after what they stand in for."""
    found = [(update, path.name, path) for path in _entries(root) if (update := update_of(path)) is not None]
    return [path for *_, path in sorted(found, reverse=True)]


def temporary_folder(root: Path, update: int) -> Path:
    """A new folder to write a checkpoint into."""
    if not root.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        _flush_folder(root.parent)
    folder = _aside(root / name_of(update), "writing")
    folder.mkdir()
    try:
        (folder / STATE_FOLDER).mkdir()
    except OSError:
        folder.rmdir()
        raise
    return folder


def seal(folder: Path, update: int, metric: float | None, known: Mapping[str, tuple[int, int]] | None = None) -> None:
    """Put every file on the disk, then the list of them: from now on the folder can be told from a damaged one.

    Those that are `known`, with size and checksum, other processes have put there already.
    """
    files = dict(known or {})
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in files:
            _flush(path)
            files[name] = measured(path)
    usable = metric if metric is not None and math.isfinite(metric) else None
    content = {"version": _VERSION, "update": update, "metric": usable, "files": files}
    text = json.dumps({"content": content, "crc32": zlib.crc32(_canonical(content))}, indent=1)
    with (folder / _LIST).open("w", encoding="utf-8") as file:
        file.write(text)
    _flush(folder / _LIST)
    for place in (*(path for path in folder.rglob("*") if path.is_dir()), folder):
        _flush_folder(place)


def measured(path: Path) -> tuple[int, int]:
    """The size and the checksum of a file."""
    return path.stat().st_size, _checksum(path)


def publish(temporary: Path, final: Path) -> None:
    """Give a sealed folder its name. One that has the name already stands by under another until then."""
    replaced = None
    if final.exists():
        replaced = _aside(final, "replaced")
        os.rename(final, replaced)
    try:
        os.rename(temporary, final)
    except OSError:
        if replaced is not None:
            os.rename(replaced, final)
        raise
    _flush_folder(final.parent)
    if replaced is not None:
        delete(replaced)


def delete(folder: Path) -> None:
    """Delete a checkpoint: it loses its name first, so that a half deleted one is never taken for a whole one."""
    try:
        doomed = _aside(folder, "deleting")
        os.rename(folder, doomed)
        shutil.rmtree(doomed)
    except OSError as error:
        logger.warning("%s: could not be deleted (%s). It takes space, but does no harm.", folder, error)


@contextmanager
def written_aside(target: Path) -> Iterator[Path]:
    """The name of a folder to make, which becomes `target` once it is done, and is gone if it fails."""
    fresh = target.with_name(f".{target.name}-being-written")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        yield fresh
        fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def tidy(root: Path) -> None:
    """Take away what a process that was ended left half written or half deleted.

    A checkpoint that stands by under another name, since its replacement never came, gets its name back.
    """
    for path in _entries(root):
        if path.name.startswith((".writing-update-", ".deleting-update-")):
            shutil.rmtree(path, ignore_errors=True)
        elif path.name.startswith(".replaced-update-") and (update := update_of(path)) is not None:
            final = root / name_of(update)
            if not final.exists():
                os.rename(path, final)
            elif problem_with(final) is None:
                delete(path)


def problem_with(folder: Path, contents: bool = True, share: tuple[int, int] = (0, 1)) -> str | None:
    """What is wrong with a checkpoint, None if it is whole. Without `contents` only sizes are looked at. With a `share`
    (process, processes) only at every so-manieth file: the processes divide a large checkpoint between them."""
    try:
        listed = sorted(read_list(folder).files.items())
        for name, (size, checksum) in listed[share[0] :: share[1]]:
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size} bytes, but was saved with {size}"
            if contents and _checksum(path) != checksum:
                return f"{name} is not what was saved (its CRC-32 differs)"
    except (OSError, ValueError) as error:
        return str(error)
    return None


def read_list(folder: Path) -> FileList:
    """The list of a folder's files. `ValueError` or `OSError` if there is none, or it is damaged."""
    try:
        text = (folder / _LIST).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{_LIST} is missing") from None
    try:
        whole = json.loads(text)
        content = whole["content"]
        if whole["crc32"] != zlib.crc32(_canonical(content)) or content["version"] != _VERSION:
            raise ValueError("its checksum or version does not fit")
        files = {str(name): (int(size), int(crc)) for name, (size, crc) in content["files"].items()}
        if any(".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute() for name in files):
            raise ValueError("it names a file outside the folder")
        return FileList(int(content["update"]), content["metric"], files)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{_LIST} is damaged ({error})") from error


def _entries(root: Path) -> Iterator[Path]:
    return iter(sorted(root.iterdir())) if root.is_dir() else iter(())


def _aside(final: Path, purpose: str) -> Path:
    """A hidden name beside the final one, new each time. (`secrets` leaves the random numbers of the run alone.)"""
    return final.with_name(f".{purpose}-{final.name.removeprefix('.replaced-')}-{secrets.token_hex(4)}")


def _canonical(content: object) -> bytes:
    """The bytes that the checksum of a list is taken of: they do not depend on how the JSON is laid out."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            value = zlib.crc32(chunk, value)
    return value


def _flush(path: Path) -> None:
    """Wait until a file is on the disk."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system knows how (Windows and some shares do not)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
