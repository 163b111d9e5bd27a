"""An update is the same update whatever its batch is cut into: over processes, over time, over sharded weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pretraining_runs import assert_same, log, recipe, recorded, run, weights, write_clips
from update_layouts import LAYOUTS, LENGTHS, UPDATES, run_in_every_layout

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of 0.9 to 1.3 seconds."""
    return write_clips(tmp_path_factory.mktemp("audio") / "clips", LENGTHS)


def grid_recipe(folder: Path, audio: Path, layout: str, **overrides: Any) -> dict[str, Any]:
    defaults = {"run__updates": UPDATES, "run__log_every": 1, "data__seconds_per_batch": LAYOUTS[layout][1]}
    defaults["data__bucket_updates"] = 1  # clips of all lengths in every update
    return recipe(folder, audio, **(defaults | {"model__config": {"layerdrop": 0.3}} | overrides))


@pytest.fixture(scope="module", params=[None, 0.5], ids=["unclipped", "clipped"])
def grid(request: pytest.FixtureRequest, audio: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of the same run in every layout."""
    root = tmp_path_factory.mktemp("grid")
    return run_in_every_layout(
        root, run, lambda folder, layout: grid_recipe(folder, audio, layout, optimizer__clip_norm=request.param)
    )


@pytest.mark.parametrize("layout", list(LAYOUTS)[1:])
def test_five_updates_give_the_same_weights(grid: dict[str, Path], layout: str) -> None:
    assert_same(weights(grid["1 x 8"]), weights(grid[layout]), 1e-5)


def test_the_layouts_are_what_they_are_called_and_masked_counts_unequal(grid: dict[str, Path]) -> None:
    for layout, (processes, _, parts) in LAYOUTS.items():
        masked = [recorded(grid[layout], rank) for rank in range(processes)]
        assert {len(update["counted"]) for one in masked for update in one} == parts, layout
        totals = [sum(sum(one[update]["counted"]) for one in masked) for update in range(UPDATES)]
        assert totals == [sum(update["counted"]) for update in recorded(grid["1 x 8"], 0)]
        if layout != "1 x 8":
            per_part = {count for one in masked for count in one[0]["counted"]}
            assert len(per_part) > 1, "the parts should differ, or one normaliser for all would show nothing"


@pytest.mark.parametrize("layout", ["2 x 4", "2 x 2 x 2"])
def test_both_processes_have_the_same_gradients(grid: dict[str, Path], layout: str) -> None:
    """Of every parameter, at every update, bit by bit; and none is missing or zero that one process alone has."""
    single = recorded(grid["1 x 8"], 0)
    assert len(single) == UPDATES
    for update, (first, second) in enumerate(zip(recorded(grid[layout], 0), recorded(grid[layout], 1), strict=True)):
        assert_same(first["gradients"], second["gradients"])
        assert_same(first["gradients"], single[update]["gradients"], 1e-5)


@pytest.mark.parametrize("layout", list(LAYOUTS)[1:])
def test_the_log_says_the_same(grid: dict[str, Path], layout: str) -> None:
    """Every figure of the batch: losses, accuracy, codes, gradient norm. Padding alone depends on the layout."""
    lines = [[line for line in log(grid[one]) if line["kind"] == "training"] for one in ("1 x 8", layout)]
    assert len(lines[0]) == len(lines[1]) == UPDATES
    for one, other in zip(*lines, strict=True):
        assert one.keys() == other.keys()
        for name in one.keys() - {"padding_share", "kind"}:
            assert other[name] == pytest.approx(one[name], rel=1e-5, abs=1e-5), name


def test_weights_did_move_and_another_seed_moves_them_elsewhere(
    grid: dict[str, Path], audio: Path, tmp_path: Path
) -> None:
    """What the tests above compare is not nothing."""
    other = run(grid_recipe(tmp_path / "other", audio, "1 x 8", run__seed=2))
    assert any(not torch.allclose(a, weights(other)[n], atol=1e-3) for n, a in weights(grid["1 x 8"]).items())
    grads = recorded(grid["1 x 8"], 0)[0]["gradients"]
    trained = {name for name, gradient in grads.items() if gradient is not None and gradient.abs().max() > 0}
    assert {"quantizer.codevectors", "quantizer.weight_proj.weight", "project_q.weight"} < trained
    assert "wav2vec2.feature_extractor.conv_layers.0.conv.weight" in trained


def test_diversity_over_each_batch_would_depend_on_the_layout(audio: Path, tmp_path: Path) -> None:
    """fairseq's way is there for whoever wants it; it shows that these tests can tell."""
    config = {"diversity_loss_weight": 1.0}
    folders = [
        run(grid_recipe(tmp_path / str(n), audio, layout, run__diversity_over="batch", model__config=config))
        for n, layout in enumerate(("1 x 8", "1 x 2 x 4"))
    ]
    with pytest.raises(AssertionError):
        assert_same(weights(folders[0]), weights(folders[1]), 1e-5)


def test_few_shapes_give_the_same_weights(audio: Path, tmp_path: Path) -> None:
    """Lengths rounded up to coarse steps, or padded to the longest clip of each part."""
    folders = [
        run(grid_recipe(tmp_path / str(steps), audio, "1 x 2 x 4", data__length_steps=steps)) for steps in (6, 0)
    ]
    padding = [[one["padding_share"] for one in log(folder) if one["kind"] == "training"] for folder in folders]
    assert all(rounded > plain + 0.005 for rounded, plain in zip(*padding, strict=True)), padding
    assert_same(weights(folders[0]), weights(folders[1]), 1e-5)


def test_fewer_clips_than_processes(audio: Path, tmp_path: Path) -> None:
    """A process without a clip takes part all the same, and adds nothing."""
    one_clip = {"data__seconds_per_update": 1.3, "data__max_seconds": 1.3, "run__updates": 4}
    folders = [
        run(grid_recipe(tmp_path / str(processes), audio, "1 x 8", **one_clip), processes, "train_and_record")
        for processes in (1, 2)
    ]
    masked = [update["counted"][0] for update in recorded(folders[1], 1)]
    assert 0 in masked
    assert_same(weights(folders[0]), weights(folders[1]), 1e-5)


def test_sharded_weights_give_the_same(audio: Path, tmp_path: Path) -> None:
    """FSDP2 as Accelerate wraps it, beside DDP."""
    clipped = {"optimizer__clip_norm": 0.5}
    plain = run(grid_recipe(tmp_path / "plain", audio, "2 x 2 x 2", **clipped), 2)
    sharded = run(grid_recipe(tmp_path / "sharded", audio, "2 x 2 x 2", **clipped), 2, "train_sharded")
    assert log(sharded)[0]["distributed"] == "fsdp" and log(plain)[0]["distributed"] == "multi_cpu"
    assert_same(weights(plain), weights(sharded), 1e-5)
