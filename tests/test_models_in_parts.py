"""Models over several processes: checkpoints in parts come back anywhere, and a divided run is the undivided one."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import warm_processes
from accelerate.state import AcceleratorState
from checkpointed_runs import new_run, restore, save
from pretraining_runs import assert_same, last_checkpoint, log, recipe, run, start, weights, write_clips
from safetensors.torch import load_file
from sharded_runs import SAVED, checkpoints
from torch import Tensor
from typer.testing import CliRunner

from wav2vec2.command_line.app import app
from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.training.checkpoint_average import AverageError, average_checkpoints
from wav2vec2.training.model_making import require_checkpoint
from wav2vec2.training.saving import consolidation
from wav2vec2.training.saving.checkpoints import Checkpoints
from wav2vec2.training.saving.parts import Pieces
from wav2vec2.training.saving.training_state import TrainingState
from wav2vec2.training.settings.recipes import RunConfigError, from_dict
from wav2vec2.training.settings.run_config import ModelSection, PretrainRun
from wav2vec2.training.sharding import held_bytes, shards_of


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    """Accelerate remembers the first accelerator of a process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def on(processes: int, root: Path, work: str, *arguments: Any) -> list[warm_processes.Process]:
    server = warm_processes.server("sharded_runs", "pretraining_runs", "datasets")
    return server.start_many(processes, root / f"{work}.stderr", f"sharded_runs:{work}", root, *arguments)


def done(started: list[warm_processes.Process], status: int = 0) -> None:
    assert {process.wait() for process in started} == {status}, [process.said()[-2000:] for process in started]


# --- checkpoints ---------------------------------------------------------------------------------------------------


