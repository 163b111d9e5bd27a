"""Reading what a run is trained on: every kind of source, the cache of durations, and what is wrong with a source."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from training_audio import encoded, noise, write_manifest, write_parquet

from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.processing.waveforms import resample
from wav2vec2.training.data import durations
from wav2vec2.training.data.audio_clips import Clip, LengthLimits, TrainingDataError, crop_start, load_clip
from wav2vec2.training.data.clip_tables import FileTable
from wav2vec2.training.data.durations import DurationCache, measure
from wav2vec2.training.data.source_reading import kind_of, read_source
from wav2vec2.training.settings.run_config import Source

CROP = LengthLimits(1.0, 4.0, crop=True)


@pytest.fixture
def headers(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every header that is read."""
    read: list[object] = []
    original = durations.header_seconds

    def counted(source: Path | bytes) -> float | str:
        read.append(source)
        return original(source)

    monkeypatch.setattr(durations, "header_seconds", counted)
    return read


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    """Recursively; other files are no audio, and an unreadable one is a problem, not an end."""
    for name, seconds in (("b/two.wav", 2.0), ("a.wav", 1.5), ("b/a/three.FLAC", 3.0)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encoded(0, seconds, "FLAC" if "FLAC" in name else "WAV"))
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / "c.wav").write_bytes(b"RIFF, or so it says")
    source = Source(str(tmp_path))
    table = read_source(source, tmp_path / "cache", "x/")
    assert kind_of(source) == "folder"
    assert isinstance(table, FileTable)
    assert table.ids == ["x/a.wav", "x/b/a/three.FLAC", "x/b/two.wav", "x/c.wav"]
    np.testing.assert_array_equal(table.seconds, [1.5, 3.0, 2.0, np.nan])
    assert [one.id for one in table.problems] == ["x/c.wav"]
    assert table.clip(2) == Clip("x/b/two.wav", tmp_path / "b/two.wav", 2.0)


def test_a_manifest_says_what_headers_need_not(tmp_path: Path, headers: list[object]) -> None:
    """Durations, transcripts, speakers and columns of other names."""
    path = tmp_path / "list.tsv"
    path.write_text("path\tduration\tspeaker\ttranscript\tkana\na.wav\t2.5\tme\tHELLO\tx\nb.wav\t4\t\t\ty\n")
    table = read_source(Source(str(path)), tmp_path, with_text=True)
    assert table.clip(0) == Clip("a.wav", tmp_path / "a.wav", 2.5, speaker="me", transcript="HELLO")
    assert table.clip(1) == Clip("b.wav", tmp_path / "b.wav", 4.0, transcript="")
    table = read_source(Source(str(path), text_column="kana"), tmp_path, with_text=True)
    assert [table.transcript(index) for index in range(2)] == ["x", "y"]
    assert headers == []


def test_durations_are_read_once(tmp_path: Path, headers: list[object]) -> None:
    """Only of files that are new or have changed is the header read at the next start."""
    path, cache = write_manifest(tmp_path / "data", [1.0, 2.0, 3.0], durations=False), tmp_path / "cache"
    for expected in (3, 3):
        assert read_source(Source(str(path)), cache).seconds.tolist() == [1.0, 2.0, 3.0]
        assert len(headers) == expected
    changed = tmp_path / "data" / "clip001.wav"
    changed.write_bytes(encoded(1, 2.5))
    (tmp_path / "data" / "clip002.wav").unlink()
    table = read_source(Source(str(path)), cache)
    assert headers[3:] == [changed]
    np.testing.assert_array_equal(table.seconds, [1.0, 2.5, np.nan])
    assert [(one.id, one.reason) for one in table.problems] == [("clip002.wav", "No such file or directory")]


@pytest.mark.parametrize("damage", [lambda old: old[:-20], lambda old: b"", lambda old: old.replace(b"2.0", b"9.0")])
def test_a_damaged_cache_is_made_anew(tmp_path: Path, headers: list[object], damage: object) -> None:
    """With a warning; the next start finds it whole."""
    path, folder = write_manifest(tmp_path / "data", [1.0, 2.0], durations=False), tmp_path / "cache"
    read_source(Source(str(path)), folder)
    (cached,) = folder.iterdir()
    assert callable(damage)
    cached.write_bytes(damage(cached.read_bytes()))
    with pytest.warns(UserWarning, match="damaged; headers are read again"):
        assert read_source(Source(str(path)), folder).seconds.tolist() == [1.0, 2.0]
    assert read_source(Source(str(path)), folder).seconds.tolist() == [1.0, 2.0]
    assert len(headers) == 4


