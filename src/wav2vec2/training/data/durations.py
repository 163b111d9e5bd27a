"""How long recordings are: read from their headers once, several at a time, and kept in a file for the next start.

A training run needs the length of every clip before it can make batches. Reading 100,000 headers takes minutes on a
network disk, so each is read once: the cache holds, for every file, its size and time of change beside its length, and
an entry counts only while both are what they were.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.processing.audio_files import audio_duration
from wav2vec2.training.data.audio_clips import Skipped
from wav2vec2.training.data.clip_tables import DatasetTable, FileTable

#: Headers read at once: most of the time of each is waiting for the disk.
_THREADS = 8

#: Headers handed to the threads at a time, so that the bytes of a whole data set are never in memory together.
_AT_ONCE = 256

#: What an entry is compared by: size in bytes and time of change in nanoseconds.
Stamp = tuple[int, int]


class DurationCache:
    """Seconds by name, as one file for each source of a run.

    Processes that start together may write it together; none of them ever reads half a file. Its first line is the
    hash of the rest: a damaged file is reported, ignored and written anew.
    """

    def __init__(self, folder: Path | str | None, source: str) -> None:
        """`source` is what the durations are of: a path, or the fingerprint of a data set. Without a `folder` they are
        kept in the user's cache folder (XDG base directories)."""
        if not folder:
            folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wav2vec2" / "durations"
        self.path = Path(folder) / f"{hashlib.sha256(source.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.json"
        self._entries: dict[str, tuple[int, int, float]] | None = None
        self._changed = False

    def get(self, name: str, stamp: Stamp) -> float | None:
        """The seconds of `name`, None if they are not known or the file has changed since."""
        entry = self._loaded().get(name)
        return entry[2] if entry is not None and (entry[0], entry[1]) == stamp else None

    def put(self, name: str, stamp: Stamp, seconds: float) -> None:
        """Remember the seconds of `name`; `save` writes them."""
        self._loaded()[name] = (*stamp, seconds)
        self._changed = True

    def save(self) -> None:
        """Write what is new. A folder that cannot be written to costs the next start time, and this one a warning."""
        if not self._changed:
            return
        body = json.dumps(self._loaded()).encode("ascii")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replaced_file(self.path, shared=True) as stream:
                stream.write(hashlib.sha256(body).hexdigest().encode("ascii") + b"\n" + body)
        except OSError as error:
            warnings.warn(f"{self.path}: durations could not be kept for the next start ({error})", stacklevel=2)
        else:
            self._changed = False

    def _loaded(self) -> dict[str, tuple[int, int, float]]:
        if self._entries is None:
            self._entries = self._read()
        return self._entries

    def _read(self) -> dict[str, tuple[int, int, float]]:
        try:
            digest, _, body = self.path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return {}
        except OSError as error:
            warnings.warn(f"{self.path}: the cache of durations cannot be read ({error})", stacklevel=2)
            return {}
        if hashlib.sha256(body).hexdigest().encode("ascii") != digest:
            warnings.warn(f"{self.path}: the cache of durations is damaged; headers are read again", stacklevel=2)
            return {}
        return {name: (size, changed, seconds) for name, (size, changed, seconds) in json.loads(body).items()}


def measure(table: FileTable | DatasetTable, cache: DurationCache) -> None:
    """Put in the seconds that a table lacks, from the cache or the headers; what cannot be read joins its problems."""
    reasons: dict[int, str] = {}
    entries: dict[int, tuple[str, Stamp]] = {}
    for index in np.flatnonzero(np.isnan(table.seconds)).tolist():
        try:
            name, stamp = table.entry(index)
        except (OSError, ValueError) as error:
            reasons[index] = reason_of(error)
            continue
        known = cache.get(name, stamp)
        if known is None:
            entries[index] = name, stamp
        else:
            table.seconds[index] = known
    for index, found in read_headers(table.encoded(entries)):
        if isinstance(found, str):
            reasons[index] = found
        else:
            table.seconds[index] = found
            cache.put(*entries[index], found)
    cache.save()
    table.problems += [Skipped(table.id(index), reason) for index, reason in sorted(reasons.items())]


def read_headers(sources: Iterable[tuple[int, Path | bytes]]) -> Iterator[tuple[int, float | str]]:
    """(number, source) -> (number, its seconds, or why it has none), in order, several headers at a time."""
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="headers") as pool:
        remaining = iter(sources)
        while piece := list(islice(remaining, _AT_ONCE)):
            found = pool.map(header_seconds, [source for _, source in piece])
            yield from zip([number for number, _ in piece], found, strict=True)


def header_seconds(source: Path | bytes, read: Callable[[Path | bytes], float] = audio_duration) -> float | str:
    """The seconds of one recording, or why they cannot be read: one bad file never stops the rest."""
    try:
        return read(source)
    except MemoryError:
        raise
    except Exception as error:
        return reason_of(error)


def reason_of(error: Exception) -> str:
    """What is wrong, without the path, which the id of the clip says already."""
    reason = getattr(error, "reason", None)  # of an AudioError
    if isinstance(reason, str):
        return reason
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)) or type(error).__name__
