"""Checkpoints: what was saved comes back bit by bit, and what is there is whole, on any number of processes."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import transformers
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from checkpointed_runs import (
    TINY,
    UNUSED,
    new_run,
    restore,
    save,
    work_on_two,
)
from small_models import small_config
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from two_processes import run_on_two_processes

from wav2vec2 import Wav2Vec2FeatureExtractor, Wav2Vec2ForPreTraining
from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.training.saving.checkpoints import Checkpoints, CheckpointWriteError
from wav2vec2.training.saving.training_state import TrainingState

two_processes = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="two processes talk through gloo"
)


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    """Accelerate remembers the first accelerator of a process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def assert_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    """Three updates, save, another process's run restores and does three more: every bit is that of six in a row."""
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    first = new_run()
    first.train(0, 3)
    folder = save(first, checkpoints, 3)
    first.train(3, 6)
    second = new_run(seed=1)
    second.train(0, 1)  # what is there before is replaced
    state = restore(second, checkpoints)
    second.train(state.update, 6)
    assert (state.update, state.position, state.processes) == (3, {"shard": 3}, 1)
    assert state.versions["torch"] == torch.__version__
    assert folder == tmp_path / "run" / "checkpoints" / "update-00000003"
    assert_equal(second.state(), first.state())
    assert "quantizer.codevectors/exp_avg_sq" in first.state()
    assert f"{UNUSED}/exp_avg" not in first.state()


def test_the_settings_of_the_optimizer_stay_those_of_the_run(tmp_path: Path) -> None:
    first, second, checkpoints = new_run(), new_run(), Checkpoints(tmp_path)
    first.train(0, 1)
    save(first, checkpoints, 1)
    second.optimizer.param_groups[0]["weight_decay"] = 0.25
    restore(second, checkpoints)
    assert [group["weight_decay"] for group in second.optimizer.param_groups] == [0.25, 0.0]


def test_a_loss_scale_comes_back(tmp_path: Path) -> None:
    first, second, checkpoints = new_run(), new_run(), Checkpoints(tmp_path)
    first.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**9, growth_interval=77)
    scale = first.accelerator.scaler.state_dict()
    save(first, checkpoints, 1)
    second.accelerator.scaler = torch.amp.GradScaler("cpu")
    assert second.accelerator.scaler.state_dict() != scale
    restore(second, checkpoints)
    assert second.accelerator.scaler.state_dict() == scale


def test_stock_transformers_loads_every_checkpoint(tmp_path: Path) -> None:
    """With the feature extractor beside it, nothing missing, nothing unexpected, and the same weights."""
    checkpoints, run = Checkpoints(tmp_path, keep_last=3), new_run()
    expected = []
    for update in range(3):
        run.train(update, update + 1)
        state = TrainingState(update=update + 1)
        checkpoints.save(run.accelerator, run.model, run.optimizer, state, [Wav2Vec2FeatureExtractor()])
        expected.append(run.state())
    for folder, weights in zip(sorted(tmp_path.iterdir()), expected, strict=True):
        model, info = transformers.Wav2Vec2ForPreTraining.from_pretrained(folder, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
        loaded = dict(model.named_parameters())
        assert_equal(loaded, {name: value for name, value in weights.items() if "/" not in name})
        assert transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder).sampling_rate == 16000
        assert json.loads((folder / "config.json").read_text())["architectures"] == ["Wav2Vec2ForPreTraining"]


def test_the_last_and_the_best_are_kept(tmp_path: Path) -> None:
    """Two newest and two best; of equals the newer one; a metric that is no number is none."""
    checkpoints, run = Checkpoints(tmp_path, keep_last=2, keep_best=2), new_run()
    metrics = [5.0, 1.0, 3.0, 1.0, float("nan"), None, 9.0]
    kept = [[1], [1, 2], [2, 3], [2, 3, 4], [2, 4, 5], [2, 4, 5, 6], [2, 4, 6, 7]]
    improved = [True, True, True, True, False, False, False]
    for update, (metric, expected) in enumerate(zip(metrics, kept, strict=True), start=1):
        assert checkpoints.are_improved_by(run.accelerator, metric) == improved[update - 1]
        save(run, checkpoints, update, metric)
        assert names(tmp_path) == [f"update-{number:08d}" for number in expected]
    best, newest = checkpoints.best(), checkpoints.newest()
    assert best is not None and newest is not None
    assert (best.name, newest.name) == ("update-00000004", "update-00000007")
    assert not Checkpoints(tmp_path, keep_best=0).are_improved_by(run.accelerator, 0.0)