def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    """The run goes on."""
    (tmp_path / "cache").write_text("a file where the folder should be")
    path = write_manifest(tmp_path / "data", [1.0], durations=False)
    with pytest.warns(UserWarning, match="durations could not be kept|cannot be read"):
        assert read_source(Source(str(path)), tmp_path / "cache").seconds.tolist() == [1.0]


def test_two_processes_may_write_one_cache_at_once(tmp_path: Path) -> None:
    """Neither spoils what the other writes; the one that is ready last wins, and nothing else stays behind."""
    path = tmp_path / "cache.json"
    with replaced_file(path, shared=True) as one, replaced_file(path, shared=True) as other:
        one.write(b"of one")
        other.write(b"of the other")
    assert path.read_bytes() == b"of one"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_a_hundred_thousand_known_durations_take_seconds(tmp_path: Path, headers: list[object]) -> None:
    """Start-up on a long manifest: under 10 s, and not one file is opened."""
    path = tmp_path / "manifest.tsv"
    rows = "".join(f"some/folder/clip{number:06d}.flac\t{2 + number % 13}.25\tWORDS\n" for number in range(100_000))
    path.write_text("path\tduration\ttranscript\n" + rows)
    begun = time.perf_counter()
    table = read_source(Source(str(path)), tmp_path)
    assert time.perf_counter() - begun < 10
    assert len(table.seconds) == 100_000
    assert headers == []


def test_ten_thousand_cached_durations_take_a_second(tmp_path: Path, headers: list[object]) -> None:
    """A tenth of the files, a tenth of the 10 s."""
    paths = [tmp_path / f"{number}.wav" for number in range(10_000)]
    cache = DurationCache(tmp_path / "cache", "test")
    for path in paths:
        path.touch()
        status = os.stat(path)
        cache.put(str(path), (status.st_size, status.st_mtime_ns), 3.5)
    cache.save()
    begun = time.perf_counter()
    table = FileTable(paths, [path.name for path in paths], np.full(len(paths), np.nan))
    measure(table, DurationCache(tmp_path / "cache", "test"))
    assert time.perf_counter() - begun < 1
    assert (table.seconds == 3.5).all()
    assert (table.problems, headers) == ([], [])


@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG", "MP3"])
def test_parquet_with_embedded_bytes(tmp_path: Path, container: str) -> None:
    """All containers, 44.1 kHz stereo: decoded by us to 16 kHz mono; lengths from the headers in the bytes, once."""
    pytest.importorskip("datasets")
    content = encoded(1, 2.0, container, rate=44100, channels=2)
    audio = {"bytes": content, "path": f"a.{container}"}
    write_parquet(tmp_path / "shards" / "0.parquet", [{"audio": audio, "text": "one", "speaker_id": 7}])
    table = read_source(Source(str(tmp_path / "shards")), tmp_path / "cache", with_text=True)
    clip = table.clip(0)
    assert (clip.id, clip.audio, clip.speaker, clip.transcript) == (f"row 0 (a.{container})", content, "7", "one")
    assert clip.seconds == pytest.approx(2.0, abs=0.06)
    samples = load_clip(clip, 0, CROP).samples
    expected = resample(noise(1, 2.0, 44100, 2).mean(axis=1).astype(np.float32), 44100, 16000)
    assert samples.dtype == np.float32
    assert abs(len(samples) - len(expected)) < 1000
    if container in ("WAV", "FLAC"):
        np.testing.assert_allclose(samples, expected, atol=1e-4)


def test_lengths_in_a_data_set_are_cached(tmp_path: Path, headers: list[object]) -> None:
    """By the fingerprint of the data set and the number of the row."""
    datasets = pytest.importorskip("datasets")
    rows = [{"bytes": encoded(number, 1.0 + number), "path": None} for number in range(3)]
    datasets.Dataset.from_dict({"audio": [*rows, {"bytes": b"none", "path": None}]}).save_to_disk(tmp_path / "saved")
    source = Source(str(tmp_path / "saved"))
    assert kind_of(source) == "dataset"
    for expected in (4, 5):  # the unreadable one is tried again
        table = read_source(source, tmp_path / "cache")
        np.testing.assert_array_equal(table.seconds, [1.0, 2.0, 3.0, np.nan])
        assert [one.id for one in table.problems] == ["row 3"]
        assert len(headers) == expected


