"""From sources to the micro-batches of each process: the same audio however it is divided, resumed, or loaded."""

import json
import multiprocessing
import os
import signal
import time
from contextlib import closing
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from ffmpeg_programs import ANY_PROGRAM, folder_of
from training_audio import clips_of, encoded, joined, write_manifest, write_parquet

from wav2vec2.processing.audio_files import load_audio
from wav2vec2.training.data import audio_clips
from wav2vec2.training.data.audio_clips import Skipped, TrainingDataError, clip_seed, crop_start
from wav2vec2.training.data.bad_files import BadFiles, TooManyBadFiles
from wav2vec2.training.data.batch_loading import Batch, TrainingData
from wav2vec2.training.data.micro_batches import Waveforms
from wav2vec2.training.settings.run_config import DataSection, Source

#: Some are longer than the crop of 1 s, two shorter than the least of 0.2 s.
LENGTHS = [0.3 + 0.05 * (number * 7 % 24) for number in range(40)] + [0.1, 0.15]


def section(*train: Source, **changes: Any) -> DataSection:
    """Small numbers: 4 s an update, 2 s a micro-batch."""
    settings: dict[str, Any] = {
        "min_seconds": 0.2,
        "max_seconds": 1.0,
        "seconds_per_update": 4.0,
        "seconds_per_batch": 2.0,
        "bucket_updates": 3,
        "stream_pool": 12,
        "workers": 0,
    }
    return DataSection(train=list(train), **(settings | changes))


def taken(
    data: TrainingData,
    until: int,
    start: int = 0,
    position: dict[str, Any] | None = None,
    processes: int = 1,
    process: int = 0,
) -> list[Batch]:
    """All micro-batches of the updates from `start` to before `until`."""
    where: dict[str, Any] = {"processes": processes, "process": process}
    with closing(data.batches(joined, **where, start_update=start, position=position or {})) as batches:
        return list(takewhile(lambda batch: batch.update < until, batches))


def same(first: list[Batch], second: list[Batch]) -> None:
    """Bit for bit, and in the same order."""
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for name, tensor in one.inputs.items():
            assert torch.equal(tensor, other.inputs[name])
        assert {**vars(one), "inputs": None, "position": None} == {**vars(other), "inputs": None, "position": None}


@pytest.fixture
def manifest(tmp_path: Path) -> Source:
    """Forty usable clips."""
    return Source(str(write_manifest(tmp_path / "data", LENGTHS)))


@pytest.fixture
def stream(tmp_path: Path) -> Source:
    """The same clips as three parquet shards, of which one example has no audio."""
    pytest.importorskip("datasets")
    for shard in range(3):
        rows: list[dict[str, object]] = [
            {"audio": {"bytes": encoded(number, LENGTHS[number]), "path": f"{number}.wav"}}
            for number in range(shard, len(LENGTHS), 3)
        ]
        if shard == 1:
            rows.insert(2, {"audio": {"bytes": b"damaged", "path": "bad.wav"}})
        write_parquet(tmp_path / "shards" / f"{shard}.parquet", rows)
    return Source(str(tmp_path / "shards"), streaming=True)


