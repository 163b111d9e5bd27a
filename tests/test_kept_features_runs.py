"""Fine-tuning with kept features is the run that it is without, in every division and after a kill."""

import errno
import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from classification_runs import of_run, tones
from finetuning_runs import killed_after, labelled_recipe, run, train, write_labelled
from pretraining_runs import assert_same, assert_same_run, log, weights
from update_layouts import LAYOUTS, LENGTHS

from wav2vec2.modeling.feature_encoder import Wav2Vec2FeatureEncoder
from wav2vec2.modeling.wav2vec2_model import Wav2Vec2Model
from wav2vec2.training.classification import classify
from wav2vec2.training.data.feature_stores import DiskStore
from wav2vec2.training.progress.training_log import read_log

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of 0.9 to 1.3 seconds."""
    return write_labelled(tmp_path_factory.mktemp("labelled") / "clips", LENGTHS)


def keeping(folder: Path, labelled: Path, keep: str | None = "memory", **overrides: Any) -> dict[str, Any]:
    """A run of two updates an epoch over sixteen clips, that keeps what it convolves."""
    few = labelled.with_name("few.tsv")
    if not few.exists():
        few.write_text("\n".join(labelled.read_text(encoding="utf-8").splitlines()[:17]) + "\n", encoding="utf-8")
    defaults: dict[str, Any] = {"tuning__keep_features": keep, "run__log_every": 1, "run__updates": 8}
    return labelled_recipe(folder, few, few, **(defaults | overrides))


def shares(folder: Path) -> list[float | None]:
    """What the log says was kept."""
    return [line.get("kept_share") for line in read_log(folder) if line["kind"] == "training"]


def test_every_division_gives_the_same_weights(labelled: Path, tmp_path: Path) -> None:
    """A clip that another process convolves in another batch has the same features to the last bit."""
    folders = []
    for layout in ("1 x 8", "2 x 2 x 2"):
        processes, seconds, _ = LAYOUTS[layout]
        calm: dict[str, Any] = {"optimizer__epsilon": 1e-6, "optimizer__learning_rate": 3e-4, "run__updates": 5}
        sizes = {"data__seconds_per_batch": seconds, "data__bucket_updates": 1}
        folders.append(run(keeping(tmp_path / layout.replace(" ", ""), labelled, **(calm | sizes)), processes))
    assert_same(weights(folders[0]), weights(folders[1]), 1e-5)
    for one, other in zip(*map(log, folders), strict=True):
        if one["kind"] == "training":
            for name in one.keys() - {"padding_share", "kind"}:
                assert other[name] == pytest.approx(one[name], rel=1e-5, abs=1e-5), name
    assert shares(folders[0])[-1] == 1 and 0 < (shares(folders[1])[-1] or 0) <= 1


def test_it_is_the_run_without_within_the_rounding_of_16_bits(labelled: Path, tmp_path: Path) -> None:
    """Whatever is kept, and wherever: in memory, on the disk, or only a few of the clips, the same bits; and within
    rounding what a run gives that computes everything each time, masks, dropout and evaluations included."""
    ways: dict[str, dict[str, Any]] = {
        "plain": {"keep": None},
        "memory": {},
        "disk": {"keep": "disk"},
        "few": {"tuning__keep_features_gib": 6e-6},
    }
    for name, changes in ways.items():
        train(keeping(tmp_path / name, labelled, run__evaluate_every=4, **changes))
    assert_same(weights(tmp_path / "plain"), weights(tmp_path / "memory"), 1e-4)
    for one, other in zip(log(tmp_path / "plain"), log(tmp_path / "memory"), strict=True):
        for name in ("loss", "gradient_norm", "cer", "padding_share", "audio_seconds_per_second"):
            if name in one:
                assert other[name] == pytest.approx(one[name], rel=1e-3), name
    for name in ("disk", "few"):
        assert_same_run(tmp_path / "memory", tmp_path / name)
    assert shares(tmp_path / "plain") == [None] * 8
    first = shares(tmp_path / "memory")
    assert first[0] == 0 and first[2:] == [1.0] * 6
    few = [share or 0.0 for share in shares(tmp_path / "few")]
    assert few[0] == 0 and 0.2 < sum(few[2:]) / 6 < 0.7  # seven clips of sixteen
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == sorted(
        path.name for path in (tmp_path / "memory").iterdir()
    )


#: Nothing is drawn below a recurrent head that learns alone.
HEAD_ALONE: dict[str, Any] = {
    "tuning__freeze_updates": None,
    "model__config": {"ctc_head": "recurrent", "ctc_head_masks": True, "ctc_head_size": 16, "mask_time_prob": 0.2}
    | dict.fromkeys(
        ("feat_proj_dropout", "hidden_dropout", "attention_dropout", "activation_dropout", "layerdrop"), 0.0
    ),
}


def test_where_the_head_learns_alone_an_update_is_the_head(
    labelled: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The whole encoder is computed once for each clip: within rounding the run that computes it each time, the same
    bits whatever is kept and after a kill; the weights of the encoder are those it began with."""
    ways: dict[str, dict[str, Any]] = {
        "plain": {"keep": None},
        "memory": {},
        "few": {"keep": "disk", "tuning__keep_features_gib": 6e-6},
    }
    calls = dict.fromkeys(ways, 0)
    for name, changes in ways.items():
        at_once = Wav2Vec2Model.at_once

        def counted(self: Any, *arguments: Any, name: str = name, at_once: Any = at_once) -> Any:
            calls[name] += 1
            return at_once(self, *arguments)

        with patch.object(Wav2Vec2Model, "at_once", counted):
            train(keeping(tmp_path / name, labelled, run__evaluate_every=4, **(HEAD_ALONE | changes)))
    assert_same(weights(tmp_path / "plain"), weights(tmp_path / "memory"), 1e-4)
    assert_same_run(tmp_path / "memory", tmp_path / "few")
    assert calls["memory"] == 33 < calls["few"]  # sixteen clips of each kind, and one look at what comes out
    assert "the Transformer's output of up to" in capfd.readouterr().err
    killed_after(keeping(tmp_path / "resumed", labelled, run__evaluate_every=4, run__save_every=3, **HEAD_ALONE), 5)
    train(keeping(tmp_path / "resumed", labelled, run__evaluate_every=4, run__save_every=3, **HEAD_ALONE))
    assert_same(weights(tmp_path / "memory"), weights(tmp_path / "resumed"), 0)


