"""`data.speeds`: clips come also at other speeds, as clips of their own, as if the copies were files."""

import json
from contextlib import closing
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from small_models import small_config
from training_audio import RATE, clips_of, encoded, joined, noise, write_manifest, write_parquet
from written_speeds import written_out

from wav2vec2 import Wav2Vec2FeatureExtractor, load_audio
from wav2vec2.training.data.audio_clips import Clip, LengthLimits, load_clip
from wav2vec2.training.data.batch_loading import Batch, TrainingData
from wav2vec2.training.data.micro_batches import Waveforms
from wav2vec2.training.settings.run_config import (
    FinetuneDataSection,
    Source,
)
from wav2vec2.training.tasks.classification_task import FrameLabelTask

SPEEDS = [0.9, 1.2]

#: Of limits of 0.4 to 1 s: some clips are within, of others only a copy is, at one end or the other.
LENGTHS = [0.38, 0.42, 0.47, 0.55, 0.6, 0.7, 0.8, 0.88, 0.95, 1.0, 1.1, 1.3]


def section(*train: Path, speeds: list[float] = SPEEDS, **changes: Any) -> FinetuneDataSection:
    """Small numbers: 4 s an update, 2 s a micro-batch."""
    settings: dict[str, Any] = {"min_seconds": 0.4, "max_seconds": 1.0, "seconds_per_update": 4.0, "workers": 0}
    settings |= {"seconds_per_batch": 2.0, "bucket_updates": 3, "stream_pool": 12, "speeds": speeds}
    return FinetuneDataSection(train=[Source(str(path)) for path in train], **(settings | changes))


def data_of(*train: Path, speeds: list[float] = SPEEDS, **changes: Any) -> TrainingData:
    return TrainingData(section(*train, speeds=speeds, **changes), 1, with_text=True)


def taken(data: TrainingData, until: int, start: int = 0, position: Any = None, **where: int) -> list[Batch]:
    """All micro-batches of the updates from `start` to before `until`."""
    given: dict[str, Any] = {"processes": 1, "process": 0} | where
    with closing(data.batches(joined, **given, start_update=start, position=position or {})) as batches:
        return list(takewhile(lambda batch: batch.update < until, batches))


def heard(batches: list[Batch]) -> dict[tuple[int, int], bytes]:
    """(update, clip seed) -> samples."""
    return {key: samples for key, (_, samples) in clips_of(batches).items()}


# --- one clip ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("speed", [0.5, 0.9, 1.1, 1.2, 2.0])
def test_a_copy_is_the_resampled_file(tmp_path: Path, speed: float) -> None:
    """To the last bit what soxr makes of the whole file, also of a stereo file of 44.1 kHz."""
    limits = LengthLimits(0.1, 40.0, crop=False)
    for rate, channels in ((RATE, 1), (44100, 2)):
        path = tmp_path / f"{rate}.flac"
        soundfile.write(path, noise(1, 1.7, rate, channels), rate)
        clip = Clip("a.flac", path, 1.7, speaker="me", transcript="text", number=7).at(speed)
        assert (clip.id, clip.seconds) == (f"a.flac at {speed:g}", 1.7 / speed)
        found = load_clip(clip, 5, limits)
        np.testing.assert_array_equal(found.samples, soxr.resample(load_audio(path), 16000 * speed, 16000))
        assert (found.id, found.transcript, found.speaker, found.number) == (clip.id, "text", "me", 7)
        assert (found.seed, found.facts.speed) == (5, speed)
        assert abs(len(found.samples) - clip.seconds * RATE) <= 1


def test_a_copy_is_higher(tmp_path: Path) -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    soundfile.write(tmp_path / "tone.wav", 0.5 * tone, RATE)
    samples = load_clip(Clip("a", tmp_path / "tone.wav", 1.0).at(1.25), 0, LengthLimits(0.1, 9.0, crop=False)).samples
    assert len(samples) == 12800
    assert np.argmax(np.abs(np.fft.rfft(samples))) * RATE / len(samples) == pytest.approx(1250)


