"""Files anywhere that fsspec reaches: a disk, `s3://`, `gs://`, `hf://`, `http(s)://`, `memory://`.

What is asked for comes whole or ends in a `ShardError`: connections that are cut, servers that answer with an error and
those that never answer are asked again, from the byte on that was reached.
"""

import io
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO

#: Seconds before a file is asked for again.
_WAITS = (0.1, 0.3, 1.0, 3.0, 9.0)

#: Bytes that are read at once where a remote file is read from its beginning to its end.
_BLOCK = 4 * 2**20

#: What a store calls that which is another when the content of a file is; the first that there is.
_STAMPS = ("ETag", "etag", "blob_id", "mtime", "LastModified", "last_modified", "updated", "created")

#: Many files in one address, as WebDataset writes it: `clips-{000..127}.tar`.
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


class ShardError(ValueError):
    """Shards, or an index of them, that cannot be used: which, why, and what would be right."""


#: The stamp of a file that was named and is not there.
MISSING = "missing"


@dataclass(frozen=True)
class StoredFile:
    """A file: its `url` (a path, of the disk), its `size` in bytes, and a `stamp` that changes with its content."""

    url: str
    size: int
    stamp: str


class Storage:
    """The file system that an address is on. It goes to other processes as it is."""

    def __init__(self, url: str) -> None:
        try:
            core: Any = import_module("fsspec.core")
            self._files = core.url_to_fs(url)[0]
        except ImportError as error:
            raise ShardError(f'{url}: {error}; for s3:// pip install "wav2vec2[cloud]"') from error
        except ValueError as error:
            raise ShardError(f"{url}: {error}") from error

    @property
    def local(self) -> bool:
        """Whether the files lie on a disk of this machine."""
        protocol = self._files.protocol
        return "file" in ((protocol,) if isinstance(protocol, str) else protocol)

    def find(self, source: str) -> list[StoredFile]:
        """The files that an address means (a file, all files below a folder, or a pattern), in order of their names.

        One that is named and is not there has the stamp `MISSING`."""
        found: dict[str, Any] = {}
        for address in _expanded(source):
            path = self._files._strip_protocol(address)
            if "*" in address or "?" in address or "[" in address:
                found |= _again(lambda path=path: self._files.glob(path, detail=True), address)
            else:
                found |= _again(lambda path=path: self._named(path), address)
        files = [self._stored(path, info) for path, info in found.items() if info.get("type", "file") == "file"]
        return sorted(files, key=lambda one: one.url)

    def _named(self, path: str) -> dict[str, Any]:
        """A file, or all files below a folder. A server at fault may call what is there no file: it is asked twice."""
        if self._files.isfile(path):
            return {path: self._files.info(path)}
        try:
            below = dict(self._files.find(path, detail=True))
        except FileNotFoundError:
            below = {}
        if below or self._files.isdir(path):
            return below
        return {path: self._files.info(path) if self._files.exists(path) else {_STAMPS[0]: MISSING}}

    def _stored(self, path: str, info: dict[str, Any]) -> StoredFile:
        stamp = next((str(info[name]) for name in _STAMPS if info.get(name)), "")
        return StoredFile(self._url(path), int(info.get("size") or 0), stamp)

    def _url(self, path: str) -> str:
        return path if self.local else str(self._files.unstrip_protocol(path))

    def place(self, url: str, source: str) -> str:
        """The name of a file below the folder that a source is, or its own."""
        root = self._url(self._files._strip_protocol(source)).rstrip("/") + "/"
        return url.removeprefix(root) if url.startswith(root) else url.rpartition("/")[2]

    def open(self, url: str) -> BinaryIO:
        """A file to be read from its beginning on; what is skipped in steps of some megabytes is not read."""
        if self.local:
            return open(url, "rb")
        size = int(_again(lambda: self._files.info(url), url)["size"])
        return io.BufferedReader(Ranges(self, url, size), _BLOCK)

    def fetch(self, url: str, path: Path) -> None:
        """Write a file, all of it, to a path of this machine; its server need not know ranges."""

        def once() -> None:
            self._files.get_file(self._files._strip_protocol(url), str(path))
            if (size := self._files.size(url)) not in (None, came := path.stat().st_size):
                raise OSError(f"{came} of {size} bytes came")

        _again(once, url)

    def read(self, url: str, start: int, end: int) -> bytes:
        """The bytes of a file from `start` up to `end`: all of them."""
        if self.local:
            with open(url, "rb") as stream:
                stream.seek(start)
                return _whole(stream.read(end - start), url, start, end)
        got = bytearray()

        def rest() -> None:
            got.extend(self._files.cat_file(url, start=start + len(got), end=end))
            if len(got) < end - start:
                raise OSError(f"cut off after byte {start + len(got)}")

        if end > start:
            _again(rest, url)
        return _whole(bytes(got), url, start, end)


class Ranges(io.RawIOBase):
    """A stored file of this `size` as a stream, of which nothing is read but what is asked for, and that whole."""

    def __init__(self, storage: Storage, url: str, size: int) -> None:
        self._storage, self._url, self._size, self._at = storage, url, size, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where it stands."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Stand elsewhere."""
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        """The next bytes, as many as there is room for."""
        content = self._piece(self._at, max(self._at, min(self._size, self._at + len(buffer))))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def _piece(self, start: int, end: int) -> bytes:
        return self._storage.read(self._url, start, end)


def _whole(content: bytes, url: str, start: int, end: int) -> bytes:
    if len(content) == end - start:
        return content
    raise ShardError(
        f"{url}: {len(content)} bytes where bytes {start} to {end} were asked for: the file has changed since it was "
        "indexed (index it again), or its server takes no ranges"
    )


def _again(ask: Any, url: str) -> Any:
    """What `ask` returns, asked again where the network or the server is at fault."""
    for wait in (*_WAITS, None):
        try:
            return ask()
        except (FileNotFoundError, PermissionError, IsADirectoryError, NotImplementedError, MemoryError) as error:
            raise ShardError(f"{url}: {_reason(error)}") from error
        except Exception as error:
            if wait is None:
                raise ShardError(f"{url}: asked {len(_WAITS) + 1} times: {_reason(error)}") from error
            time.sleep(wait)
    raise AssertionError


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _expanded(source: str) -> Iterator[str]:
    """Each address that one with ranges in braces stands for."""
    pieces = _RANGE.split(source)
    if len(pieces) == 1:
        yield source
        return
    ranges = [
        [f"{number:0{len(low)}}" for number in range(int(low), int(high) + 1)]
        for low, high in zip(pieces[1::3], pieces[2::3], strict=True)
    ]
    for numbers in product(*ranges):
        yield "".join(text for pair in zip(pieces[::3], (*numbers, ""), strict=True) for text in pair)


def is_url(source: str | Path) -> bool:
    """Whether a source is an address of a store rather than a path of this machine."""
    return re.match(r"[a-z][a-z0-9+.-]*://", str(source)) is not None
