"""Fragments of shards on the disk of this machine, up to a limit: the ones that were used longest ago make room.

All processes of a machine share one cache. A fragment is fetched by the first that needs it while the others that do
wait, and has its name only when it is whole. What one process has opened it can read to the end, whatever makes room.

A file is the number of its clips, where each ends, and their bytes one behind the other.
"""

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from wav2vec2.files.replaced_file import replaced_file

try:
    import fcntl
except ImportError:  # Windows: processes may then fetch the same fragment at the same time, each of them whole
    fcntl = None  # type: ignore[assignment]

_ENDING = ".clips"

#: So many fragments can be fetched at the same time by all processes together.
_LOCKS = 256

#: A fragment that others throw out as soon as it is there is fetched so often before that is an error.
_ATTEMPTS = 5


class FragmentCache:
    """The fragments in `folder`, at most `limit` bytes of them."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit

    def clip(self, key: str, number: int, fetch: Callable[[], Sequence[bytes]]) -> bytes:
        """One clip of a fragment, which is fetched if it is not here. `key` is hexadecimal, and another one when the
        content is."""
        path = self.folder / f"{key}{_ENDING}"
        for _ in range(_ATTEMPTS):
            found = _read(path, number)
            if found is not None:
                return found
            fetched = self._fetched(path, fetch)
            if fetched is not None:
                return fetched[number]
        raise OSError(f"{self.folder}: full, and what is put there is thrown out at once: raise data.shard_cache_gib")

    def holds(self, key: str) -> bool:
        """Whether a fragment is here."""
        return (self.folder / f"{key}{_ENDING}").exists()

    def fetch(self, key: str, fetch: Callable[[], Sequence[bytes]]) -> None:
        """Have a fragment here before its clips are asked for."""
        self._fetched(self.folder / f"{key}{_ENDING}", fetch)

    def _fetched(self, path: Path, fetch: Callable[[], Sequence[bytes]]) -> Sequence[bytes] | None:
        """The clips of a fragment that had to be fetched; None where another process did that in the meantime."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with _locked(self.folder / f"{int(path.name[:4], 16) % _LOCKS}.lock"):
            if path.exists():
                return None
            clips = fetch()
            ends = np.cumsum([len(clip) for clip in clips], dtype=np.int64)
            head = struct.pack("<q", len(clips)) + ends.astype("<i8").tobytes()
            with _locked(self.folder / "room.lock"):
                if self._make_room(len(head) + int(ends[-1]) if len(clips) else len(head)):
                    with replaced_file(path) as file:
                        file.writelines([head, *clips])
            return clips

    def _make_room(self, wanted: int) -> bool:
        """Throw out what was used longest ago until `wanted` bytes fit in; whether they can."""
        if wanted > self.limit:
            return False
        found = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.endswith((_ENDING, ".partial")):
                    with suppress(FileNotFoundError):
                        status = entry.stat()
                        # what a killed process left half written was used never
                        used = 0 if entry.name.endswith(".partial") else status.st_mtime_ns
                        found.append((used, status.st_size, entry.path))
        taken = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if taken + wanted <= self.limit:
                break
            with suppress(FileNotFoundError):
                os.unlink(path)
            taken -= size
        return True


def _read(path: Path, number: int) -> bytes | None:
    """A clip of a fragment that is here. One that is damaged (the power failed) is removed, and is not here."""
    try:
        with path.open("rb") as file:
            os.utime(file.fileno() if os.utime in os.supports_fd else path)
            (count,) = struct.unpack("<q", file.read(8))
            ends = np.fromfile(file, "<i8", count)
            if os.fstat(file.fileno()).st_size != 8 + 8 * count + int(ends[-1] if count else 0):
                raise ValueError("not as long as it says")
            begin = int(ends[number - 1]) if number else 0
            file.seek(begin, os.SEEK_CUR)
            return file.read(int(ends[number]) - begin)
    except FileNotFoundError:
        return None
    except (struct.error, ValueError, IndexError):
        path.unlink(missing_ok=True)
        return None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file that one process at a time, and one thread of it, can hold; it is let go however the process ends."""
    if fcntl is None:
        yield
        return
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