def test_a_copy_at_its_own_speed_is_the_clip() -> None:
    clip = Clip("a", b"", 1.0)
    assert clip.at(1.0) is clip


def test_tolerances_are_those_of_the_file(tmp_path: Path) -> None:
    """A header may be off by 0.1 s of the file's time, which is twice as much in a copy at half the speed."""
    path, limits = tmp_path / "a.wav", LengthLimits(0.1, 1.0, crop=False)
    soundfile.write(path, noise(0, 3.08), RATE)
    assert len(load_clip(Clip("a", path, 3.0).at(0.5), 0, limits).samples) == 2 * 3.08 * RATE
    for speed in (0.5, 2.0):
        with pytest.raises(ValueError, match=r"longer than the 2\.70 s that it was said to be"):
            load_clip(Clip("a", path, 2.7).at(speed), 0, limits)
        with pytest.raises(ValueError, match=r"3\.08 s from second 0\.00 on, of a file said to last 4\.00 s"):
            load_clip(Clip("a", path, 4.0).at(speed), 0, LengthLimits(8.0, 9.0, crop=False))


def test_a_crop_has_the_length_that_is_allowed(tmp_path: Path) -> None:
    """Where clips are cropped, of a copy as many of its own seconds as of another clip; a kept one has no number."""
    path, limits = tmp_path / "a.wav", LengthLimits(0.1, 1.0, crop=True)
    soundfile.write(path, noise(0, 4.0), RATE)
    whole = load_audio(path)
    for speed, number in ((2.0, None), (4.5, 3)):
        found = load_clip(Clip("a", path, 4.0, number=3).at(speed), 8, limits)
        assert len(found.samples) == min(RATE, round(4 * RATE / speed)) and found.number == number
    first = load_clip(Clip("a", path, 4.0).at(2.0), 8, limits, at_random=False).samples
    np.testing.assert_array_equal(first, soxr.resample(whole[: 2 * RATE], 2 * RATE, RATE))


# --- batches -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("processes", "per_batch"), [(1, 2.0), (3, 1.2)])
def test_it_is_as_if_the_copies_were_files(tmp_path: Path, processes: int, per_batch: float, workers: int) -> None:
    """Two sources, balanced: the same clips are chosen by their own seconds, drawn as often, cut into the same updates
    and parts, and heard to the last bit; the run says the same of them."""
    sources = [
        write_manifest(tmp_path / "long", LENGTHS, text=True),
        write_manifest(tmp_path / "short", LENGTHS[:5], text=True),
    ]
    files = [written_out(path, SPEEDS) for path in sources]
    sizes: dict[str, Any] = {"balance": 0.4, "seconds_per_batch": per_batch}
    copies, written = data_of(*sources, workers=workers, **sizes), data_of(*files, speeds=[], **sizes)
    for process in range(processes):
        where = {"processes": processes, "process": process}
        found, expected = taken(copies, 9, **where), taken(written, 9, **where)
        assert heard(found) == heard(expected)
        for one, other in zip(found, expected, strict=True):
            assert (one.update, one.part, one.parts, one.epoch) == (other.update, other.part, other.parts, other.epoch)
            for clip, file in zip(one.clips, other.clips, strict=True):
                assert replace(clip, id="", speed=1.0) == replace(file, id="")
                name, _, speed = clip.id.rpartition("/")[2].partition(" at ")
                named = f"{name.removesuffix('.wav')} at {speed}.wav" if speed else name
                assert (file.id.rpartition("/")[2], clip.speed) == (named, float(speed or 1))
    kinds = [[replace(source, name="") for source in data.summary.sources] for data in (copies, written)]
    assert kinds[0] == kinds[1]
    assert copies.summary.left_out == written.summary.left_out
    assert copies.summary.updates_per_epoch == written.summary.updates_per_epoch
    assert (copies.clips, copies.hours, copies.numbers) == (written.clips, written.hours, written.numbers)


