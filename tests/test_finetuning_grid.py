"""Fine-tuning is the same whatever its batches are cut into, and goes on after a kill as if nothing had been."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finetuning_runs import killed_after, labelled_recipe, run, write_labelled
from pretraining_runs import assert_same, assert_same_run, log, optimizer, recorded, speechlike, weights
from safetensors.torch import load_file
from update_layouts import LAYOUTS, LENGTHS, UPDATES, run_in_every_layout

from wav2vec2.training.data.audio_clips import LoadedClip
from wav2vec2.training.finetuning import prepare_finetuning
from wav2vec2.training.progress.training_log import read_log
from wav2vec2.training.settings.recipes import from_dict
from wav2vec2.training.settings.run_config import FinetuneRun
from wav2vec2.training.tasks.task import inputs_of

pytestmark = pytest.mark.slow

#: Its text is longer than its audio.
TOO_LONG = 7
HEAD = {"lm_head.weight", "lm_head.bias"}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of 0.9 to 1.3 seconds."""
    folder = tmp_path_factory.mktemp("labelled") / "clips"
    return write_labelled(folder, LENGTHS, too_long=TOO_LONG)


def grid_recipe(folder: Path, labelled: Path, layout: str, **overrides: Any) -> dict[str, Any]:
    """Clips of all lengths in every update, and a decay that shows on whatever the optimizer touches. (With a smaller
    epsilon Adam makes noise of gradients that are zero, as those of the keys' biases are.)"""
    defaults: dict[str, Any] = {"run__updates": UPDATES, "run__log_every": 1, "data__bucket_updates": 1}
    defaults |= {"data__seconds_per_batch": LAYOUTS[layout][1], "optimizer__epsilon": 1e-6}
    defaults["optimizer__learning_rate"] = 3e-4
    return labelled_recipe(folder, labelled, **(defaults | overrides))