def test_no_convolution_is_computed_after_the_first_epoch(labelled: Path, tmp_path: Path) -> None:
    """Of training clips; and those that are evaluated are convolved in the first evaluation alone."""
    calls: list[int] = []
    convolve = Wav2Vec2FeatureEncoder.convolve

    def counted(self: Any, *arguments: Any) -> Any:
        calls.append(len(read_log(tmp_path / "run")) if (tmp_path / "run" / "log.jsonl").exists() else 0)
        return convolve(self, *arguments)

    with patch.object(Wav2Vec2FeatureEncoder, "convolve", counted):
        train(keeping(tmp_path / "run", labelled, run__evaluate_every=4))
    # sixteen clips of training, sixteen of evaluations, and one for a look at what the convolutions compute in
    assert len(calls) == 33
    lines = [line["kind"] for line in read_log(tmp_path / "run")]
    assert lines.index("evaluation") == 5 and max(calls) == 5


def test_killed_and_resumed_is_the_same_run(labelled: Path, tmp_path: Path) -> None:
    """With nothing kept at first where the other run had kept everything: bit by bit, with data workers."""

    def long(name: str) -> dict[str, Any]:
        many: dict[str, Any] = {"run__updates": 12, "run__save_every": 6, "run__log_every": 4, "data__workers": 1}
        return keeping(tmp_path / name, labelled, data__seconds_per_batch=2.8, **many)

    whole = run(long("whole"), 2)
    resumed = killed_after(long("resumed"), 9, 2)
    run(long("resumed"), 2)
    assert_same_run(whole, resumed)
    kept = [line["kept_share"] for line in read_log(resumed) if line["kind"] == "training"]
    assert kept[0] > 0 and kept[-1] > kept[0]


def test_a_run_from_other_weights_finds_nothing_that_is_stale(labelled: Path, tmp_path: Path) -> None:
    """In the same folder, after a kill, with another seed and so with other convolutions: as in a folder of its own."""
    killed_after(keeping(tmp_path / "run", labelled, "disk"), 5)
    others = [keeping(tmp_path / name, labelled, "disk", run__seed=2) for name in ("run", "fresh")]
    for values in others:
        train(values)
    assert_same_run(tmp_path / "run", tmp_path / "fresh")


def test_a_full_disk_warns_and_stops_nothing(labelled: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(keeping(tmp_path / "whole", labelled))
    left = [5]

    class Full(DiskStore):
        def put(self, number: int, features: Any) -> bool:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().put(number, features)

    with patch("wav2vec2.training.kept_features.DiskStore", Full):
        train(keeping(tmp_path / "full", labelled, "disk"))
    assert "nothing more is kept on the disk" in capfd.readouterr().err
    assert_same_run(tmp_path / "whole", tmp_path / "full")


def test_trained_convolutions_are_not_kept_and_the_run_says_so(
    labelled: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    trained = {"model__config": {"feature_grad_mult": 0.1}, "run__updates": 3}
    for name, keep in (("plain", None), ("asked", "memory")):
        train(keeping(tmp_path / name, labelled, keep, **trained))
    said = capfd.readouterr().err
    assert "tuning.keep_features=memory: nothing is kept, since the convolutions are trained" in said
    assert_same_run(tmp_path / "plain", tmp_path / "asked")


@pytest.mark.parametrize("task", ["clips", "frames", "speakers"])
def test_classification_too(tmp_path: Path, task: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Labels of clips, of frames, voices; a clip that is cropped at random is convolved each time."""
    train_data = tones(tmp_path / "train", 5, 0)
    lines = train_data.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines[1:], 1):
        name, seconds, _, label = line.split("\t")
        said = f"0.1-0.4 {label}" if task == "frames" else label
        lines[number] = "\t".join([name, seconds, "ab"[number % 2], said])
    train_data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = []
    held = ["run.log_every=1", "data.seconds_per_update=3", "data.max_seconds=0.57"]
    for name, more in (("plain", []), ("kept", ["tuning.keep_features=memory"])):
        asked = of_run(task, train_data, train_data, tmp_path / name, 6, *held, *more)
        asked.model.config["feature_grad_mult"] = 0.0
        classify(asked)
        found.append(tmp_path / name)
    losses = [[line["loss"] for line in log(folder) if "loss" in line] for folder in found]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    share = shares(found[1])[-1]
    assert share is not None and (0.5 < share < 1 if task == "speakers" else share == 1)
    assert ("cropped elsewhere each time" in capfd.readouterr().err) == (task == "speakers")


def test_in_bfloat16_nothing_is_rounded(labelled: Path, tmp_path: Path) -> None:
    """The convolutions give 16 bits, which are kept: the log says the same but for the order of adding up."""
    for name, keep in (("plain", None), ("kept", "memory")):
        train(keeping(tmp_path / name, labelled, keep, run__precision="bf16", run__updates=6))
    losses = [[line["loss"] for line in log(tmp_path / name) if "loss" in line] for name in ("plain", "kept")]
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
    assert torch.equal(torch.tensor(shares(tmp_path / "kept")[2:]), torch.ones(4))
