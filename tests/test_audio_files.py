"""Every format, from every kind of source, at the asked rate, in one channel, whole or in part."""

import io
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import soundfile
import soxr
from audio_samples import FORMATS, encoded, recording, sweep, with_flac_length, with_wav_length, without_xing_header
from shared_data import SHARED_DATA, needs_shared_data, shared_table

from wav2vec2.processing.audio_files import audio_duration, load_audio
from wav2vec2.processing.audio_sources import AudioError
from wav2vec2.processing.waveforms import resample


class Pipe(io.RawIOBase):
    """A stream that cannot seek."""

    def __init__(self, data: bytes) -> None:
        self._rest = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._rest.readinto(buffer)


@pytest.mark.parametrize("name", FORMATS)
def test_samples_are_those_that_were_written(name: str) -> None:
    """At the rate of the file, so that nothing is resampled; float32, full scale [-1, 1]."""
    container, encoding, rate, tolerance = FORMATS[name]
    samples = load_audio(recording(name), rate)
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples[:-2000], sweep(rate, 3.0)[:-2000], rtol=0, atol=tolerance)
    assert len(samples) == 3 * rate
    again, _ = soundfile.read(io.BytesIO(recording(name)), dtype="float32")
    np.testing.assert_allclose(samples, again, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", FORMATS)
def test_resampled_as_soxr_does_the_whole(name: str) -> None:
    """Blocks leave no trace, and the sweep comes out as the sweep at 16 kHz (away from the ends)."""
    _, _, rate, tolerance = FORMATS[name]
    samples = load_audio(recording(name))
    decoded, _ = soundfile.read(io.BytesIO(recording(name)), dtype="float32")
    np.testing.assert_allclose(samples, soxr.resample(decoded, rate, 16000), rtol=0, atol=1e-6)
    np.testing.assert_allclose(samples[800:-800], sweep(16000, 3.0)[800:-800], rtol=0, atol=2 * tolerance + 1e-4)


def test_a_path_bytes_and_file_objects_give_the_same(tmp_path: Path) -> None:
    """A file object is read from its beginning and stays open; one that cannot seek works too."""
    data = recording("flac")
    path = tmp_path / "-i odd näme.vox"  # neither an option nor, by its ending, raw samples
    path.write_bytes(data)
    expected = load_audio(data)
    with open(path, "rb") as file:
        file.seek(100)
        sources: list[Any] = [path, str(path), bytearray(data), memoryview(data), file, io.BytesIO(data), Pipe(data)]
        for source in sources:
            np.testing.assert_array_equal(load_audio(source), expected)
            assert source is sources[-1] or audio_duration(source) == 3.0
        assert not file.closed


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("rate", [16000, 11025])
def test_a_part_is_the_same_part_of_the_whole(name: str, rate: int) -> None:
    """Also where the resampling filter would not have settled; parts that touch miss and repeat nothing."""
    data = recording(name, 4.0)
    whole = load_audio(data, rate)
    for start, duration in [(0.0, 0.5), (0.013, 1.0), (1.0, 1.5), (2.7, 0.3), (3.9, 5.0), (2.2, None)]:
        first, stop = round(start * rate), len(whole) if duration is None else round((start + duration) * rate)
        part = load_audio(data, rate, start=start, duration=duration)
        np.testing.assert_allclose(part, whole[first:stop], rtol=0, atol=1e-6)
    parts = [load_audio(data, rate, start=index * 0.7, duration=0.7) for index in range(6)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=1e-6)


def test_a_part_reads_only_that_part() -> None:
    """Of a minute of WAV, a tenth of a second at its end takes the bytes of about a second, and a little more."""

    class Counting(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            self.taken += len(data)
            return data

    data = encoded(sweep(16000, 60.0), 16000)
    stream = Counting(data)
    load_audio(stream, start=58.0, duration=0.1)
    assert stream.taken < 4 * 2 * 16000 < len(data) / 10


def test_what_becomes_of_channels() -> None:
    """Their mean, one of them, or an error; numbers count from 0."""
    both = sweep(16000, 1.0, channels=2)
    data = encoded(both, 16000, "WAV", "FLOAT")
    np.testing.assert_allclose(load_audio(data), both.mean(axis=1), rtol=0, atol=1e-7)
    np.testing.assert_array_equal(load_audio(data, channels="first"), both[:, 0])
    np.testing.assert_array_equal(load_audio(data, channels=1), both[:, 1])
    with pytest.raises(AudioError, match="2 channels; choose"):
        load_audio(data, channels="error")
    with pytest.raises(AudioError, match="no channel 2"):
        load_audio(data, channels=2)
    assert len(load_audio(recording("flac"), channels="error")) == 48000


@pytest.mark.parametrize("name", FORMATS)
def test_durations_come_from_the_header(name: str) -> None:
    """Three seconds are three seconds in every format."""
    assert audio_duration(recording(name)) == 3.0


def test_a_header_that_leaves_the_length_open() -> None:
    """FLAC and WAV from a program that streams, MP3 without its first frame: all is read, and the length is known."""
    flac, wav, mp3 = recording("flac"), recording("wav 16 bit"), recording("mp3")
    np.testing.assert_array_equal(load_audio(with_flac_length(flac, 0)), load_audio(flac))
    assert audio_duration(with_flac_length(flac, 0)) == 3.0
    for unknown in (0xFFFFFFFF, 0x7FFFFFFF):
        np.testing.assert_array_equal(load_audio(with_wav_length(wav, unknown)), load_audio(wav))
        assert audio_duration(with_wav_length(wav, unknown)) == 3.0
    cut = without_xing_header(mp3)
    with soundfile.SoundFile(io.BytesIO(cut)) as file:
        assert file.frames < 2.5 * 44100  # what libsndfile would read of it
    assert audio_duration(cut) == pytest.approx(3.0, abs=0.08)
    samples = load_audio(cut)
    assert len(samples) == pytest.approx(48000, abs=0.08 * 16000)
    part = load_audio(cut, start=2.2, duration=0.5)
    np.testing.assert_allclose(part, samples[35200:43200], rtol=0, atol=1e-6)


def test_tags_around_mp3_are_no_audio() -> None:
    """ID3 before, ID3 and APE behind: the same samples, the same length."""
    mp3 = recording("mp3")
    before = b"ID3\4\0\0" + bytes([0, 0, 0x10, 0x05]) + bytes(range(256)) * 8 + bytes(5)
    behind = b"APETAGEX" + bytes(range(256)) * 20 + b"TAG" + bytes(125)
    for data in (before + mp3, mp3 + behind, before + mp3 + behind):
        np.testing.assert_array_equal(load_audio(data), load_audio(mp3))
        assert audio_duration(data) == 3.0


@needs_shared_data("fsdd")
def test_speech_on_disk() -> None:
    """Shared recordings, against soundfile itself and the manifest."""
    rows = shared_table("fsdd/manifest.tsv")[:20]
    assert len(rows) == 20
    for row in rows:
        path = SHARED_DATA / "fsdd" / row["path"]
        np.testing.assert_array_equal(load_audio(path), soundfile.read(path, dtype="float32")[0])
        assert audio_duration(path) == pytest.approx(float(row["duration"]), abs=1e-3)


def test_resampling_an_array() -> None:
    """What soxr gives, for floats and scaled integers; the length is rounded, down to no sample at all."""
    wave = sweep(44100, 1.0)
    np.testing.assert_allclose(resample(wave, 44100, 16000), soxr.resample(wave, 44100, 16000), rtol=0, atol=1e-7)
    np.testing.assert_array_equal(resample(wave, 8000, 8000), wave)
    integers = (wave * 32767).astype(np.int16)
    np.testing.assert_array_equal(resample(integers, 16000, 16000), integers / np.float32(32768))
    for length in (0, 1, 2, 3, 100):
        assert abs(len(resample(wave[:length], 44100, 16000)) - length * 160 / 441) <= 1
    with pytest.raises(ValueError, match=r"the array has shape \(1000, 2\)"):
        resample(np.zeros((1000, 2)), 44100, 16000)


@pytest.mark.parametrize("rate", [0, -16000, 16000.5, float("nan"), True, None, "16000", 10**9])
def test_rates_that_are_none(rate: Any) -> None:
    """Whole numbers that sound can have."""
    with pytest.raises(ValueError, match="a whole number of samples a second"):
        load_audio(recording("flac"), rate)
    with pytest.raises(ValueError, match="from_rate"):
        resample(np.zeros(10), rate, 16000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": -1.0}, "start"),
        ({"start": float("nan")}, "start"),
        ({"duration": 0.0}, "duration"),
        ({"duration": float("inf")}, "duration"),
        ({"channels": "left"}, "channels"),
        ({"channels": -1}, "channels"),
        ({"channels": True}, "channels"),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict[str, Any], message: str) -> None:
    """Named, with what would be right."""
    with pytest.raises(ValueError, match=f"^{message} must be"):
        load_audio(recording("flac"), **arguments)


@pytest.mark.parametrize("source", [np.zeros(100), np.zeros((1000, 2)), [0.0, 0.1], (1, 2)])
def test_samples_are_not_a_source(source: Any) -> None:
    """They say nothing of their rate: the error points at `resample`."""
    with pytest.raises(ValueError, match=r"resample\(array, from_rate, to_rate\)"):
        load_audio(source)


def test_other_things_that_are_no_source(tmp_path: Path) -> None:
    """Text files, numbers; a missing file stays Python's own error."""
    text: IO[Any] = io.StringIO("text")
    with pytest.raises(ValueError, match="'rb'"):
        load_audio(text)
    not_a_source: Any = 5
    with pytest.raises(ValueError, match="got int"):
        load_audio(not_a_source)
    with pytest.raises(FileNotFoundError, match=r"missing\.wav"):
        load_audio(tmp_path / "missing.wav")
    with pytest.raises(OSError, match=tmp_path.name):
        load_audio(tmp_path)
