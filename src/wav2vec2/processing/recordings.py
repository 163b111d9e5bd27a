"""An opened recording: its samples as they are in the file, block by block.

Shapes: n samples of a block, C channels.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wav2vec2.processing.audio_error import AudioError
from wav2vec2.processing.audio_sources import AudioSource, Source, open_source

#: Values (samples times channels) that are decoded at once: little enough that of a truncated file little is lost,
#: enough that the cost of a call does not matter.
VALUES_PER_BLOCK = 2**14

#: What a header may claim. Beyond it, resampling would turn a small file into a huge array, or channels would.
LOWEST_RATE, HIGHEST_RATE, MOST_CHANNELS = 1_000, 1_000_000, 1024


@dataclass(frozen=True)
class Recording:
    """`blocks` gives float32 arrays (n, C) from where the recording was opened to its end, `rate` samples a second.

    The blocks end in an `AudioError` if the file turns out to be cut off or corrupt.
    """

    name: str
    rate: int
    channels: int
    blocks: Iterator[NDArray[np.float32]]

    def __post_init__(self) -> None:
        check_header(self.name, self.rate, self.channels)


def check_header(name: str, rate: int, channels: int) -> None:
    """Raise `AudioError` for what no recording has."""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise AudioError(name, f"its header claims {rate} samples a second: corrupt")
    if not 1 <= channels <= MOST_CHANNELS:
        raise AudioError(name, f"its header claims {channels} channels: corrupt")


class UnreadableFormatError(Exception):
    """libsndfile cannot read this file, or not all of it: another decoder may."""


@contextmanager
def open_recording(source: Source, start: int = 0) -> Iterator[Recording]:
    """Open `source` at second `start` with libsndfile, or with the `ffmpeg` program where that cannot read it."""
    with open_source(source) as opened, _decoded(opened, start) as recording:
        yield recording


@contextmanager
def _decoded(source: AudioSource, start: int) -> Iterator[Recording]:
    from wav2vec2.processing.ffmpeg_decoding import decode_with_ffmpeg
    from wav2vec2.processing.libsndfile_decoding import decode_with_libsndfile

    with ExitStack() as stack:
        try:
            recording = stack.enter_context(decode_with_libsndfile(source, start))
        except UnreadableFormatError as refusal:
            recording = stack.enter_context(decode_with_ffmpeg(source, start, str(refusal)))
        yield recording


def audio_duration(source: Source) -> float:
    """Seconds of audio in `source` (a path, bytes, or a file object), read from its header.

    Nothing is decoded unless the header leaves the length open (FLAC or WebM written by a program that streams): then
    the samples are counted, in bounded memory. A file that is cut off is an `AudioError`.
    """
    from wav2vec2.processing.ffmpeg_decoding import declared_seconds_by_ffmpeg
    from wav2vec2.processing.libsndfile_decoding import declared_seconds_by_libsndfile

    with open_source(source) as opened:
        try:
            seconds = declared_seconds_by_libsndfile(opened)
        except UnreadableFormatError as refusal:
            seconds = declared_seconds_by_ffmpeg(opened, str(refusal))
        if seconds is None:
            with _decoded(opened, 0) as recording:
                seconds = sum(len(block) for block in recording.blocks) / recording.rate
    if seconds == 0:
        raise AudioError(opened.name, "no samples in it")
    return seconds
