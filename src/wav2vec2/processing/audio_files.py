"""Reading audio: whole files, parts of them, block by block where a file is too long for memory, or just its length.

Everything comes out as float32, one channel, at the rate that was asked for. Files are decoded by libsndfile, or by
the `ffmpeg` program where that cannot read them, and resampled by soxr.

Shapes: S samples, n samples of a piece.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
from numpy.typing import NDArray

from wav2vec2.processing.audio_sources import (
    AudioError,
    AudioSource,
    OpenRecording,
    Source,
    UnreadableFormatError,
    name_of,
    open_source,
)
from wav2vec2.processing.ffmpeg_decoding import declared_seconds_by_ffmpeg, decode_with_ffmpeg
from wav2vec2.processing.libsndfile_decoding import declared_seconds_by_libsndfile, decode_with_libsndfile
from wav2vec2.processing.waveforms import Channels, check_channels, check_rate, resampled, to_mono

#: The longest stretch that `load_audio` takes into memory (2.8 GB at 16 kHz). A few bytes can claim to be more.
LONGEST_HOURS = 12

#: Whole seconds that are decoded before a stretch, so that the resampling filter has settled where it begins.
_RUN_UP = 1


def load_audio(
    source: Source,
    sampling_rate: int = 16000,
    *,
    channels: Channels = "mean",
    start: float = 0.0,
    duration: float | None = None,
    require_sound: bool = True,
) -> NDArray[np.float32]:
    """Audio from a path, the bytes of a file, or a binary file object -> float32 (S,), full scale [-1, 1].

    `channels` says what becomes of several channels: their "mean", the "first", one by its number, or an "error".
    `start` and `duration`, in seconds, take a part without decoding the rest; it equals the same slice of the whole.
    (What the `ffmpeg` program reads is decoded from its beginning, because seeking would end up elsewhere.)

    Whatever cannot be used raises `AudioError`, which names the source and the reason: empty, truncated, corrupt, of
    unknown format, NaN or infinite samples, and, unless `require_sound=False`, digital silence (no two samples that
    differ), which teaches a model nothing and is nearly always a recording that failed. A file that cannot be opened
    raises `OSError`, a wrong argument `ValueError`. A truncated file can still be read up to where it is cut, by
    `duration`. (Of an MP3 that does not say how long it is, a cut between two frames leaves no trace.)
    """
    samples = _collected(_stretch(source, sampling_rate, channels, start, duration), sampling_rate, name_of(source))
    if require_sound and len(samples) > 1 and samples.max() == samples.min():
        raise AudioError(name_of(source), "silent: all samples are equal (require_sound=False accepts that)")
    return samples


def audio_blocks(
    source: Source,
    sampling_rate: int = 16000,
    block_seconds: float = 30.0,
    overlap_seconds: float = 0.0,
    *,
    channels: Channels = "mean",
    start: float = 0.0,
    duration: float | None = None,
) -> Iterator[NDArray[np.float32]]:
    """The audio that `load_audio` gives, in blocks of `block_seconds`, in memory that does not grow with the file.

    Each block begins with the last `overlap_seconds` of the one before; without overlap, the blocks joined are what
    `load_audio` gives. The last block is as long as what is left. Silence is no error here: a block may be silent.
    """
    check_rate(sampling_rate, "sampling_rate")
    size, overlap = round(block_seconds * sampling_rate), round(overlap_seconds * sampling_rate)
    if not 0 <= overlap < size:
        raise ValueError(
            "a block must be longer than what it shares with the one before: "
            f"block_seconds={block_seconds}, overlap_seconds={overlap_seconds}"
        )
    return _cut(_stretch(source, sampling_rate, channels, start, duration), size, overlap)


def audio_duration(source: Source) -> float:
    """Seconds of audio in `source` (a path, bytes, or a file object), read from its header.

    Nothing is decoded unless the header leaves the length open (FLAC or WebM written by a program that streams): then
    the samples are counted, in bounded memory. A file that is cut off is an `AudioError`.
    """
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


@contextmanager
def open_recording(source: Source, start: int = 0) -> Iterator[OpenRecording]:
    """Open `source` at second `start` with libsndfile, or with the `ffmpeg` program where that cannot read it."""
    with open_source(source) as opened, _decoded(opened, start) as recording:
        yield recording


@contextmanager
def _decoded(source: AudioSource, start: int) -> Iterator[OpenRecording]:
    with ExitStack() as stack:
        try:
            recording = stack.enter_context(decode_with_libsndfile(source, start))
        except UnreadableFormatError as refusal:
            recording = stack.enter_context(decode_with_ffmpeg(source, start, str(refusal)))
        yield recording


def _collected(pieces: Iterator[NDArray[np.float32]], rate: int, name: str) -> NDArray[np.float32]:
    """All pieces in one array that grows where it is, so that long audio is not in memory twice."""
    samples, total = np.empty(30 * rate, np.float32), 0
    for piece in pieces:
        end = total + len(piece)
        if end > LONGEST_HOURS * 3600 * rate:
            limit = f"more than {LONGEST_HOURS} hours of audio"
            raise AudioError(name, f"{limit}: read it with audio_blocks, or in parts by start and duration")
        if end > len(samples):
            samples.resize(max(end, len(samples) * 5 // 4), refcheck=False)
        samples[total:end] = piece
        total = end
    samples.resize(total, refcheck=False)
    return samples


def _cut(pieces: Iterator[NDArray[np.float32]], size: int, overlap: int) -> Iterator[NDArray[np.float32]]:
    """Pieces of any length -> blocks of `size` samples, of which the first `overlap` were in the block before."""
    block = np.empty(size, np.float32)
    filled, fresh = 0, 0
    for piece in pieces:
        while len(piece):
            taken = piece[: size - filled]
            block[filled : filled + len(taken)] = taken
            piece = piece[len(taken) :]
            filled, fresh = filled + len(taken), fresh + len(taken)
            if filled == size:
                yield block.copy()
                block[:overlap] = block[size - overlap :].copy()
                filled, fresh = overlap, 0
    if fresh:
        yield block[:filled].copy()


def _stretch(
    source: Source, sampling_rate: int, channels: Channels, start: float, duration: float | None
) -> Iterator[NDArray[np.float32]]:
    """Check the arguments now, and give the pieces (n,) of the stretch as they are asked for."""
    sampling_rate = check_rate(sampling_rate, "sampling_rate")
    check_channels(channels)
    if not 0 <= start < math.inf:
        raise ValueError(f"start must be seconds from 0, got {start!r}")
    if duration is not None and not 0 < duration < math.inf:
        raise ValueError(f"duration must be seconds above 0, or None for all, got {duration!r}")
    first = round(start * sampling_rate)
    stop = None if duration is None else round((start + duration) * sampling_rate)
    return _pieces(source, sampling_rate, channels, first, stop)


def _pieces(
    source: Source, rate: int, channels: Channels, first: int, stop: int | None
) -> Iterator[NDArray[np.float32]]:
    """Samples `first` to `stop` of the resampled recording, finite.

    Decoding begins at a whole second before `first`: there, samples of either rate coincide, so that the stretch has
    the very samples that the whole has.
    """
    begin = max(0, first // rate - _RUN_UP)
    position, given = begin * rate, False
    with open_recording(source, begin) as recording:
        mono = (to_mono(block, channels, recording.name) for block in recording.blocks)
        for piece in resampled(mono, recording.rate, rate):
            wanted = piece[max(0, first - position) : None if stop is None else stop - position]
            position += len(piece)
            if len(wanted):
                if not np.isfinite(wanted).all():
                    raise AudioError(recording.name, "its samples are too large for float32")
                given = True
                yield wanted
            if stop is not None and position >= stop:
                break
    if not given:
        reason = f"nothing at start={first / rate:.3f} s: the audio ends before" if first else "no samples in it"
        raise AudioError(recording.name, reason)
