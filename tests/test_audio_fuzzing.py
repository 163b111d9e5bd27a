"""Any bytes give samples or an `AudioError`: never another exception, never more memory than the bytes can fill."""

import io
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_samples import encoded, sweep
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wav2vec2.processing.audio_files import LONGEST_HOURS, audio_blocks, audio_duration, load_audio
from wav2vec2.processing.audio_sources import AudioError

CONTAINERS = [
    ("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "MS_ADPCM"), ("WAVEX", "PCM_24"), ("RF64", "PCM_16"),
    ("W64", "PCM_16"), ("FLAC", "PCM_16"), ("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
    ("AIFF", "PCM_16"), ("AU", "ULAW"), ("CAF", "ALAC_16"), ("NIST", "PCM_16"), ("VOC", "PCM_16"), ("MAT5", "PCM_16"),
    ("PVF", "PCM_16"),
]  # fmt: skip
FILES = [encoded(sweep(16000, 0.15, channels=2), 16000, *container) for container in CONTAINERS]
MAGIC = [
    b"",
    b"RIFF\xff\xff\xff\xffWAVEfmt ",
    b"fLaC\0\0\0\x22",
    b"OggS\0\2",
    b"\xff\xfb\x90\x64",
    b"ID3\4\0\0\0\0\0\x10",
]
EXTREMES = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\1\0\0\0"]
VALUES = st.sampled_from(EXTREMES) | st.binary(min_size=1, max_size=4)


@pytest.fixture(autouse=True, scope="module")
def no_ffmpeg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """libsndfile and the code here alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path_factory.mktemp("nothing")))
        yield


def survives(data: bytes) -> None:
    """Finite samples within the limit, or an AudioError; the same for blocks and for the duration."""
    try:
        samples = load_audio(data, require_sound=False)
    except AudioError:
        samples = None
    try:
        count = sum(len(block) for block in audio_blocks(data, block_seconds=1.0))
        assert samples is not None and count == len(samples)
    except AudioError:
        assert samples is None
    if samples is not None:
        assert samples.dtype == np.float32 and samples.ndim == 1 and np.isfinite(samples).all()
        assert len(samples) <= LONGEST_HOURS * 3600 * 16000
    with suppress(AudioError):
        assert audio_duration(data) > 0


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(magic=st.sampled_from(MAGIC), rest=st.binary(max_size=400))
def test_any_bytes(magic: bytes, rest: bytes) -> None:
    """With the beginnings of the formats, and without."""
    survives(magic + rest)


@settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.too_slow])
@given(
    file=st.sampled_from(FILES),
    changes=st.lists(st.tuples(st.integers(0, 300), VALUES), max_size=4),
    cut=st.none() | st.floats(0, 1),
)
def test_damaged_files(file: bytes, changes: list[tuple[int, bytes]], cut: float | None) -> None:
    """Headers that lie about lengths, rates and channels; files that end early."""
    data = bytearray(file)
    for place, value in changes:
        data[place : place + len(value)] = value
    survives(bytes(data[: None if cut is None else int(cut * len(data))]))


def test_a_header_cannot_ask_for_memory(tmp_path: Path) -> None:
    """1024 channels of nothing, 16 samples a second, 2^36 samples: none of them is believed."""
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros((100, 1024), np.float32), 16000, format="WAV", subtype="PCM_16")
    wav = buffer.getvalue()
    survives(wav)
    survives(wav.replace((16000).to_bytes(4, "little"), (16).to_bytes(4, "little"), 1))
    flac = bytearray(FILES[CONTAINERS.index(("FLAC", "PCM_16"))])
    flac[21:26] = bytes([flac[21] | 0x0F]) + b"\xff\xff\xff\xff"
    survives(bytes(flac))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes
