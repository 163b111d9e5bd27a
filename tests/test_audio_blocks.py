"""Audio in blocks: the same samples as the whole, in memory that does not grow with the file."""

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from audio_samples import FORMATS, encoded, recording, sweep
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wav2vec2.processing.audio_files import audio_blocks, load_audio

#: Run in a process of its own: its peak memory before and after reading a file.
MEASURE = """
import resource, sys
from wav2vec2.processing.audio_files import audio_blocks
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
short, long = sys.argv[1:]
count = sum(map(len, audio_blocks(short, block_seconds=30)))
before = peak()
count = sum(map(len, audio_blocks(long, block_seconds=30, overlap_seconds=2)))
print(count, peak() - before)
"""


@pytest.mark.parametrize("name", FORMATS)
def test_joined_blocks_are_the_whole(name: str) -> None:
    """In every format, resampled or not; all blocks but the last are of the asked length."""
    data = recording(name, 4.0)
    blocks = list(audio_blocks(data, block_seconds=0.73))
    assert [len(block) for block in blocks[:-1]] == [11680] * 5
    np.testing.assert_allclose(np.concatenate(blocks), load_audio(data), rtol=0, atol=1e-6)


def slow_blocks(samples: NDArray[np.float32], size: int, overlap: int) -> list[NDArray[np.float32]]:
    """The obvious way: windows over the whole, until nothing new is left."""
    starts = itertools.takewhile(
        lambda begin: begin == 0 or begin + overlap < len(samples), itertools.count(0, size - overlap)
    )
    return [samples[begin : begin + size] for begin in starts]


@settings(deadline=None, max_examples=60)
@given(length=st.integers(1, 4000), size=st.integers(1, 1500), share=st.floats(0, 0.99))
def test_overlapping_blocks_are_windows_over_the_whole(length: int, size: int, share: float) -> None:
    """Of every length, size and overlap."""
    samples = (np.arange(length) % 251 / 256).astype(np.float32)
    data, overlap = encoded(samples, 16000, "WAV", "FLOAT"), int(share * size)
    blocks = list(audio_blocks(data, 16000, size / 16000, overlap / 16000))
    expected = slow_blocks(samples, size, overlap)
    assert [len(block) for block in blocks] == [len(block) for block in expected]
    for block, window in zip(blocks, expected, strict=True):
        np.testing.assert_array_equal(block, window)


def test_blocks_of_a_part() -> None:
    """`start` and `duration` as in `load_audio`; a kept block does not change when the next one comes."""
    data = recording("flac")
    blocks = list(audio_blocks(data, 8000, 0.25, start=1.1, duration=1.0))
    assert [len(block) for block in blocks] == [2000] * 4
    np.testing.assert_array_equal(np.concatenate(blocks), load_audio(data, 8000, start=1.1, duration=1.0))


@pytest.mark.parametrize(("block", "overlap"), [(0.0, 0.0), (1.0, 1.0), (1.0, 2.0), (1.0, -0.1), (-1.0, 0.0)])
def test_blocks_that_lead_nowhere(block: float, overlap: float) -> None:
    """Refused when asked for, not when the first block is."""
    with pytest.raises(ValueError, match="a block must be longer"):
        audio_blocks(recording("flac"), 16000, block, overlap)
    wrong: Any = "left"
    with pytest.raises(ValueError, match="channels"):
        audio_blocks(recording("flac"), channels=wrong)


def test_closing_early_closes_the_file(tmp_path: Path) -> None:
    """A reader that stops after the first block leaves nothing open (unclosed files are errors in these tests)."""
    path = tmp_path / "a.flac"
    path.write_bytes(recording("flac"))
    blocks = audio_blocks(path, block_seconds=0.1)
    assert len(next(blocks)) == 1600
    path.unlink()
    del blocks


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="measures memory the Unix way")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Three quarters of an hour at 44.1 kHz, 476 MB of samples, take less than 20 MB more than a minute does."""
    pytest.importorskip("resource")
    minute = (sweep(44100, 60.0) * 32000).astype(np.int16)
    for name, minutes in (("short.flac", 1), ("long.flac", 45)):
        with soundfile.SoundFile(tmp_path / name, "w", 44100, 1, subtype="PCM_16") as file:
            for _ in range(minutes):
                file.write(minute)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "short.flac"), str(tmp_path / "long.flac")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, grown = map(int, done.stdout.split())
    assert count == 2700 * 16000 + 96 * 2 * 16000  # every block but the first repeats two seconds
    assert grown < 20
