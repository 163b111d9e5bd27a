"""A run that was killed or told to stop, and then resumed, ends where one ends that was never interrupted."""

import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pretraining_runs import (
    RANDOM,
    assert_same,
    assert_same_run,
    killed_after,
    last_checkpoint,
    log,
    recipe,
    run,
    weights,
    write_clips,
    write_shards,
)
from safetensors.torch import load_file

from wav2vec2.training.saving.checkpoint_folders import update_of
from wav2vec2.training.saving.checkpoints import Checkpoints

pytestmark = pytest.mark.slow

UPDATES = 20
LENGTHS = [0.5 + 0.02 * n for n in range(30)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips as files and as rows of three parquet shards, and a few to evaluate on."""
    folder = tmp_path_factory.mktemp("resuming")
    write_clips(folder / "files", LENGTHS)
    write_clips(folder / "valid", [0.7, 1.1, 0.9], first_seed=100)
    write_shards(folder / "shards", LENGTHS)
    return folder


def interruptible(root: Path, folder: Path, kind: str = "files", **overrides: Any) -> dict[str, Any]:
    """With dropout, LayerDrop, two data workers, evaluations and checkpoints, none of which fall together."""
    source: dict[str, Any] = {"path": str(root / kind)}
    if kind == "shards":
        source |= {"path": str(root / "shards" / "*.parquet"), "streaming": True}
    defaults = {
        "model__config": RANDOM,
        "data__train": [source],
        "data__workers": 2,
        "data__seconds_per_update": 3.0,
        "data__seconds_per_batch": 2.0,
        "data__stream_pool": 8,
        "run__updates": UPDATES,
        "run__evaluate_every": 4,
        "run__save_every": 5,
        "run__keep_best": 0,
    }
    return recipe(folder, root / "files", root / "valid", **(defaults | overrides))


@pytest.fixture(scope="module")
def straight(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of the run that nothing interrupts, by its kind of source and its number of processes."""

    @cache
    def folder(kind: str = "files", processes: int = 1) -> Path:
        return run(interruptible(root, tmp_path_factory.mktemp("straight") / "run", kind), processes)

    return folder


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("kind", ["files", "shards"])
def test_killed_after_ten_updates_and_resumed_is_bit_equal(
    kind: str, processes: int, root: Path, straight: Callable[..., Path], tmp_path: Path
) -> None:
    """Killed in update 13 without a word, two updates and a line of the log after the checkpoint of update 10."""
    values = interruptible(root, tmp_path / "broken", kind)
    broken = killed_after(values, 12, processes)
    assert last_checkpoint(broken).name == "update-00000010" and log(broken)[-1]["update"] == 12
    run(values, processes)
    assert_same_run(straight(kind, processes), broken)
    trained = [line["update"] for line in log(broken) if line["kind"] == "training"]
    assert trained == [3, 6, 9, 12, 15, 18, 20]


def test_stopped_on_two_processes_and_resumed_on_one(root: Path, tmp_path: Path) -> None:
    """Dropout is off: its numbers are drawn by each process for itself."""
    calm = {name: 0.0 for name in RANDOM} | {"layerdrop": 0.3}
    straight = run(interruptible(root, tmp_path / "straight", model__config=calm))
    values = interruptible(root, tmp_path / "broken", model__config=calm)
    killed_after(values, 12, processes=2)
    run(values, processes=1)
    assert_same(weights(straight), weights(tmp_path / "broken"), 1e-5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_saves_and_leaves(
    number: int, root: Path, straight: Callable[..., Path], tmp_path: Path
) -> None:
    """In update 8, when an evaluation is due: it saves at once, and the evaluation is made up for on resuming."""
    values = interruptible(root, tmp_path / "broken")
    broken = killed_after(values, 7, number=number)
    assert last_checkpoint(broken).name == "update-00000008"
    assert f"stopped as asked ({signal.Signals(number).name}) after update 8, all saved" in (
        broken.with_suffix(".stderr").read_text(encoding="utf-8")
    )
    run(values)
    assert_same_run(straight(), broken)


def test_one_of_two_processes_is_told_to_stop_and_both_leave(
    root: Path, straight: Callable[..., Path], tmp_path: Path
) -> None:
    values = interruptible(root, tmp_path / "broken")
    run(values, 2, "train_until_one_stops", 6, signal.SIGTERM)
    assert last_checkpoint(tmp_path / "broken").name == "update-00000008"
    run(values, 2)
    assert_same_run(straight(processes=2), tmp_path / "broken")


def test_an_evaluation_that_improves_is_kept_whenever_saving_is_due(root: Path, tmp_path: Path) -> None:
    """Resumed from such a checkpoint, the run is the same, and its model the best of all that were evaluated."""
    often: dict[str, Any] = {"run__evaluate_every": 2, "run__save_every": 1000, "run__keep_best": 1}
    straight = run(interruptible(root, tmp_path / "straight", **often))
    values = interruptible(root, tmp_path / "broken", **often)
    broken = killed_after(values, 12)
    losses = {line["update"]: line["loss"] for line in log(straight) if line["kind"] == "evaluation"}
    assert len(losses) == UPDATES // 2
    until = {update: loss for update, loss in losses.items() if update <= 12}
    assert best_of(broken) == min(until, key=lambda update: (until[update], update))
    run(values)
    assert_same_run(straight, broken)
    assert best_of(broken) == min(losses, key=lambda update: (losses[update], update))
    assert_same(
        load_file(broken / "model" / "model.safetensors"), load_file(checkpoint_of(broken) / "model.safetensors")
    )


def checkpoint_of(folder: Path) -> Path:
    """The best one."""
    found = Checkpoints(folder / "checkpoints").best()
    assert found is not None
    return found


def best_of(folder: Path) -> int | None:
    """Its update."""
    return update_of(checkpoint_of(folder))
