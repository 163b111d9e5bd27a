"""Small recordings in every format that is read, made on the spot."""

import io
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

#: Container, encoding, rate, and how far samples may be from what was written.
FORMATS = {
    "wav 8 bit": ("WAV", "PCM_U8", 44100, 2**-7),
    "wav 16 bit": ("WAV", "PCM_16", 44100, 2**-15),
    "wav 24 bit": ("WAV", "PCM_24", 48000, 2**-23),
    "wav 32 bit": ("WAV", "PCM_32", 8000, 2**-24),
    "wav float": ("WAV", "FLOAT", 22050, 0.0),
    "wav double": ("WAV", "DOUBLE", 16000, 0.0),
    "flac": ("FLAC", "PCM_16", 44100, 2**-15),
    "mp3": ("MP3", "MPEG_LAYER_III", 44100, 0.02),
    "ogg": ("OGG", "VORBIS", 44100, 0.03),
    "opus": ("OGG", "OPUS", 48000, 0.03),
}


def sweep(rate: int, seconds: float, channels: int = 1) -> NDArray[np.float32]:
    """A tone that rises and swells, (samples,) or (samples, channels); each channel has a pitch of its own."""
    time = np.arange(round(rate * seconds)) / rate
    pitch = 200 + 40 * np.arange(channels)[:, None]
    waves = 0.4 * np.sin(2 * np.pi * pitch * (time + 0.2 * time**2)) * (0.6 + 0.4 * np.sin(3 * time))
    columns: NDArray[np.float32] = waves.T.astype(np.float32)
    return columns[:, 0] if channels == 1 else columns


def encoded(samples: NDArray[Any], rate: int, container: str = "WAV", encoding: str = "PCM_16") -> bytes:
    """The bytes of a file. Written in small parts: the Vorbis encoder overflows its stack on large ones."""
    buffer = io.BytesIO()
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with soundfile.SoundFile(buffer, "w", rate, channels, format=container, subtype=encoding) as file:
        for part in range(0, len(samples), 8192):
            file.write(samples[part : part + 8192])
    return buffer.getvalue()


def recording(name: str, seconds: float = 3.0, channels: int = 1) -> bytes:
    """A sweep in the format of that name."""
    container, encoding, rate, _ = FORMATS[name]
    return encoded(sweep(rate, seconds, channels), rate, container, encoding)


def without_xing_header(mp3: bytes) -> bytes:
    """The same frames without the one that says how many there are, as a cut or a stream leaves them."""
    return mp3[mp3.index(mp3[:2], 4) :]


def with_flac_length(flac: bytes, samples: int) -> bytes:
    """The same FLAC file whose header claims that many samples; 0 is "unknown"."""
    changed = bytearray(flac)
    changed[21] = changed[21] & 0xF0 | samples >> 32
    changed[22:26] = (samples & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(changed)


def with_wav_length(wav: bytes, size: int) -> bytes:
    """The same WAV file whose header claims that many bytes of samples."""
    place = wav.index(b"data") + 4
    return wav[:place] + size.to_bytes(4, "little") + wav[place + 4 :]