def test_which_copies_are_used_follows_from_their_own_seconds(tmp_path: Path) -> None:
    """By brute force; every one of them once in an epoch."""
    expected = {
        f"clip{number:03d}.wav" + ("" if speed == 1 else f" at {speed:g}"): seconds / speed
        for number, seconds in enumerate(LENGTHS)
        for speed in (1.0, *SPEEDS)
        if 0.4 <= seconds / speed <= 1.0
    }
    total = sum(expected.values())
    data = data_of(write_manifest(tmp_path, LENGTHS, text=True), seconds_per_update=total / 4)
    assert {"clip000.wav at 0.9", "clip010.wav at 1.2"} < expected.keys()  # of these two nothing but a copy
    assert not {"clip000.wav", "clip010.wav", "clip010.wav at 0.9"} & expected.keys()
    assert sorted(name for batch in taken(data, 4) for name in batch.ids) == sorted(expected)
    assert data.summary.left_out == {"shorter than 0.4 s": 4, "longer than 1 s": 7}
    assert data.clips == len(expected) == 25 and data.hours == pytest.approx(total / 3600)


def test_evaluations_have_no_copies(tmp_path: Path) -> None:
    train, valid = (write_manifest(tmp_path / name, LENGTHS[3:9], text=True) for name in ("train", "valid"))
    found = []
    for speeds in (SPEEDS, []):
        data = data_of(train, speeds=speeds, valid=[Source(str(valid))])
        batches = data.evaluation_batches(joined, processes=1, process=0, seconds_per_batch=2.0)
        found.append({clip.id: (clip.number or 0) - data.numbers for batch in batches for clip in batch.clips})
    assert found[0] == found[1] == {f"clip{number:03d}.wav": number - 6 for number in range(6)}


def test_copies_have_numbers_of_their_own(tmp_path: Path) -> None:
    """By which features are kept: no number is that of another clip, and each clip has always the same."""
    data = data_of(write_manifest(tmp_path, LENGTHS, text=True))
    numbers: dict[str, set[int | None]] = {}
    for clip in (clip for batch in taken(data, 20) for clip in batch.clips):
        numbers.setdefault(clip.id, set()).add(clip.number)
    assert len(numbers) == data.clips and all(len(one) == 1 for one in numbers.values())
    assert numbers["clip005.wav"] == {5} and numbers["clip005.wav at 1.2"] == {29}
    assert len(set.union(*numbers.values())) == data.clips


def test_what_cannot_be_read_is_told_of_once_and_counts_as_often_as_it_would_be_used(tmp_path: Path) -> None:
    """A header beforehand; and each copy of a file that turns out to be damaged."""
    path = write_manifest(tmp_path, LENGTHS, text=True, durations=False)
    (tmp_path / "clip004.wav").write_bytes(b"nothing")
    samples = noise(6, 0.8)
    soundfile.write(tmp_path / "clip006.wav", np.where(np.arange(len(samples)) > 9000, np.nan, samples), RATE, "FLOAT")
    data = data_of(path)
    assert [one.id for one in data.problems] == ["clip004.wav"]
    assert data.summary.left_out["unreadable"] == 3
    skipped = {one.id: one.reason for batch in taken(data, 10) for one in batch.skipped}
    assert set(skipped) == {"clip006.wav", "clip006.wav at 0.9", "clip006.wav at 1.2"}
    assert set(skipped.values()) == {"it holds NaN"}


# --- streams -------------------------------------------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Twelve clips as parquet, and one that is damaged; the lengths of none are told."""
    pytest.importorskip("datasets")
    rows: list[dict[str, object]] = [
        {"audio": {"bytes": encoded(number, seconds), "path": f"{number}.wav"}, "text": f"WORD {number}"}
        for number, seconds in enumerate(LENGTHS)
    ]
    rows.insert(5, {"audio": {"bytes": b"damaged", "path": "bad.wav"}, "text": "NOTHING"})
    write_parquet(tmp_path / "shards" / "0.parquet", rows)
    return tmp_path / "shards"