def test_nothing_is_decoded_at_the_start(manifest: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """And then only what is in the batch, and of that only the crop."""
    asked: list[dict[str, Any]] = []
    original = load_audio

    def counted(*arguments: Any, **options: Any) -> Any:
        asked.append(options)
        return original(*arguments, **options)

    monkeypatch.setattr(audio_clips, "load_audio", counted)
    data = TrainingData(section(manifest, valid=[manifest]), 1)
    assert asked == []
    batches = taken(data, 1)
    assert sum(len(batch.ids) for batch in batches) <= len(asked)
    assert all(options["duration"] == 1.0 for options in asked)


def test_a_source_that_is_given_twice_has_two_names(manifest: Source) -> None:
    """Reports can tell its uses apart."""
    batches = taken(TrainingData(section(manifest, manifest), 1), 12)
    assert {name.partition(":")[0] for batch in batches for name in batch.ids} == {"1", "2"}


def test_an_epoch_hears_every_clip_once(manifest: Source) -> None:
    """The whole of short ones; the crop that the clip's seed says of the others; none below the least."""
    data = TrainingData(section(manifest), 1)
    updates = round(sum(min(length, 1.0) for length in LENGTHS[:40]) / 4)
    found = clips_of(taken(data, updates))
    assert sorted(name for name, _ in found.values()) == [f"clip{number:03d}.wav" for number in range(40)]
    seeds = {clip_seed(1, update, index) for update in range(updates) for index in range(40)}
    for (_, seed), (name, content) in found.items():
        number = int(name[4:7])
        whole = np.random.default_rng(number).integers(-8000, 8000, round(LENGTHS[number] * 16000)) / 32768
        start = crop_start(seed, len(whole), 16000)
        assert content == whole[start : start + 16000].astype(np.float32).tobytes()
        assert seed in seeds
    assert data.clips == 40
    assert data.hours == pytest.approx(sum(LENGTHS[:40]) / 3600)
    assert data.summary.lines()[1] == "  left out: 2 shorter than 0.2 s"


@pytest.mark.parametrize("kind", ["manifest", "stream"])
def test_processes_and_parts_hear_the_same(kind: str, request: pytest.FixtureRequest) -> None:
    """Other processes, other micro-batches: in each update the same samples under the same seeds, and as many parts."""
    source = request.getfixturevalue(kind)
    expected = clips_of(taken(TrainingData(section(source), 3), 8))
    for processes, per_batch in ((1, 1.0), (2, 2.0), (3, 1.2), (5, 3.0)):
        data = TrainingData(section(source, seconds_per_batch=per_batch), 3)
        ranks = [taken(data, 8, processes=processes, process=process) for process in range(processes)]
        assert clips_of(batch for rank in ranks for batch in rank) == expected
        shapes = [[(batch.update, batch.part, batch.parts, batch.position) for batch in rank] for rank in ranks]
        assert all(shape == shapes[0] for shape in shapes)
        assert all(
            len(b.ids) * max(b.inputs["lengths"], default=0) <= per_batch * 16000 for rank in ranks for b in rank
        )
    other = clips_of(taken(TrainingData(section(source), 4), 8))
    assert other.keys() != expected.keys()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["manifest", "stream"])
def test_resuming_at_any_update_goes_on(kind: str, request: pytest.FixtureRequest) -> None:
    """With the position through JSON; over pools and epochs; and also when it was resumed before every update."""
    source = request.getfixturevalue(kind)
    batches = taken(TrainingData(section(source), 3), 24)
    assert batches[-1].epoch > 1
    positions = {batch.update: batch.position for batch in batches}
    for update in range(1, 23):
        position = json.loads(json.dumps(positions[update - 1]))
        positions[update] = taken(TrainingData(section(source), 3), update + 1, update, position)[0].position
        resumed = taken(TrainingData(section(source), 3), min(24, update + 5), update, position)
        same(resumed, [batch for batch in batches if update <= batch.update < update + 5])


@pytest.mark.parametrize("program", ANY_PROGRAM)
def test_a_stream_without_a_state_is_read_up_to_where_it_was(
    program: Path | None, stream: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is with versions of `datasets` that cannot say where a stream stands: by the number of the example."""
    monkeypatch.setenv("PATH", folder_of(program, tmp_path / "programs"))
    batches = taken(TrainingData(section(stream), 3), 12)
    position = json.loads(json.dumps(next(batch.position for batch in batches if batch.update == 6)))
    assert position["streams"][0]["number"] > 0
    position["streams"][0]["stream"] = None
    resumed = taken(TrainingData(section(stream), 3), 12, 7, position)
    same(resumed, [batch for batch in batches if batch.update >= 7])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["manifest", "stream"])
def test_workers_change_nothing(kind: str, request: pytest.FixtureRequest) -> None:
    """1, 2 and 3 worker processes give what none gives, in the same order; they leave torch's random numbers alone."""
    source = request.getfixturevalue(kind)
    expected = taken(TrainingData(section(source), 3), 6)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    for workers in (1, 2, 3):
        same(taken(TrainingData(section(source, workers=workers), 3), 6), expected)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.slow
def test_workers_outlive_signals_and_end_when_closed(manifest: Source) -> None:
    """Ctrl-C and SIGTERM go to every process of a job at once; the training process decides when its workers end."""
    expected = taken(TrainingData(section(manifest), 3), 40)
    batches = TrainingData(section(manifest, workers=2), 3).batches(
        joined, processes=1, process=0, start_update=0, position={}
    )
    with closing(batches):
        first = [next(batches), next(batches)]  # one of each worker, so both have begun
        workers = multiprocessing.active_children()
        assert len(workers) == 2
        for worker in workers:
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGINT)
            os.kill(worker.pid, signal.SIGTERM)
        same([*first, *takewhile(lambda batch: batch.update < 40, batches)], expected)
        begun = time.perf_counter()
    assert time.perf_counter() - begun < 3
    assert multiprocessing.active_children() == []


