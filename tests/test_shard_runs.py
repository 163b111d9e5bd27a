"""Whole runs of fine-tuning on shards: recognition, resumed to the bit, labels, and copies at other speeds."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from classification_runs import of_run, tones
from finetuning_runs import labelled_recipe, train, write_labelled
from pretraining_runs import assert_same_run, last_checkpoint, log
from shard_files import some_clips, write_shar, write_shard_parquet, write_tar
from training_audio import clips_of, joined

from wav2vec2.inference.label_rule import RULE_FILE
from wav2vec2.processing.audio_files import load_audio
from wav2vec2.processing.manifests import read_manifest
from wav2vec2.processing.waveforms import at_speed
from wav2vec2.training import starting
from wav2vec2.training.classification import classify, last_evaluation, read_labelled
from wav2vec2.training.data.audio_clips import TrainingDataError
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.progress.training_log import read_log
from wav2vec2.training.settings.run_config import FinetuneDataSection, Source
from wav2vec2.training.update_step import Updater

SPEEDS = [0.9, 1.25]


def clips_in(manifest: Path) -> list[dict[str, Any]]:
    """The clips of a manifest, as shards are written of them."""
    found = []
    for one in read_manifest(manifest):
        known = {"transcript": one.transcript, "label": one.others.get("label")}
        clip = {"id": one.path.stem, "audio": one.path.read_bytes(), "seconds": one.duration}
        found.append(clip | {name: value for name, value in known.items() if value})
    return found


def write_tars(folder: Path, clips: list[dict[str, Any]], of: int) -> Path:
    for number, begin in enumerate(range(0, len(clips), of)):
        write_tar(folder / f"{number:06d}.tar", clips[begin : begin + of])
    return folder


@contextmanager
def ended_at(update: int) -> Iterator[None]:
    """The run that begins now ends at the beginning of this update, with nothing said or saved."""
    real = Updater.__call__

    def ending(self: Updater, number: int, *rest: Any) -> Any:
        if number == update:
            raise KeyError
        return real(self, number, *rest)

    with patch.object(Updater, "__call__", ending):
        yield


@pytest.mark.slow
def test_recognition_on_tars_is_resumed_to_the_bit(tmp_path: Path) -> None:
    """Trained on tars with transcripts and on copies of their clips, evaluated on parquet, killed and resumed."""
    clips = clips_in(write_labelled(tmp_path / "labelled", [0.9 + 0.05 * number for number in range(12)]))
    shards, valid = write_tars(tmp_path / "tars", clips, 3), tmp_path / "valid" / "0.parquet"
    write_shard_parquet(valid, clips[:3])

    def values(name: str) -> dict[str, Any]:
        often: dict[str, Any] = {"run__updates": 6, "run__save_every": 2, "run__evaluate_every": 3, "run__log_every": 1}
        found = labelled_recipe(tmp_path / name, shards, **often)
        found["data"] |= {"lanes": 2, "speeds": SPEEDS, "bucket_updates": 3, "valid": [{"path": str(valid.parent)}]}
        found["data"]["valid"][0]["format"] = "shards"
        return found

    straight, broken = tmp_path / "straight", tmp_path / "broken"
    train(values("straight"))
    with ended_at(4), pytest.raises(KeyError):
        train(values("broken"))
    assert last_checkpoint(broken).name == "update-00000004"
    train(values("broken"))
    assert_same_run(straight, broken)
    lines = read_log(straight)
    assert (log(straight)[0]["clips"], log(straight)[0]["speeds"]) == (36, SPEEDS)
    assert [line["update"] for line in lines if line["kind"] == "training"] == [1, 2, 3, 4, 5, 6]
    assert all(np.isfinite(line["cer"]) for line in lines if line["kind"] == "evaluation")


@pytest.mark.slow
def test_labels_are_learnt_from_shards(tmp_path: Path) -> None:
    """Of tars, and judged on parquet, on which the threshold is chosen too."""
    train, valid = clips_in(tones(tmp_path / "a", 4, 0)), clips_in(tones(tmp_path / "b", 2, 1000))
    write_shard_parquet(tmp_path / "valid" / "0.parquet", valid)
    settings = of_run("clips", write_tars(tmp_path / "tars", train, 4), tmp_path / "valid", tmp_path / "run", 2)
    settings.data.valid[0].format = "shards"
    with patch.object(starting, "matmul_peak", lambda *_: 1e9):
        figures = last_evaluation(classify(settings))
    assert figures["labels"] == ["high", "low", "middle"]
    assert list(map(sum, figures["confusion"])) == [2, 2, 2]
    assert json.loads((tmp_path / "run" / "model" / RULE_FILE).read_text())["chosen"].endswith("valid")


@pytest.mark.parametrize("layout", ["tar", "cls", "parquet", "shar", "manifest"])
def test_labels_of_every_layout(layout: str, tmp_path: Path) -> None:
    """In records, in members of their own (`.cls`), in columns, with cuts; each clip is given with its own."""
    clips = [clip | {"label": "abc"[number % 3]} for number, clip in enumerate(some_clips(6))]
    source = tmp_path / "data"
    if layout in ("tar", "cls"):
        write_tar(source / "0.tar", clips)
    elif layout == "parquet":
        write_shard_parquet(source / "0.parquet", clips)
    elif layout == "shar":
        write_shar(source, 0, clips)
    else:
        source.mkdir()
        lines = [f"{clip['id']}.wav\t{clip['seconds']}\t{clip['transcript']}\t{clip['label']}" for clip in clips]
        for clip in clips:
            (source / f"{clip['id']}.wav").write_bytes(clip["audio"])
        source /= "clips.tsv"
        source.write_text("\n".join(["path\tduration\ttranscript\tlabel", *lines]) + "\n")
    settings = of_run("clips", source, source, tmp_path / "run", 1, f"data.cache={tmp_path / 'cache'}")
    for one in (*settings.data.train, *settings.data.valid):
        one.format = "shards"
    labels, data = read_labelled(settings)
    assert labels == ["a", "b", "c"]
    (batch, *_) = data.evaluation_batches(joined, processes=1, process=0, seconds_per_batch=100)
    heard = sorted((clip.transcript, clip.length) for clip in batch.clips)
    assert heard == sorted((clip["label"], len(load_audio(clip["audio"], 16000))) for clip in clips)


def test_labels_that_shards_lack_are_named(tmp_path: Path) -> None:
    """What is learnt is `label`, else the transcript; another column is chosen where parquet is indexed."""
    source = write_tars(tmp_path / "data", some_clips(4), 4)
    settings = of_run("clips", source, source, tmp_path / "run", 1)
    assert read_labelled(settings)[0] == [f"WORD {number}" for number in range(4)]
    settings = of_run("clips", source, source, tmp_path / "run", 1, "data.train.0.text_column=label")
    with pytest.raises(TrainingDataError, match="no labels in its shards"):
        read_labelled(settings)
    settings = of_run("clips", source, source, tmp_path / "run", 1, "data.train.0.text_column=mood")
    with pytest.raises(TrainingDataError, match=r"text_column=mood is a column of parquet.* or set it to label"):
        read_labelled(settings)
    settings = of_run("speakers", source, source, tmp_path / "run", 1)
    assert read_labelled(settings)[0] == ["s0", "s1", "s2"]


def test_copies_at_other_speeds_are_clips_of_their_own(tmp_path: Path) -> None:
    """In an epoch each clip comes once at each speed at which it is short enough, sounding as its file does then."""
    clips = some_clips(24, seconds=0.4)
    source = Source(str(write_tars(tmp_path / "data", clips, 6)))
    limits: dict[str, Any] = {"min_seconds": 0.35, "max_seconds": 0.7, "seconds_per_update": 3, "seconds_per_batch": 3}
    more: dict[str, Any] = {"lanes": 4, "bucket_updates": 100, "workers": 0, "cache": str(tmp_path / "cache")}
    data = TrainingData(FinetuneDataSection(train=[source], speeds=SPEEDS, **limits, **more), 1, with_text=True)
    wanted = {
        f"{clip['id']} at {speed:g}".removesuffix(" at 1"): at_speed(load_audio(clip["audio"], 16000), speed, 16000)
        for clip in clips
        for speed in (1, *SPEEDS)
        if 0.35 <= clip["seconds"] / speed <= 0.7
    }
    assert 24 * 3 > len(wanted) == data.clips
    heard, updates = Counter[str](), int(data.summary.updates_per_epoch or 0)
    numbers = set[int]()
    for batch in data.batches(joined, processes=1, process=0, start_update=0, position={}):
        if batch.update == updates:
            break
        numbers.update(clip.number for clip in batch.clips if clip.number is not None)
        for name, samples in clips_of([batch]).values():
            heard[name.rpartition("/")[2]] += 1
            assert samples == wanted[name.rpartition("/")[2]].tobytes()
    assert set(heard.values()) == {1}
    assert len(heard) > 0.9 * len(wanted)  # an epoch is no whole number of updates
    assert len(numbers) == len(heard) and max(numbers) < data.numbers