def test_without_a_checkpoint_there_is_none(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        assert Checkpoints(folder).newest() is None
        assert Checkpoints(folder).best() is None
    with pytest.raises(ValueError, match="keep_last=0"):
        Checkpoints(tmp_path, keep_last=0)


def test_saving_an_update_again_replaces_its_checkpoint(tmp_path: Path) -> None:
    checkpoints, run = Checkpoints(tmp_path), new_run()
    save(run, checkpoints, 5)
    run.train(0, 1)
    save(run, checkpoints, 5, metric=1.0)
    other = new_run(seed=1)
    assert restore(other, checkpoints).update == 5
    assert_equal(other.state(), run.state())
    assert names(tmp_path) == ["update-00000005"]


@pytest.mark.parametrize("damage", ["cut", "deleted", "flipped", "emptied"])
def test_a_damaged_checkpoint_is_passed_over(damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whichever of its files is damaged; the one before is taken, and the damage is named."""
    checkpoints, run = Checkpoints(tmp_path), new_run()
    run.train(0, 1)
    before, newest = save(run, checkpoints, 1, metric=2.0), save(run, checkpoints, 2, metric=1.0)
    files = sorted(path for path in newest.rglob("*") if path.is_file())
    assert len(files) == 5
    for path in files:
        content = path.read_bytes()
        inflict(damage, path, content)
        with caplog.at_level(logging.WARNING, logger="wav2vec2"):
            assert (checkpoints.newest(), checkpoints.best()) == (before, before)
        assert path.name in caplog.messages[-1] and newest.name in caplog.messages[-1]
        with pytest.raises(CheckpointError, match=path.name.replace(".", r"\.")):
            checkpoints.restore(newest, run.accelerator, run.model, run.optimizer)
        path.write_bytes(content)
    assert (checkpoints.newest(), checkpoints.best()) == (newest, newest)


def inflict(damage: str, path: Path, content: bytes) -> None:
    """Damage a file. A flipped bit in the middle changes no size."""
    if damage == "deleted":
        path.unlink()
    elif damage == "flipped":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    else:
        path.write_bytes(content[: len(content) - 1] if damage == "cut" else b"")


def test_the_only_whole_checkpoint_is_never_deleted(tmp_path: Path) -> None:
    """A damaged newer one does not count among the last, and stays for a person to look at."""
    checkpoints, run = Checkpoints(tmp_path, keep_last=1, keep_best=0), new_run()
    save(run, checkpoints, 1)
    newest = save(run, checkpoints, 9)
    assert names(tmp_path) == [newest.name]
    (newest / "model.safetensors").write_bytes(b"")
    whole = save(run, checkpoints, 2)
    assert checkpoints.newest() == whole
    assert names(tmp_path) == [whole.name, newest.name]


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    """Other names, other shapes, and a parameter that the optimizer does not train."""
    checkpoints, run = Checkpoints(tmp_path), new_run()
    run.train(0, 1)
    path = save(run, checkpoints, 1)
    for change, message in (({"num_hidden_layers": 2}, r"layers\.1"), ({"hidden_size": 24}, "float32 ")):
        other = Wav2Vec2ForPreTraining(small_config(**(TINY | change)))
        with pytest.raises(CheckpointError, match=message):
            checkpoints.restore(path, run.accelerator, other, run.optimizer)
    part = torch.optim.AdamW([run.model.quantizer.codevectors])
    with pytest.raises(CheckpointError, match="which this run does not train"):
        checkpoints.restore(path, run.accelerator, run.model, part)
    foreign = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    with pytest.raises(ValueError, match="not the model's"):
        checkpoints.restore(path, run.accelerator, run.model, foreign)


def test_wrappers_leave_no_trace_in_names(tmp_path: Path) -> None:
    """A compiled model with recomputed activations is saved, and goes on without either; and the other way round."""
    checkpoints, wrapped, plain = Checkpoints(tmp_path), new_run(), new_run(seed=1)
    wrapped.train(0, 1)
    state = wrapped.state()
    layers = wrapped.model.wav2vec2.encoder.layers
    layers[0] = checkpoint_wrapper(layers[0])
    wrapped.model = torch.compile(wrapped.model, backend="eager")
    save(wrapped, checkpoints, 1)
    restore(plain, checkpoints)
    assert_equal(plain.state(), state)
    plain.train(1, 2)
    save(plain, checkpoints, 2)
    assert restore(wrapped, checkpoints).update == 2
    layers[0] = layers[0]._checkpoint_wrapped_module
    wrapped.model = wrapped.model._orig_mod
    assert_equal(wrapped.state(), plain.state())


def test_flattened_parameters_are_refused(tmp_path: Path) -> None:
    """FSDP's first version has one nameless parameter per module."""
    run = new_run()
    run.model.register_parameter("_flat_param", torch.nn.Parameter(torch.zeros(3)))
    with pytest.raises(ValueError, match="fsdp_version: 2"):
        save(run, Checkpoints(tmp_path), 1)


class Deepspeed:
    """What DeepSpeed is to us: an accelerator that gives weights, and writes and reads a state of its own."""

    distributed_type = DistributedType.DEEPSPEED
    is_main_process, process_index, num_processes, scaler, works = True, 0, 1, None, True

    def __init__(self) -> None:
        self.loaded = ""

    def unwrap_model(self, model: Any, **kwargs: Any) -> Any:
        return model

    def get_state_dict(self, model: Any) -> dict[str, Any]:
        return dict(model.state_dict())

    def save_state(self, folder: str, **kwargs: Any) -> None:
        if not self.works:
            raise OSError(28, "No space left on device")
        Path(folder).mkdir()
        (Path(folder) / "shard").write_text("of rank 0")

    def load_state(self, folder: str) -> None:
        self.loaded = (Path(folder) / "shard").read_text()


def test_deepspeed_keeps_its_own_state(tmp_path: Path) -> None:
    """In the folder of the checkpoint, under the same rules, and for no one else."""
    checkpoints, run = Checkpoints(tmp_path), new_run()
    plain, run.accelerator = run.accelerator, Deepspeed()
    path = save(run, checkpoints, 4)
    assert (restore(run, checkpoints).update, run.accelerator.loaded) == (4, "of rank 0")
    assert transformers.Wav2Vec2ForPreTraining.from_pretrained(path).num_parameters() == run.model.num_parameters()
    with pytest.raises(CheckpointError, match="DeepSpeed alone"):
        checkpoints.restore(path, plain, run.model, run.optimizer)
    run.accelerator.works = False
    with pytest.raises(CheckpointWriteError, match="No space left"):
        save(run, checkpoints, 5)
    assert names(tmp_path) == [path.name]
    (path / "training_state" / "deepspeed" / "shard").write_text("of rank 1")
    assert checkpoints.newest() is None


def test_a_state_is_what_json_gives_back() -> None:
    state = TrainingState(update=7, epoch=0.1, position={"a": [1, None, {"b": 1e-300}]}, guards={"inf": float("inf")})
    assert TrainingState.from_json(state.to_json()) == state
    wrongs: list[tuple[Any, str]] = [({1: 2}, "position: the key 1"), ({"a": [(1, 2)]}, r"position\.a\[0\]: a tuple")]
    for wrong, where in wrongs:
        with pytest.raises(TypeError, match=where):
            TrainingState(position=wrong).to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 1"),
        ({"update": -1}, "update=-1"),
        ({"update": "3"}, "update='3'"),
        ({"extra": 1}, r"unknown \['extra'\]"),
        ({"epoch": None}, None),
    ],
)
def test_a_state_of_another_kind_is_refused(change: dict[str, Any], message: str | None) -> None:
    values = json.loads(TrainingState(update=3).to_json())
    if message is None:
        values.pop("epoch")
        change, message = {}, r"missing \['epoch'\]"
    with pytest.raises(CheckpointError, match=f"state.json: .*{message}"):
        TrainingState.from_json(json.dumps(values | change), "state.json")
    with pytest.raises(CheckpointError, match="not JSON"):
        TrainingState.from_json(b"{", "state.json")


