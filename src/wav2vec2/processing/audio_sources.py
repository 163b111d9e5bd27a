"""Where audio comes from, and what a decoder makes of it: a source, as one seekable stream with a name, and an opened
recording, as blocks of samples.

Shapes: n samples of a block, C channels.
"""

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

#: What `load_audio` and its kin read.
Source: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]

#: Endings of the files that are taken from a folder. A file that is named itself may be called anything.
AUDIO_ENDINGS = frozenset(
    {
        ".wav",
        ".flac",
        ".mp3",
        ".ogg",
        ".oga",
        ".opus",
        ".m4a",
        ".mp4",
        ".aac",
        ".webm",
        ".mkv",
        ".mov",
        ".wma",
        ".aif",
        ".aiff",
        ".au",
        ".amr",
        ".caf",
        ".3gp",
    }  # fmt: skip
)

#: A stream that cannot seek is copied: in memory up to the first size, on disk up to the second.
_SPOOLED_IN_MEMORY = 64 * 2**20
_SPOOLED_AT_MOST = 4 * 2**30

#: Values (samples times channels) that are decoded at once: little enough that of a truncated file little is lost,
#: enough that the cost of a call does not matter.
VALUES_PER_BLOCK = 2**14

#: What a header may claim. Beyond it, resampling would turn a small file into a huge array, or channels would.
LOWEST_RATE, HIGHEST_RATE, MOST_CHANNELS = 1_000, 1_000_000, 1024


class AudioError(ValueError):
    """Audio that cannot be used: which, and why. `source` names the file, `reason` says what is wrong with it."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(source, reason)  # both, so that the error survives the way back from a worker process
        self.source = source
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


class UnreadableFormatError(Exception):
    """libsndfile cannot read this file, or not all of it: another decoder may."""


@dataclass(frozen=True)
class AudioSource:
    """An opened source: what errors call it, its bytes, and the `path` where it lies on disk, if it does, for programs
    that open it themselves."""

    name: str
    stream: BinaryIO
    path: str | None


def name_of(source: Source) -> str:
    """The name by which errors call a source."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return f"<{len(source)} bytes>"
    name = getattr(source, "name", None)
    return name if isinstance(name, str) and name else f"<{type(source).__name__}>"


@contextmanager
def open_source(source: Source) -> Iterator[AudioSource]:
    """Open what `source` names. File objects are read from their beginning and stay open.

    Raises `OSError` for a file that cannot be opened, `AudioError` for an empty one, `ValueError` for anything that is
    no source, such as an array.
    """
    name = name_of(source)
    path: str | None = None
    stream: BinaryIO
    with ExitStack() as stack:
        if isinstance(source, str | os.PathLike):
            stream, path = stack.enter_context(open(source, "rb")), os.path.abspath(source)
        elif isinstance(source, bytes | bytearray | memoryview):
            stream = io.BytesIO(source)
        elif callable(getattr(source, "read", None)) and not isinstance(source, io.TextIOBase):
            stream = cast(BinaryIO, source)
        else:
            raise ValueError(_not_a_source(source))
        if not _can_seek(stream):
            stream, path = stack.enter_context(_copied(stream, name)), None
        stream.seek(0, os.SEEK_END)
        if stream.tell() == 0:
            raise AudioError(name, "the file is empty (0 bytes)")
        stream.seek(0)
        yield AudioSource(name, stream, path)


def _not_a_source(source: object) -> str:
    if isinstance(source, io.TextIOBase):
        return f"{name_of(cast(Any, source))} is open as text: audio is bytes, open it with mode 'rb'"
    wanted = "a path, the bytes of an audio file, or a file object opened with mode 'rb'"
    if hasattr(source, "shape") or isinstance(source, list | tuple):
        return f"got samples ({type(source).__name__}) instead of {wanted}: use resample(array, from_rate, to_rate)"
    return f"got {type(source).__name__} instead of {wanted}"


def _can_seek(stream: BinaryIO) -> bool:
    seekable = getattr(stream, "seekable", None)
    return hasattr(stream, "seek") and (seekable is None or bool(seekable()))


@contextmanager
def _copied(stream: BinaryIO, name: str) -> Iterator[BinaryIO]:
    """A copy that can seek, of a stream that cannot."""
    with tempfile.SpooledTemporaryFile(max_size=_SPOOLED_IN_MEMORY) as copy:
        copied = 0
        while chunk := stream.read(2**20):
            copied += len(chunk)
            if copied > _SPOOLED_AT_MOST:
                raise AudioError(name, f"a stream of more than {_SPOOLED_AT_MOST} bytes; save it to a file first")
            copy.write(chunk)
        yield cast(BinaryIO, copy)


@dataclass(frozen=True)
class OpenRecording:
    """Samples as they are in the file, block by block."""

    #: What errors call the recording.
    name: str
    #: Samples a second.
    rate: int
    #: How many channels it has.
    channels: int
    #: Arrays (n, C) from where the recording was opened to its end. They end in an `AudioError` if the file turns out
    #: to be cut off or corrupt.
    blocks: Iterator[NDArray[np.float32]]

    def __post_init__(self) -> None:
        check_header(self.name, self.rate, self.channels)


def check_header(name: str, rate: int, channels: int) -> None:
    """Raise `AudioError` if a header claims a rate or a number of channels that no recording has."""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise AudioError(name, f"its header claims {rate} samples a second: corrupt")
    if not 1 <= channels <= MOST_CHANNELS:
        raise AudioError(name, f"its header claims {channels} channels: corrupt")