def streamed(shards: Path, *others: Path, **changes: Any) -> TrainingData:
    given = section(*others, **changes)
    given.train.insert(0, Source(str(shards), streaming=True, weight=1.0 if others else None, hours=2.0))
    for source in given.train:
        source.weight = 1.0 if others else None
    return TrainingData(given, 1, with_text=True)


def test_a_stream_comes_at_every_speed(shards: Path) -> None:
    """Each example as often at each speed at which its length is used, with the samples of the resampled audio; hours
    that are told are those of the stream, to which its copies are added."""
    data = streamed(shards)
    batches = taken(data, 30)
    last = max(batch.update for batch in batches if batch.position["used"] == 0)  # of a pool
    counts: dict[str, int] = {}
    for name, samples in clips_of(batch for batch in batches if batch.update <= last).values():
        counts[name] = counts.get(name, 0) + 1
        original, _, speed = name.partition(" at ")
        number = int(original.rpartition("(")[2].removesuffix(".wav)"))
        whole = noise(number, LENGTHS[number]).astype(np.float32)
        expected = soxr.resample(whole, RATE * float(speed), RATE) if speed else whole
        assert samples == expected.tobytes()
    assert len(counts) == 25 and max(counts.values()) - min(counts.values()) <= 1
    assert data.hours == pytest.approx(2 * (1 + 1 / 0.9 + 1 / 1.2))
    skipped = [one.id for batch in taken(data, 6) for one in batch.skipped]
    assert set(skipped) == {"row 5 (bad.wav)"} and len(skipped) <= 2


def test_a_stream_resumes_at_any_update(shards: Path, tmp_path: Path) -> None:
    """Alone, and beside a manifest whose clips have copies too, of some nothing but a copy."""
    beside = write_manifest(tmp_path / "beside", LENGTHS, text=True)
    for others in ((), (beside,)):
        batches = taken(streamed(shards, *others), 16)
        positions = {batch.update: json.loads(json.dumps(batch.position)) for batch in batches}
        for update in range(1, 14, 3):
            resumed = taken(streamed(shards, *others), update + 3, update, positions[update - 1])
            assert heard(resumed) == heard([batch for batch in batches if update <= batch.update < update + 3])
    names = {name.removeprefix("manifest.tsv/") for batch in batches for name in batch.ids}
    assert {"clip000.wav at 0.9", "clip010.wav at 1.2", "clip005.wav"} < names and "clip010.wav" not in names


# --- labels of frames ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("speed", [0.5, 0.8, 1.25, 2.0])
def test_stretches_of_a_copy_are_where_they_are_heard(tmp_path: Path, speed: float) -> None:
    """A noise begins at 0.6 s of the file and ends at 1.2 s: in a copy where it is loud."""
    samples = 0.001 * noise(0, 2.0)
    samples[round(0.6 * RATE) : round(1.2 * RATE)] *= 900
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    clip = Clip("a", tmp_path / "a.wav", 2.0, transcript="0.6-1.2 loud").at(speed)
    found = load_clip(clip, 0, LengthLimits(0.1, 9.0, crop=False))
    task = FrameLabelTask(small_config(), Wav2Vec2FeatureExtractor(), ["none", "loud"], seed=0)
    (labels,) = task.with_targets(Waveforms(normalize=False)([found]), [found.facts])["labels"]
    middles = [round(320 * frame + 200) for frame in range(len(labels))]
    level = [float(np.abs(found.samples[max(0, m - 100) : m + 100]).max()) > 0.02 for m in middles]
    assert sum(int(a) != b for a, b in zip(level, labels.tolist(), strict=True)) <= 1
    assert sum(labels.tolist()) == pytest.approx(0.6 / speed * 50, abs=1)
