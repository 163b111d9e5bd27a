"""Audio that cannot be used: one error each, which names the file and the reason."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from audio_samples import FORMATS, encoded, recording, sweep, with_flac_length, with_wav_length, without_xing_header

from wav2vec2.processing import audio_files
from wav2vec2.processing.audio_files import audio_blocks, audio_duration, load_audio
from wav2vec2.processing.audio_sources import AudioError
from wav2vec2.processing.container_headers import frame_length

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_ffmpeg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is said without the program."""
    monkeypatch.setenv("PATH", str(tmp_path))


def refused(data: bytes, reason: str, folder: Path) -> None:
    """`load_audio` and `audio_blocks` refuse the file for that reason, by its name."""
    path = folder / "a recording.bin"
    path.write_bytes(data)
    for read in (lambda: load_audio(path), lambda: list(audio_blocks(path))):
        with pytest.raises(AudioError, match=reason) as caught:
            read()
        assert str(caught.value).startswith(f"{path}: ")
        assert caught.value.source == str(path)


def test_the_error_survives_a_worker_process() -> None:
    """Data loaders send errors from one process to another."""
    error = pickle.loads(pickle.dumps(AudioError("a.wav", "the file is empty")))
    assert (str(error), error.source, error.reason) == ("a.wav: the file is empty", "a.wav", "the file is empty")
    assert isinstance(error, ValueError)


def test_empty(tmp_path: Path) -> None:
    """No bytes, and no samples."""
    refused(b"", r"the file is empty \(0 bytes\)", tmp_path)
    refused(encoded(np.zeros(0), 16000), "no samples in it", tmp_path)
    with pytest.raises(AudioError, match="no samples in it"):
        audio_duration(encoded(np.zeros(0), 16000))


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("name", FORMATS)
def test_truncated(name: str, share: float, tmp_path: Path) -> None:
    """Wherever the file is cut; what is before the cut can still be read, if it is asked for."""
    data = recording(name, 12.0)
    cut = data[: round(len(data) * share)]
    refused(cut, "truncated", tmp_path)
    part = load_audio(cut, duration=0.2)
    np.testing.assert_allclose(part, load_audio(data, duration=0.2), rtol=0, atol=1e-6)
    if name != "flac":  # nothing but decoding shows it
        with pytest.raises(AudioError, match="truncated"):
            audio_duration(cut)


@pytest.mark.parametrize("encoding", ["mp3 44100", "mp3 16000", "mp3 8000"])
def test_an_mp3_that_does_not_tell_its_length(encoding: str, tmp_path: Path) -> None:
    """Without a Xing header, with and without a tag before it: cut within a frame it is an error, whole it is none.

    Between two frames nobody can see a cut.
    """
    rate = int(encoding.split()[1])
    whole = without_xing_header(encoded(sweep(rate, 12.0), rate, "MP3", "MPEG_LAYER_III"))
    tagged = b"ID3\4\0\0" + bytes([0, 0, 0x10, 0x05]) + bytes(range(256)) * 8 + bytes(5) + whole
    samples = load_audio(whole)
    np.testing.assert_array_equal(load_audio(tagged), samples)
    np.testing.assert_array_equal(load_audio(tagged + b"TAG" + bytes(125)), samples)
    assert audio_duration(tagged) == audio_duration(whole) == pytest.approx(12.0, abs=0.2)
    ends, place = set(), 0
    while place < len(whole):
        place += frame_length(whole[place : place + 4])
        ends.add(place)
    assert place == len(whole)
    found = 0
    for size in range(5000, 5600, 7):
        if any(0 <= size - end < 4 for end in ends):  # of the next frame there is no header
            load_audio(whole[:size])
            continue
        found += 1
        for cut in (whole[:size], tagged[: len(tagged) - len(whole) + size]):
            with pytest.raises(AudioError, match=r"truncated: its last frame lacks \d+ bytes"):
                audio_duration(cut)
        refused(cut, r"truncated: its last frame lacks \d+ bytes", tmp_path)
    assert found > 50
    part = load_audio(whole[:5003], duration=0.2)
    np.testing.assert_allclose(part, samples[: len(part)], rtol=0, atol=1e-6)