SAVED_ON = ("2-fsdp", "4-fsdp", "4-hsdp")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of two processes and of four (one copy of the model, and two), restored by others."""
    root = tmp_path_factory.mktemp("parts")
    done(on(2, root, "save_parts", "2", "fsdp"))
    done(on(4, root, "save_and_restore_parts", "4", "2-fsdp"))
    done(on(2, root, "restore_and_fail", "2", "4-fsdp", "4-hsdp"))
    return root


def stored(root: Path, name: str) -> dict[str, Tensor]:
    """Every number of a checkpoint, put together from the files."""
    folder = last_checkpoint_in(root / name) / "training_state"
    weights, optimizer = Pieces(folder / "weights"), Pieces(folder / "optimizer")
    return {name: of.whole(name) for of in (weights, optimizer) for name in of.shapes}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "by"), [("4", ("2-fsdp",)), ("2", ("4-fsdp", "4-hsdp"))])
def test_another_number_of_processes_goes_on_from_the_same_bits(name: str, by: tuple[str, ...], saved: Path) -> None:
    """Weights and optimizer; two further updates then are those of one process."""
    one = new_run()
    one.train(0, SAVED + 2)
    for checkpoint in by:
        found = torch.load(saved / f"{checkpoint} on {name}.pt")
        assert_equal(found["restored"], stored(saved, checkpoint))
        torch.testing.assert_close(found["trained"], one.state(), atol=1e-6, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAVED_ON)
def test_one_process_goes_on_from_the_same_bits(name: str, saved: Path) -> None:
    other = new_run(seed=1)
    state = restore(other, checkpoints(saved / name))
    assert (state.update, state.processes) == (SAVED, int(name[0]))
    assert_equal(other.state(), stored(saved, name))


@pytest.mark.slow
def test_every_process_writes_its_own_part_and_nothing_twice(saved: Path) -> None:
    """The files are as large as what they hold, within their headers; no process has written it all."""
    whole = sum(one.nbytes for name, one in stored(saved, "4-fsdp").items() if "/" not in name)
    for name, writers in (("2-fsdp", 2), ("4-fsdp", 4), ("4-hsdp", 4)):
        files = sorted((last_checkpoint_in(saved / name) / "training_state" / "weights").iterdir())
        sizes = [sum(tensor.nbytes for tensor in load_file(path).values()) for path in files]
        assert len(files) == writers and sum(sizes) == whole and max(sizes) < 0.9 * whole
        assert not list((last_checkpoint_in(saved / name)).glob("*.safetensors"))


def last_checkpoint_in(folder: Path) -> Path:
    newest = Checkpoints(folder).newest()
    assert newest is not None
    return newest


@pytest.mark.slow
def test_what_a_process_holds_is_what_is_told(saved: Path) -> None:
    """Weights, gradients and both averages of Adam, over all processes of a copy of the model; nothing twice."""
    model: Any = new_run().model
    without = 12 * model.project_hid.bias.numel()  # `UNUSED` has neither gradient nor state
    frozen = sum(4 * one.numel() for one in model.parameters() if not one.requires_grad)
    for name, processes, shards in (("2-fsdp", 2, 2), ("4-fsdp", 4, 4), ("4-hsdp", 4, 2)):
        held = sum(int((saved / f"{name}.{rank}.held").read_text()) for rank in range(processes))
        told, _ = held_bytes(model, shards)
        assert (held * shards // processes + without + frozen) / shards == pytest.approx(told, abs=1)


@pytest.mark.slow
def test_if_one_process_cannot_write_all_know_and_nothing_is_lost(saved: Path) -> None:
    """Nor if all are killed once the parts are on the disk."""
    told = [(saved / f"told.{rank}").read_text() for rank in range(2)]
    assert all(text.startswith("CheckpointWriteError: ") and "No space left" in text for text in told), told
    for process in on(2, saved, "die_while_saving", "4-fsdp"):
        assert process.wait() == -signal.SIGKILL
    before = last_checkpoint_in(saved / "4-fsdp")
    names = sorted(path.name for path in (saved / "4-fsdp").iterdir())
    assert names[-1] == before.name == "update-00000003" and len(names) == 2
    assert names[0].startswith(".writing-update-00000004-")
    Checkpoints(saved / "4-fsdp").save(*begun_alone())  # whole this time: one kind may follow the other
    assert [path.name for path in sorted((saved / "4-fsdp").iterdir())] == [before.name, "update-00000009"]


def begun_alone() -> tuple[Any, Any, Any, Any]:
    one = new_run()
    return one.accelerator, one.model, one.optimizer, TrainingState(update=9)


def test_a_damaged_part_is_told(tmp_path: Path) -> None:
    one = new_run()
    one.train(0, 1)
    folder = save(one, checkpoints(tmp_path), 1)
    part = next((folder / "training_state" / "optimizer").iterdir())
    content = part.read_bytes()
    part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert Checkpoints(tmp_path).newest() is None
    with pytest.raises(ValueError, match=r"damaged: training_state/optimizer/shard-00001.* is not what was saved"):
        consolidation.consolidate(folder, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    part.unlink()
    with pytest.raises(CheckpointError, match=r"cannot be resumed from: .* is missing"):
        checkpoints(tmp_path).restore(folder, one.accelerator, one.model, one.optimizer)


# --- consolidation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [10**9, 2000])
def test_stock_transformers_loads_what_is_consolidated(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file or many, of the checkpoint or of the run: the weights of the whole checkpoint of the same run."""
    monkeypatch.setattr(consolidation, "MOST", most)
    one = new_run()
    one.train(0, 1)
    folder = save(one, checkpoints(tmp_path / "run" / "checkpoints"), 1)
    whole = save(one, Checkpoints(tmp_path / "whole"), 1)
    for number, source in enumerate((folder, tmp_path / "run")):
        answer = CliRunner().invoke(app, ["consolidate", str(source), "-o", str(tmp_path / f"model{number}")])
        assert answer.exit_code == 0 and str(folder) in answer.output, answer.output
        made = tmp_path / f"model{number}"
        assert (len(list(made.glob("*.safetensors"))) == 1) == (most == 10**9)
        model, told = transformers.Wav2Vec2ForPreTraining.from_pretrained(made, output_loading_info=True)
        assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        assert_equal(dict(model.state_dict()), load_file(whole / "model.safetensors"))
        assert (made / "config.json").read_bytes() == (whole / "config.json").read_bytes()
        assert not (made / "training_state").exists()


def test_what_cannot_be_consolidated_or_read_is_one_line(tmp_path: Path) -> None:
    folder = save(new_run(), checkpoints(tmp_path / "run" / "checkpoints"), 1)
    save(new_run(), checkpoints(tmp_path / "run" / "checkpoints"), 2)
    (tmp_path / "file").touch()
    for source, output, told in (
        (tmp_path / "absent", "model", "absent: no such folder; give the output folder of a run, or one of"),
        (tmp_path / "file", "model", "file: no such folder"),
        (tmp_path, "model", "neither a checkpoint nor a run with a whole checkpoint"),
        (folder, "run", "run: is there already; delete it, or choose another output"),
    ):
        answer = CliRunner().invoke(app, ["consolidate", str(source), "-o", str(tmp_path / output)])
        assert (answer.exit_code, answer.output.count("\n")) == (1, 1) and told in answer.output, answer.output
    with pytest.raises(CheckpointError, match=r"wav2vec2 consolidate .*update-00000001 -o FOLDER"):
        require_checkpoint(ModelSection(checkpoint=str(folder)))
    with pytest.raises(AverageError, match="in parts"):
        average_checkpoints(tmp_path / "run", last=2)