def test_a_stream_is_shuffled_and_used_up_evenly(stream: Source) -> None:
    """Every update 4 s to within a clip; an unreadable example is listed once per pass; every clip comes."""
    data = TrainingData(section(stream), 3)
    batches = taken(data, 30)
    for update in range(30):
        assert sum(batch.seconds for batch in batches if batch.update == update) == pytest.approx(4.0, abs=1.01)
    names = [name for batch in batches for name in batch.ids]
    assert len(set(names)) == 40
    assert names[:40] != sorted(names[:40])
    assert {one.id for batch in batches for one in batch.skipped} == {"row 16 (bad.wav)"}
    assert 2 <= sum(len(batch.skipped) for batch in batches) <= 5
    assert (data.clips, data.hours) == (None, None)


def test_streams_and_clips_are_mixed_by_weight(stream: Source, manifest: Source) -> None:
    """Three of four examples from the stream; resumed as well."""
    mixed = [Source(stream.path, streaming=True, weight=3.0), Source(manifest.path, weight=1.0)]
    batches = taken(TrainingData(section(*mixed), 3), 60)
    names = [name for batch in batches for name in batch.ids]
    share = sum(name.startswith("shards/") for name in names) / len(names)
    assert share == pytest.approx(0.75, abs=0.08)  # 3 standard deviations of 330 draws
    position = next(batch.position for batch in batches if batch.update == 40)
    resumed = taken(TrainingData(section(*mixed), 3), 45, 41, json.loads(json.dumps(position)))
    same(resumed, [batch for batch in batches if 41 <= batch.update < 45])


def test_sources_are_balanced(tmp_path: Path) -> None:
    """Hours to the power 0.5: of 30 s and 7.5 s of audio, 2/3 and 1/3; epochs stay as long as they are."""
    large = Source(str(write_manifest(tmp_path / "large", [0.5] * 60)))
    small = Source(str(write_manifest(tmp_path / "small", [0.5] * 15)))
    data = TrainingData(section(large, small, balance=0.5), 3)
    assert [one.share for one in data.summary.sources] == pytest.approx([2 / 3, 1 / 3])
    assert data.summary.updates_per_epoch == pytest.approx(37.5 / 4, rel=0.1)
    updates = round(8 * 37.5 / 4)
    names = [name for batch in taken(data, updates) for name in batch.ids]
    assert sum(name.startswith("1:manifest.tsv/") for name in names) / len(names) == pytest.approx(2 / 3, abs=0.01)
    assert {name[:15] for name in names} == {"1:manifest.tsv/", "2:manifest.tsv/"}
    assert [one.copies for one in data.summary.sources] == pytest.approx([25 / 30, 12.5 / 7.5])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_file_is_skipped_and_reported(manifest: Source, workers: int) -> None:
    """The others of its batch are what they were."""
    expected = clips_of(taken(TrainingData(section(manifest), 3), 10))
    path = Path(manifest.path).parent / "clip007.wav"
    path.write_bytes(path.read_bytes()[:300])
    batches = taken(TrainingData(section(manifest, workers=workers), 3), 10)
    assert clips_of(batches) == {key: one for key, one in expected.items() if one[0] != "clip007.wav"}
    skipped = [one for batch in batches for one in batch.skipped]
    assert {one.id for one in skipped} == {"clip007.wav"}
    assert all("truncated" in one.reason for one in skipped)


def test_a_file_that_decodes_to_no_waveform_is_skipped_too(tmp_path: Path) -> None:
    """Samples may be finite and yet too large for a variance: that is the fault of this clip, not of its batch."""
    path = write_manifest(tmp_path / "data", LENGTHS)
    spoiled = path.parent / "clip007.wav"
    samples = np.zeros(round(LENGTHS[7] * 16000), np.float32)
    samples[50:] = 1e25
    soundfile.write(spoiled, samples, 16000, subtype="FLOAT")
    data = TrainingData(section(Source(str(path)), workers=0), 3)
    batches = data.batches(Waveforms(normalize=True), processes=1, process=0, start_update=0, position={})
    epoch = list(takewhile(lambda batch: batch.update < 9, batches))
    assert {one.id for batch in epoch for one in batch.skipped} == {"clip007.wav"}
    reasons = {one.reason for batch in epoch for one in batch.skipped}
    assert reasons == {"the audio holds samples up to 1e+25: their variance is not finite"}
    assert all((batch.inputs["sample_lengths"] > 0).sum() == len(batch.ids) for batch in epoch)
    assert {f"clip{number:03d}.wav" for number in range(40)} - {name for b in epoch for name in b.ids} == {
        "clip007.wav"
    }