@pytest.mark.slow
@two_processes
def test_two_processes_go_on_where_one_was_and_one_where_two_were(tmp_path: Path) -> None:
    """Under DDP and FSDP2: restored to the bit; trained on, each piece is what one process makes of the whole."""
    one = new_run()
    one.train(0, 3)
    save(one, Checkpoints(tmp_path / "one"), 3)
    at_three = one.state()
    one.train(3, 5)
    found = run_on_two_processes(work_on_two, tmp_path)
    for wrap in ("ddp", "fsdp"):
        for rank in range(2):
            assert_equal(found[rank][f"restored {wrap}"], at_three)
            torch.testing.assert_close(found[rank][f"trained {wrap}"], one.state(), atol=1e-6, rtol=1e-6)
        other = new_run(seed=1)
        state = restore(other, Checkpoints(tmp_path / wrap))
        assert (state.update, state.processes) == (3, 2)
        assert_equal(other.state(), found[0][f"saved {wrap}"])
        stock = transformers.Wav2Vec2ForPreTraining.from_pretrained(tmp_path / wrap / "update-00000003")
        assert torch.equal(stock.quantizer.codevectors, found[1][f"saved {wrap}"]["quantizer.codevectors"])
        assert stock.config.architectures == ["Wav2Vec2ForPreTraining"]
    assert found[0]["told"] == found[1]["told"]  # the main process could not write, and all know
    assert found[0]["told"].startswith("CheckpointWriteError: ") and "could not be written" in found[0]["told"]
    assert [found[rank]["own results"] for rank in range(2)] == [10, 11]
    assert [found[rank]["result of main"] for rank in range(2)] == [10, 10]
    assert (
        found[0]["order"] == found[1]["order"] == "0 1 0 0 0 "
    )  # where the main process fails, the other does not begin
    for name in ("failure of on_main_first", "failure of told_by_main"):
        assert [found[rank][name] for rank in range(2)] == ["KeyError('no')", "ValueError('main: KeyError')"]