# --- runs ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("audio"), [0.9 + 0.01 * number for number in range(30)])


def values_of(folder: Path, audio: Path, **overrides: Any) -> dict[str, Any]:
    """Four updates in several parts, LayerDrop and clipping; evaluated with the average of the weights."""
    defaults = {"data__seconds_per_batch": 2.8, "optimizer__clip_norm": 0.5, "run__log_every": 1, "run__ema": 0.5}
    model = {"model__config": {"layerdrop": 0.3}}
    return recipe(folder, audio, **(defaults | model | overrides))


DIVIDED = {"run__shard_over": 2, "run__save_in_parts": True, "run__gradient_checkpointing": True}


@pytest.mark.slow
def test_a_divided_run_that_moves_between_machines_is_the_undivided_one(audio: Path, tmp_path: Path) -> None:
    """Two copies of the model on four processes (HSDP); a scheduler's warning; to its end on two (FSDP2). Sums over
    processes are rounded in another order, hence the 1e-5; recomputed activations are the same bits."""
    plain = run(values_of(tmp_path / "plain", audio), 2)
    values = values_of(tmp_path / "divided", audio, **DIVIDED)
    done(start(tmp_path / "divided", 4, "train_until", values, 0, signal.SIGUSR1))
    stopped = json.loads((last_checkpoint(tmp_path / "divided") / "training_state" / "state.json").read_text())
    assert (stopped["update"], stopped["processes"]) == (2, 4)
    divided = run(values, 2)
    found = load_file(divided / "model" / "model.safetensors")
    assert_same(found, weights(plain), 1e-5)
    assert not (last_checkpoint(divided) / "model.safetensors").exists()
    lines = [[line for line in log(folder) if line["kind"] == "training"] for folder in (plain, divided)]
    for one, other in zip(*lines, strict=True):
        for name in one.keys() - {"padding_share", "kind"}:
            assert other[name] == pytest.approx(one[name], rel=1e-5, abs=1e-5), name
    said = (tmp_path / "divided.stderr.0").read_text()
    assert "one copy of the model, each over 2 processes" in said
    assert log(divided)[0]["distributed"] == "fsdp"


@pytest.mark.slow
def test_in_16_bits_a_divided_run_computes_what_an_undivided_one_does(audio: Path, tmp_path: Path) -> None:
    """Losses in fp32, of products in bf16; Accelerate's own choice would round the losses to three digits."""
    short = {"run__updates": 2, "run__precision": "bf16", "run__ema": None}
    folders = [
        run(values_of(tmp_path / name, audio, **short, run__shard_over=over), 2)
        for name, over in (("plain", None), ("divided", 2))
    ]
    losses = [[line["loss"] for line in log(folder) if line["kind"] == "training"] for folder in folders]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert_same(weights(folders[0]), weights(folders[1]), 2e-4)


def test_over_how_many_processes_a_model_is_divided() -> None:
    assert [shards_of(processes, 8) for processes in (1, 2, 8, 64, 512)] == [1, 2, 8, 8, 8]
    assert shards_of(6, None) == 1
    with pytest.raises(ValueError, match=r"run.shard_over=4: 6 processes are no whole number of groups of 4"):
        shards_of(6, 4)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"run__shard_over": 2, "run__precision": "fp16"}, "run.precision='fp16': must be bf16 or fp32"),
        ({"run__shard_over": 0}, "run.shard_over=0"),
        ({"run__save_in_parts": 3}, "run.save_in_parts=3"),
    ],
)
def test_what_does_not_go_together_is_told_before_anything_starts(
    overrides: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(RunConfigError, match=told):
        from_dict(PretrainRun, recipe(tmp_path / "run", tmp_path, **overrides))


def test_a_model_is_divided_by_the_run_or_by_the_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    from wav2vec2.training.run_output import StartError
    from wav2vec2.training.starting import make_accelerator

    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(StartError, match=r"run\.shard_over=8: accelerate launch .* set run\.shard_over=null"):
        make_accelerator("fp32", 8)
