"""Decoding with the `ffmpeg` program, for what libsndfile cannot read: m4a, mp4, webm, wma, amr and most else.

The program runs without a shell, reads one local file and nothing else, and its answer is taken block by block, as
fast as it is used. It writes Sun's AU format, whose 24-byte header holds the rate and the channels.

It always decodes from the beginning, and what lies before the start is thrown away here, sample by sample. Its own
seeking goes by time stamps, which are other places: by 7 ms for Opus in WebM (version 5.1), by milliseconds for all
of Matroska, by the whole delay where the sound of a video begins late. An hour of AAC takes it about a second.

Shapes: n samples of a block, C channels.
"""

import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import IO

import numpy as np
from numpy.typing import NDArray

from wav2vec2.processing.audio_sources import VALUES_PER_BLOCK, AudioError, AudioSource, OpenRecording
from wav2vec2.processing.container_headers import truncation

#: How much of what the program complains about is kept.
_COMPLAINTS_KEPT = 8192

#: An AU file of 32-bit floats: magic, where the samples start, their size (here unknown), encoding, rate, channels.
_AU_HEADER = struct.Struct(">4sIIIII")
_AU_FLOAT32 = 6


class _Ffmpeg:
    """A running `ffmpeg`: `output` is what it writes; `complaints()` waits for its end and says what went wrong."""

    def __init__(self, program: str, log_level: str, path: str, arguments: list[str], name: str) -> None:
        """`file:` keeps a path from being an option or address; the whitelist keeps playlists from opening others."""
        self._input = f"file:{path}"
        read = ["-v", log_level, "-xerror", "-protocol_whitelist", "file", "-i", self._input]
        command = [program, "-hide_banner", "-nostdin", *read, *arguments]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            raise AudioError(name, f"the program ffmpeg cannot be run ({error.strerror})") from error
        assert self._process.stdout is not None and self._process.stderr is not None
        self.output: IO[bytes] = self._process.stdout
        self._said = bytearray()
        self._listener = Thread(target=self._listen, args=(self._process.stderr,), daemon=True)
        self._listener.start()

    def _listen(self, errors: IO[bytes]) -> None:
        """Read all that the program complains of, so that it never waits, and keep the beginning."""
        while chunk := errors.read(4096):
            self._said += chunk[: _COMPLAINTS_KEPT - len(self._said)]

    def complaints(self) -> str:
        """What it said, or its exit status if it failed in silence, once it has ended.

        Without the path that it was given, which may be that of a copy, another one each time, and is this machine's.
        """
        status = self._process.wait()
        self._listener.join()
        said = self._said.decode("utf-8", "replace").replace(f"{self._input}: ", "").replace(self._input, "the file")
        said = said.strip()
        return said or (f"exit status {status}" if status else "")

    def stop(self) -> None:
        """End the program, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        self._process.stdout.close()  # type: ignore[union-attr]
        self._process.stderr.close()  # type: ignore[union-attr]


@contextmanager
def decode_with_ffmpeg(source: AudioSource, start: int, refusal: str) -> Iterator[OpenRecording]:
    """The first audio stream of `source` from second `start`; `refusal` is why libsndfile did not read it."""
    program = _program(source.name, refusal)
    with _on_disk(source) as path:
        write = ["-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
        ffmpeg = _Ffmpeg(program, "error", path, write, source.name)
        try:
            rate, channels = _au_header(ffmpeg, source.name, refusal)
            yield OpenRecording(source.name, rate, channels, _from(start * rate, _blocks(ffmpeg, source, channels)))
        finally:
            ffmpeg.stop()


def declared_seconds_by_ffmpeg(source: AudioSource, refusal: str) -> float | None:
    """The length in seconds that the header claims; None if it leaves it open.

    Without an output, the program prints the header and fails.
    """
    program = _program(source.name, refusal)
    with _on_disk(source) as path:
        ffmpeg = _Ffmpeg(program, "info", path, [], source.name)
        try:
            header = ffmpeg.complaints()
        finally:
            ffmpeg.stop()
    if not re.search(r"Stream #0:\d+.*: Audio:", header):
        known = "Input #0" in header
        raise AudioError(source.name, "no audio in it" if known else _refused(refusal, header))
    found = re.search(r"Duration: (\d+):(\d\d):(\d\d\.\d+)", header)
    if found is None:
        return None
    hours, minutes, seconds = found.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _program(name: str, refusal: str) -> str:
    program = shutil.which("ffmpeg")
    if program is None:
        raise AudioError(
            name,
            f"libsndfile cannot read it ({refusal}). WAV, FLAC, MP3, Ogg and Opus are read directly; m4a, mp4, webm "
            "and other containers need the program ffmpeg, which is not on the PATH",
        )
    return program


@contextmanager
def _on_disk(source: AudioSource) -> Iterator[str]:
    """The path of the source, or of a copy: the index of an mp4 file may be at its end, so a pipe will not do."""
    if source.path is not None and os.path.isfile(source.path):
        yield source.path
        return
    with tempfile.TemporaryDirectory(prefix="wav2vec2-") as folder:
        path = os.path.join(folder, "audio")
        source.stream.seek(0)
        with open(path, "wb") as copy:
            shutil.copyfileobj(source.stream, copy)
        yield path


def _au_header(ffmpeg: _Ffmpeg, name: str, refusal: str) -> tuple[int, int]:
    """Read past the header: the rate and the channels."""
    header = ffmpeg.output.read(_AU_HEADER.size)
    if len(header) < _AU_HEADER.size:
        raise AudioError(name, _refused(refusal, ffmpeg.complaints()))
    magic, first, _, encoding, rate, channels = _AU_HEADER.unpack(header)
    if magic != b".snd" or encoding != _AU_FLOAT32 or not _AU_HEADER.size <= first <= 4096:
        raise AudioError(name, "ffmpeg did not write the audio it was asked for")
    ffmpeg.output.read(first - _AU_HEADER.size)
    return rate, channels


def _blocks(ffmpeg: _Ffmpeg, source: AudioSource, channels: int) -> Iterator[NDArray[np.float32]]:
    """Arrays (n, C) to the end of the stream, which the program must have reached without complaint."""
    frame = 4 * channels
    while data := ffmpeg.output.read(max(1, VALUES_PER_BLOCK // channels) * frame):
        whole = len(data) // frame * channels
        yield np.frombuffer(data, ">f4", whole).astype(np.float32).reshape(-1, channels)
    if complaints := ffmpeg.complaints():
        raise AudioError(source.name, f"corrupt or truncated: ffmpeg stops ({_summary(complaints)})")
    if cut := truncation(source.stream):
        raise AudioError(source.name, cut)


def _from(first: int, blocks: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """The samples of the blocks from sample `first` on."""
    position = 0
    for block in blocks:
        if position + len(block) > first:
            yield block[max(0, first - position) :]
        position += len(block)


def _refused(refusal: str, complaints: str) -> str:
    return f"neither libsndfile ({refusal}) nor ffmpeg ({_summary(complaints)}) can read it"


def _summary(complaints: str) -> str:
    """The first complaint, from which the others follow, without the address of the part that made it."""
    lines = complaints.splitlines() or ["no reason given"]
    return re.sub(r"^\[[^\]]*\] ", "", lines[0])