@pytest.fixture(scope="module", params=[0, 2], ids=["all", "head_first"])
def grid(request: pytest.FixtureRequest, labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of the same run in every layout; without and with two updates of the head alone."""
    root = tmp_path_factory.mktemp("grid")
    return run_in_every_layout(
        root, run, lambda folder, layout: grid_recipe(folder, labelled, layout, tuning__freeze_updates=request.param)
    )


def present(update: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The gradients that a process had: of everything but the convolutions."""
    gradients = {name: gradient for name, gradient in update["gradients"].items() if gradient is not None}
    absent = update["gradients"].keys() - gradients.keys()
    assert absent == {name for name in update["gradients"] if "feature_extractor" in name}
    return gradients


@pytest.mark.parametrize("layout", list(LAYOUTS)[1:])
def test_five_updates_give_the_same_weights(grid: dict[str, Path], layout: str) -> None:
    assert_same(weights(grid["1 x 8"]), weights(grid[layout]), 1e-5)


@pytest.mark.parametrize("layout", list(LAYOUTS)[1:])
def test_the_log_says_the_same(grid: dict[str, Path], layout: str) -> None:
    lines = [[line for line in log(grid[one]) if line["kind"] == "training"] for one in ("1 x 8", layout)]
    assert len(lines[0]) == len(lines[1]) == UPDATES
    for one, other in zip(*lines, strict=True):
        assert {"loss", "loss_per_label", "blank_share", "dropped"} < one.keys() == other.keys()
        for name in one.keys() - {"padding_share", "kind"}:
            assert other[name] == pytest.approx(one[name], rel=1e-5, abs=1e-5), name


def test_the_layouts_are_what_they_are_called_and_counts_unequal(grid: dict[str, Path]) -> None:
    for layout, (processes, _, parts) in LAYOUTS.items():
        counted = [recorded(grid[layout], rank) for rank in range(processes)]
        assert {len(update["counted"]) for one in counted for update in one} <= parts, layout
    unequal = [update["counted"] for update in recorded(grid["1 x 2 x 4"])]
    assert any(len(set(one)) > 1 for one in unequal)


def test_processes_have_the_same_gradients(grid: dict[str, Path]) -> None:
    """Of every parameter, at every update; while the encoder is held they are zero, and still there."""
    alone, both = recorded(grid["1 x 8"]), [recorded(grid["2 x 4"], rank) for rank in range(2)]
    assert len(alone) == UPDATES
    for single, first, second in zip(alone, *both, strict=True):
        assert_same(present(first), present(second))
        assert_same(present(first), present(single), 1e-4)


def test_what_is_too_long_is_listed_once(grid: dict[str, Path]) -> None:
    for folder in grid.values():
        lines = (folder / "dropped.tsv").read_text(encoding="utf-8").splitlines()
        assert lines == ["id\treason", f"clip{TOO_LONG:03d}.wav\tthe target needs more frames than the audio has"]
        assert sum(line.get("dropped", 0) for line in log(folder)) == 1


def test_a_dropped_utterance_is_as_if_it_were_not_there(labelled: Path, tmp_path: Path) -> None:
    """The loss, its count, and every sum but those of frames, whatever the one has for a neighbour."""
    prepared = prepare_finetuning(from_dict(FinetuneRun, labelled_recipe(tmp_path / "run", labelled)))
    texts = ["abc de", "gab", "abcdefgh" * 12, "hed"]
    clips = [
        LoadedClip(str(n), speechlike(n, 0.9 + 0.1 * n).astype(np.float32), n, text) for n, text in enumerate(texts)
    ]
    task, model = prepared.task, prepared.model.train()
    task.begin(model, 0)
    batches = [inputs_of(task, clips), inputs_of(task, [clip for clip in clips if clip.id != "2"])]
    assert [batch["dropped"].tolist() for batch in batches] == [[False, False, True, False], [False] * 3]
    assert [task.counts(batch).tolist() for batch in batches] == [[3.0], [3.0]]
    whole, rest = (task.part(model, batch, None) for batch in batches)
    assert whole.loss.item() == pytest.approx(rest.loss.item(), rel=1e-5)
    for name in ("loss", "utterances", "labels"):
        assert whole.sums[name].item() == pytest.approx(rest.sums[name].item(), rel=1e-5)
    assert (whole.sums["dropped"].item(), rest.sums["dropped"].item()) == (1, 0)


def test_while_the_encoder_is_held_only_the_head_changes(labelled: Path, tmp_path: Path) -> None:
    """Neither gradient nor decay nor moments touch the rest, and the convolutions are never touched."""
    held = grid_recipe(tmp_path / "held", labelled, "1 x 8", tuning__freeze_updates=9, run__save_every=1)
    folder = run(held | {"run": held["run"] | {"keep_last": 9}}, 1, "train_and_record")
    steps = [load_file(path / "model.safetensors") for path in sorted((folder / "checkpoints").glob("update-*"))]
    assert len(steps) == UPDATES
    for before, after in zip(steps, steps[1:], strict=False):
        assert {name for name in before if not torch.equal(before[name], after[name])} == HEAD
    tensors, _ = optimizer(folder)
    assert {name.rpartition("/")[0] for name in tensors} == HEAD
    gradients = recorded(folder)[0]["gradients"]
    body = {name for name in gradients if name not in HEAD}
    convolutions = {name for name in body if "feature_extractor" in name}
    assert convolutions and all(gradients[name] is None for name in convolutions)
    assert all(gradients[name] is not None and not gradients[name].any() for name in body - convolutions)

    freed = run(
        grid_recipe(tmp_path / "freed", labelled, "1 x 8", tuning__freeze_updates=2, optimizer__weight_decay=0.1)
    )
    changed = {name for name, weight in weights(freed).items() if not torch.equal(weight, steps[0][name])}
    assert changed.isdisjoint(convolutions) and changed > HEAD and "wav2vec2.encoder.layer_norm.weight" in changed


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_resumed_is_the_same_run(labelled: Path, tmp_path: Path, processes: int) -> None:
    """Ten updates, a kill, ten more: twenty, bit by bit, with data workers; before and after the encoder is freed."""

    def long(name: str) -> dict[str, Any]:
        many = {"run__updates": 20, "run__save_every": 10, "run__log_every": 4, "data__workers": 1}
        return grid_recipe(tmp_path / name, labelled, "1 x 2 x 4", tuning__freeze_updates=12, **many)

    whole = run(long("whole"), processes)
    resumed = killed_after(long("resumed"), 13, processes)
    assert read_log(resumed)[-1]["update"] >= 12
    run(long("resumed"), processes)
    assert_same_run(whole, resumed)


def test_sharded_weights_give_the_same(labelled: Path, tmp_path: Path) -> None:
    """FSDP2 as Accelerate wraps it, with a held encoder at the start."""
    head_first = {"tuning__freeze_updates": 2}
    plain = run(grid_recipe(tmp_path / "plain", labelled, "2 x 2 x 2", **head_first), 2)
    sharded = run(grid_recipe(tmp_path / "sharded", labelled, "2 x 2 x 2", **head_first), 2, "train_sharded")
    assert log(sharded)[0]["distributed"] == "fsdp" and log(plain)[0]["distributed"] == "multi_cpu"
    assert_same(weights(plain), weights(sharded), 1e-5)