def test_bad_files_are_listed_once_and_stop_the_run_above_a_share(tmp_path: Path) -> None:
    """Ten failures at least, above the share; also those that another process listed are not repeated."""
    path = tmp_path / "output" / "unreadable.tsv"
    bad, other = BadFiles(path, 0.1), BadFiles(path, 0.1)
    bad.add([Skipped("a.wav", "cut\noff")], 0)
    other.add([Skipped("a.wav", "cut off"), Skipped("b\t.wav", "empty")], 5)
    for _ in range(8):
        bad.add([Skipped("a.wav", "cut off")], 9)
    assert path.read_text() == "id\treason\na.wav\tcut off\nb .wav\tempty\n"
    assert (bad.bad, bad.tried) == (9, 81)
    bad.add([], 20)
    bad.add([Skipped("c.wav", "silent")], 0)  # 10 of 102 is below a tenth
    with pytest.raises(TooManyBadFiles, match=r"11 of 103 clips .10.7%. could not .* d.wav: gone.*data.max_bad_share"):
        bad.add([Skipped("d.wav", "gone")], 0)


@pytest.mark.parametrize("with_text", [False, True])
def test_an_evaluation_hears_every_clip_once(tmp_path: Path, with_text: bool) -> None:
    """Over any number of processes, with as many batches each; the beginning of long clips, with text all of them."""
    source = Source(str(write_manifest(tmp_path / "data", LENGTHS, text=True)))
    data = TrainingData(section(source, valid=[source]), 3, with_text=with_text)
    for processes in (1, 2, 3):
        ranks = [
            list(data.evaluation_batches(joined, processes=processes, process=process, seconds_per_batch=3.0))
            for process in range(processes)
        ]
        assert len({len(rank) for rank in ranks}) == 1
        found = clips_of(batch for rank in ranks for batch in rank)
        expected = range(42) if with_text else range(40)
        assert sorted(name for name, _ in found.values()) == [f"clip{number:03d}.wav" for number in expected]
        for name, content in found.values():
            length = LENGTHS[int(name[4:7])]
            assert len(content) == 4 * round((length if with_text else min(length, 1.0)) * 16000)


def test_with_text_only_whole_clips_with_a_transcript_are_used(tmp_path: Path) -> None:
    """What is longer than the limit is left out and counted, as is what has no words."""
    path = write_manifest(tmp_path / "data", LENGTHS, text=True)
    path.write_text(path.read_text().replace("WORD 0\n", "\n"))
    data = TrainingData(section(Source(str(path))), 3, with_text=True)
    long = sum(length > 1.0 for length in LENGTHS)
    assert data.summary.left_out == {"shorter than 0.2 s": 2, "longer than 1 s": long, "without a transcript": 1}
    found = clips_of(taken(data, 6))
    assert {name for name, _ in found.values()} <= {f"clip{n:03d}.wav" for n, one in enumerate(LENGTHS) if one <= 1.0}


def test_data_that_cannot_be_used_is_an_error(tmp_path: Path, stream: Source, manifest: Source) -> None:
    """Before the run begins, or at the first pool of a stream."""
    short = Source(str(write_manifest(tmp_path / "short", [0.1, 0.1])))
    with pytest.raises(
        TrainingDataError, match=r"none of its clips can be used: 2 shorter than 0.2 s; data.min_seconds=0.2, data"
    ):
        TrainingData(section(short), 1)
    with pytest.raises(TrainingDataError, match=r"seconds_per_update=0.9 has no room .* the longest clip has 1 s"):
        TrainingData(section(manifest, seconds_per_update=0.9), 1)
    with pytest.raises(TrainingDataError, match=r"seconds_per_update=4 has no room .* a stream .* which is 5 s"):
        TrainingData(section(stream, max_seconds=5.0), 1)
    assert TrainingData(section(manifest, max_seconds=50.0), 1).clips == 40, "what counts is how long clips are"
    with pytest.raises(TrainingDataError, match="give `weight`"):
        TrainingData(section(stream, manifest), 1)
    with pytest.raises(TrainingDataError, match="data.valid: an evaluation is over all"):
        TrainingData(section(manifest, valid=[stream]), 1)
    with pytest.raises(TrainingDataError, match="none of 120 examples can be used"):
        taken(TrainingData(section(stream, min_seconds=50.0, max_seconds=60.0, seconds_per_update=60.0), 1), 1)
    with pytest.raises(TrainingDataError, match="resume from a checkpoint"):
        taken(TrainingData(section(stream), 1), 5, 3)