def test_a_column_of_seconds_spares_the_headers(tmp_path: Path, headers: list[object]) -> None:
    """Whole numbers are not taken for seconds: they may be milliseconds, or samples."""
    pytest.importorskip("datasets")
    for name, value in (("float", 1.5), ("whole", 1500)):
        rows: list[dict[str, object]] = [{"audio": {"bytes": encoded(0, 1.5), "path": None}, "duration": value}]
        write_parquet(tmp_path / f"{name}.parquet", rows)
        assert read_source(Source(str(tmp_path / f"{name}.parquet")), tmp_path / "c").seconds.tolist() == [1.5]
    assert len(headers) == 1


def test_what_is_wrong_with_a_source_is_said(tmp_path: Path) -> None:
    """What, where, and what would be right."""
    pytest.importorskip("datasets")
    empty, audio, mixed = tmp_path / "empty", tmp_path / "audio.wav", tmp_path / "mixed"
    empty.mkdir()
    audio.write_bytes(encoded(0, 1.0))
    write_parquet(mixed / "0.parquet", [{"sound": b"x", "text": "y"}])
    (mixed / "a.wav").write_bytes(b"")
    (tmp_path / "no.tsv").write_text("path\n")
    plain = write_manifest(tmp_path / "plain", [1.0])
    shard = str(mixed / "0.parquet")
    for source, with_text, message in (
        (Source("./nowhere"), False, "nowhere: nothing there; give a folder"),
        (Source(str(tmp_path / "nowhere.parquet"), format="parquet"), False, "no parquet file there"),
        (Source(str(tmp_path / "no*.parquet")), False, "no parquet file there"),
        (Source(str(empty)), False, "no audio in this folder"),
        (Source(str(audio)), False, "is one audio file; give the folder"),
        (Source(str(mixed)), False, "holds both audio files and parquet"),
        (Source(str(tmp_path / "no.tsv")), False, "empty, there is not one clip"),
        (Source(shard), False, "no column 'audio' with audio .set `audio_column`.; its columns are: sound, text"),
        (Source(shard, audio_column="sound", text_column="words"), False, "no column 'words'"),
        (Source(str(plain)), True, "no column `transcript`"),
        (Source(str(plain.parent)), True, "a folder has no transcripts"),
        (
            Source("no/such-data-set-anywhere"),
            False,
            "no/such-data-set-anywhere: no file or folder of this name, and the data set cannot be opened",
        ),
    ):
        with pytest.raises(TrainingDataError, match=message):
            read_source(source, tmp_path / "cache", with_text=with_text)


@pytest.mark.parametrize(("rate", "tolerance"), [(16000, 0.0), (44100, 1e-6)])
def test_a_crop_is_a_slice_of_the_whole(tmp_path: Path, rate: int, tolerance: float) -> None:
    """From where the seed says; exactly, or to rounding where the rate is converted."""
    path = tmp_path / "a.flac"
    path.write_bytes(encoded(3, 9.0, "FLAC", rate=rate))
    clip = Clip("a", path, 9.0)
    whole = load_clip(clip, 0, LengthLimits(1.0, 20.0, crop=True)).samples
    assert len(whole) == 9 * 16000
    starts = [crop_start(seed, len(whole), 64000) for seed in range(8)]
    assert len(set(starts)) == 8
    for seed, start in enumerate(starts):
        crop = load_clip(clip, seed, CROP).samples
        np.testing.assert_allclose(crop, whole[start : start + 64000], rtol=0, atol=tolerance)
        np.testing.assert_array_equal(load_clip(clip, seed, CROP).samples, crop)
    np.testing.assert_array_equal(load_clip(clip, 5, CROP, at_random=False).samples, whole[:64000])


def test_files_that_are_not_as_long_as_was_said(tmp_path: Path) -> None:
    """A manifest that is wrong must not fill the memory, nor hide that most of a clip is missing."""
    path = tmp_path / "a.wav"
    path.write_bytes(encoded(0, 6.0))
    with_text = LengthLimits(1.0, 4.0, crop=False)
    with pytest.raises(ValueError, match="longer than the 2.00 s"):
        load_clip(Clip("a", path, 2.0, transcript="x"), 0, with_text)
    assert len(load_clip(Clip("a", path, 6.0, transcript="x"), 0, with_text).samples) == 96000
    assert len(load_clip(Clip("a", path, 2.0), 0, CROP).samples) == 64000
    path.write_bytes(encoded(0, 0.5))
    with pytest.raises(ValueError, match="0.50 s from second 0.00 on, of a file said to last 3.00 s"):
        load_clip(Clip("a", path, 3.0), 0, CROP)
