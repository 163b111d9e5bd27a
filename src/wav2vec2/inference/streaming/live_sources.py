"""Where live audio comes from: a pipe of raw samples, or a microphone.

Both give float32 packets of one channel at the rate that is wanted, as they come.
"""

import queue
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from wav2vec2.inference.streaming.incoming_audio import Samples
from wav2vec2.processing.waveforms import resampled

#: Bytes that are asked of a pipe at once; what is there already is given at once.
_READ = 1 << 16

#: How files begin that are no raw samples, and what they are.
_CONTAINERS = {b"RIFF": "WAV", b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3": "MP3"}

#: Seconds between two packets of a microphone.
_PACKET = 0.04


class Pipe(Protocol):
    """What bytes come from."""

    def read1(self, size: int, /) -> bytes:
        """The bytes that are there, at least one and at most so many; none at the end."""


def piped(stream: Pipe, rate: int, wanted: int) -> Iterator[Samples]:
    """Raw 16-bit little-endian samples of one channel at `rate`, until the pipe is closed.

    Half a sample waits for its other half; at the end it is an error. So is a file with a header, and nothing at all.
    """

    def packets() -> Iterator[Samples]:
        half, begun = b"", False
        while data := stream.read1(_READ):
            if not begun:
                _refuse_a_container(data)
            begun, data = True, half + data
            half = data[len(data) // 2 * 2 :]
            yield np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / np.float32(2**15)
        if not begun:
            raise ValueError("no audio came on standard input")
        if half:
            raise ValueError("standard input ends within a sample: raw 16-bit little-endian samples are needed")

    return resampled(packets(), rate, wanted)


def _refuse_a_container(first: bytes) -> None:
    for begin, name in _CONTAINERS.items():
        if first.startswith(begin):
            raise ValueError(
                f"standard input is a file of {name}, and raw 16-bit samples are needed: `wav2vec2 transcribe FILE` "
                "reads it, or `ffmpeg -i FILE -f s16le -ac 1 -ar 16000 -` makes samples of it"
            )


def microphone(wanted: int) -> Iterator[Samples]:
    """What the default microphone hears, without an end."""
    try:
        sounddevice: Any = import_module("sounddevice")
    except (ImportError, OSError) as error:  # OSError: PortAudio is not installed
        raise ImportError(
            f"the microphone needs the extra `microphone` (pip install 'wav2vec2[microphone]') and PortAudio: {error}"
        ) from error
    heard: queue.SimpleQueue[Samples] = queue.SimpleQueue()

    def take(block: Any, frames: int, time: Any, status: Any) -> None:
        heard.put(np.array(block[:, 0], np.float32))

    packet = round(_PACKET * wanted)
    with sounddevice.InputStream(wanted, packet, channels=1, dtype="float32", callback=take):
        while True:
            yield heard.get()