def test_corrupt(tmp_path: Path) -> None:
    """Bytes that are no audio, damage in the middle of a file, and headers that lie."""
    refused(b"not audio at all, but text" * 40, "libsndfile cannot read it .*need the program ffmpeg", tmp_path)
    refused(bytes(range(256)) * 16, "libsndfile cannot read it", tmp_path)
    flac = bytearray(recording("flac"))
    flac[len(flac) // 2 : len(flac) // 2 + 2000] = bytes(2000)
    refused(bytes(flac), r"corrupt or truncated: decoding fails at 1\.\d\d s", tmp_path)
    refused(with_flac_length(recording("flac"), 10**9), "truncated: the header tells of 1000000000 samples", tmp_path)
    refused(with_wav_length(recording("wav 16 bit"), 10**9), "truncated: the header tells of 1000000000", tmp_path)
    wav = recording("wav 16 bit")
    refused(wav[:24] + (7).to_bytes(4, "little") + wav[28:], "7 samples a second: corrupt", tmp_path)


@pytest.mark.parametrize("name", ["mp3", "ogg", "opus"])
def test_files_joined_end_to_end(name: str, tmp_path: Path) -> None:
    """libsndfile would read the first and be silent about the rest."""
    container, encoding, rate, _ = FORMATS[name]
    other = encoded(sweep(rate, 2.0)[::-1].copy(), rate, container, encoding)
    refused(recording(name) + other, "joined", tmp_path)


def test_silent(tmp_path: Path) -> None:
    """Digital silence is refused unless it is allowed. One sample is no silence, noise at the last bit is none."""
    silence = encoded(np.zeros(32000), 44100)
    with pytest.raises(AudioError, match=r"silent: .*require_sound=False"):
        load_audio(silence)
    assert not load_audio(silence, require_sound=False).any()
    assert len(list(audio_blocks(silence, block_seconds=0.2))) == 4
    with pytest.raises(AudioError, match="silent"):
        load_audio(encoded(np.full(1000, 0.25), 16000))
    opposite = sweep(16000, 1.0, channels=1)
    with pytest.raises(AudioError, match="silent"):
        load_audio(encoded(np.stack([opposite, -opposite], axis=1), 16000, "WAV", "FLOAT"))
    assert load_audio(encoded(np.full(1, 0.25), 16000)) == 0.25
    assert len(load_audio(encoded(np.array([0, 1, 0, -1] * 100, dtype=np.int16), 16000))) == 400


@pytest.mark.parametrize(("value", "reason"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_not_finite(value: float, reason: str, tmp_path: Path) -> None:
    """Wherever it is, in the channels that are used; also where only the resampled samples overflow."""
    samples = sweep(44100, 3.0, channels=2)
    samples[100_000, 1] = value
    data = encoded(samples, 44100, "WAV", "FLOAT")
    refused(data, reason, tmp_path)
    assert np.isfinite(load_audio(data, channels="first")).all()
    refused(encoded(np.array([1e300, 0.0] * 100), 16000, "WAV", "DOUBLE"), "infinite", tmp_path)
    huge = np.sign(sweep(44100, 0.1)) * np.float32(3.4e38)
    refused(encoded(huge, 44100, "WAV", "FLOAT"), "too large for float32|infinite", tmp_path)


def test_a_part_behind_the_end() -> None:
    """Nothing is there, which is not the same as silence."""
    for name in FORMATS:
        with pytest.raises(AudioError, match=r"nothing at start=7\.500 s"):
            load_audio(recording(name), start=7.5, duration=1.0)


def test_more_than_fits_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """`load_audio` stops where a few bytes of a file unfold into hours, and names the ways that remain."""
    monkeypatch.setattr(audio_files, "LONGEST_HOURS", 2 / 3600)
    with pytest.raises(AudioError, match="audio_blocks, or in parts"):
        load_audio(recording("flac"))
    assert len(load_audio(recording("flac"), duration=2.0)) == 32000


def test_a_file_object_that_fails() -> None:
    """Its own error comes out, instead of a shorter recording."""

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 20_000:
                raise OSError("the disk is gone")
            return super().read(size)

    for name in ("wav 16 bit", "flac"):
        with pytest.raises(OSError, match="the disk is gone"):
            load_audio(Failing(recording(name)))
