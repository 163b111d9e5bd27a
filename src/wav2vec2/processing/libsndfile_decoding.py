"""Decoding with libsndfile (through soundfile): WAV, FLAC, MP3, Ogg Vorbis, Opus, AIFF, AU, CAF and more.

Shapes: n samples of a block, C channels.
"""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from wav2vec2.processing.audio_sources import (
    VALUES_PER_BLOCK,
    AudioError,
    AudioSource,
    OpenRecording,
    UnreadableFormatError,
    check_header,
)
from wav2vec2.processing.container_headers import end_of_id3, joined_streams, truncation, xing_header

#: libsndfile says 2^63 - 1 where the header leaves the length open; FLAC has 36 bits for it and all ones are a lie.
_UNKNOWN_FRAMES = 2**36 - 1

#: A Xing header may count the frames that hold the decoder's delay: three frames of 1152 samples.
_MP3_TOLERANCE = 3 * 1152

#: How a MIDI sample dump begins. libsndfile prints what is wrong with one to standard output.
_MIDI_SAMPLE_DUMP = b"\xf0\x7e"


class _Stream:
    """What libsndfile reads from. Its callbacks cannot raise, so a failed read is kept in `failure`.

    Every read goes through here, paths included: libsndfile guesses formats from file name extensions otherwise.
    Without `knows_end` the stream will not say where it ends. Then the MP3 decoder counts the frames instead of
    guessing their number from the first one. It begins at byte `begin`, behind an ID3 tag: libsndfile takes a tagged
    MP3 file for none if its first frame is not one that tells of the others.
    """

    def __init__(self, stream: BinaryIO, knows_end: bool, begin: int) -> None:
        self._stream = stream
        self._knows_end = knows_end
        self._begin = begin
        self.failure: Exception | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END and not self._knows_end:
            return -1
        try:
            return self._stream.seek(offset + (self._begin if whence == os.SEEK_SET else 0), whence) - self._begin
        except (ValueError, OSError, OverflowError):  # a corrupt header sends the decoder before the beginning
            return -1

    def tell(self) -> int:
        return self._stream.tell() - self._begin

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        try:
            data = self._stream.read(len(view)) or b""
            view[: len(data)] = data
        except Exception as failure:
            self.failure = failure
            return 0
        return len(data)

    def raise_failure(self) -> None:
        """Raise the exception that a read ran into, if one did."""
        if self.failure is not None:
            raise self.failure


class _SequentialFile(soundfile.SoundFile):
    """A file that is read from front to back. soundfile would otherwise seek after every block to where it is already,
    which fails at the end of a FLAC file whose header leaves its length open."""

    def seekable(self) -> bool:
        return False


@contextmanager
def decode_with_libsndfile(source: AudioSource, start: int) -> Iterator[OpenRecording]:
    """The recording from second `start`; `UnreadableFormatError` if libsndfile does not know the format."""
    stream, file = _open(source)
    with closing(file):
        yield OpenRecording(source.name, file.samplerate, file.channels, _blocks(source, stream, file, start))


def declared_seconds_by_libsndfile(source: AudioSource) -> float | None:
    """The length in seconds that the header claims; None if it leaves it open."""
    _, file = _open(source)
    with closing(file):
        frames, rate = file.frames, file.samplerate
        check_header(source.name, rate, file.channels)
    if frames >= _UNKNOWN_FRAMES:
        return None
    if reason := truncation(source.stream):
        raise AudioError(source.name, reason)
    return frames / rate


def _open(source: AudioSource) -> tuple[_Stream, soundfile.SoundFile]:
    if joined := joined_streams(source.stream):
        raise UnreadableFormatError(joined)
    source.stream.seek(0)
    if source.stream.read(2) == _MIDI_SAMPLE_DUMP:
        raise UnreadableFormatError("a MIDI sample dump")
    says_length = xing_header(source.stream) is not None  # now: an opened file owns the position in the stream
    stream, file = _open_once(source, knows_end=True)
    if file.format == "MP3" and not says_length:
        file.close()
        stream, file = _open_once(source, knows_end=False)
    return stream, file


def _open_once(source: AudioSource, knows_end: bool) -> tuple[_Stream, soundfile.SoundFile]:
    begin = end_of_id3(source.stream)
    stream = _Stream(source.stream, knows_end, begin)
    source.stream.seek(begin)
    try:
        return stream, _SequentialFile(stream)
    except soundfile.LibsndfileError as error:
        stream.raise_failure()
        raise UnreadableFormatError(truncation(source.stream) or error.error_string.rstrip(".")) from None


def _blocks(
    source: AudioSource, stream: _Stream, file: soundfile.SoundFile, start: int
) -> Iterator[NDArray[np.float32]]:
    """Arrays (n, C) to the end of the file, which must be where the header says."""
    declared, position = file.frames, 0
    try:
        if start:
            position = file.seek(min(start * file.samplerate, declared))
        while len(block := _read(file)):
            position += len(block)
            yield block
    except soundfile.LibsndfileError as error:
        stream.raise_failure()
        seconds = position / file.samplerate
        reason = f"corrupt or truncated: decoding fails at {seconds:.2f} s ({error.error_string.rstrip('.')})"
        raise AudioError(source.name, reason) from None
    stream.raise_failure()
    missing = declared - position
    if declared < _UNKNOWN_FRAMES and missing > (_MP3_TOLERANCE if file.format == "MP3" else 0):
        reason = f"truncated: the header tells of {declared} samples, {position} could be decoded"
        raise AudioError(source.name, reason)
    if cut := truncation(source.stream):
        raise AudioError(source.name, cut)


def _read(file: soundfile.SoundFile) -> NDArray[np.float32]:
    """The next block of samples (n, C); an empty one at the end of the file."""
    frames = max(1, VALUES_PER_BLOCK // file.channels)
    block: NDArray[np.float32] = file.read(out=np.empty((frames, file.channels), np.float32))
    return block
