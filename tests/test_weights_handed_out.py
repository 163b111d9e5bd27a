"""A divided run begins with the weights of an undivided one, which its main process alone has made or loaded."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import warm_processes
from accelerate.utils import set_seed
from pretraining_runs import recipe, write_clips
from safetensors.torch import load_file
from sharded_runs import made
from torch import Tensor
from transformers import Wav2Vec2ForPreTraining as Stock

from wav2vec2.training.settings.recipes import from_dict
from wav2vec2.training.settings.run_config import PretrainRun

#: So large that a model is more than what else a process allocates: 27 MB.
LARGE = {"hidden_size": 256, "intermediate_size": 2048, "num_hidden_layers": 5}


def on(processes: int, root: Path, work: str, *arguments: Any) -> list[warm_processes.Process]:
    """Begin something in so many processes."""
    server = warm_processes.server("sharded_runs", "pretraining_runs", "datasets")
    return server.start_many(processes, root / "said", work, *arguments)


def undivided(values: dict[str, Any], head: bool) -> tuple[dict[str, Tensor], Tensor]:
    """Weights and buffers that one process makes, and the random number that it draws next."""
    run = from_dict(PretrainRun, values)
    set_seed(run.run.seed)
    model = made(run, head)
    return dict([*model.named_parameters(), *model.named_buffers()]), torch.rand(())


def begun(root: Path, name: str, values: dict[str, Any], head: bool) -> list[dict[str, Any]]:
    """What each of four processes has, in two copies of the model; asserted to be what one makes."""
    started = on(4, root, "sharded_runs:begin", root, name, head, values)
    assert [process.wait() for process in started] == [0] * 4, [process.said()[-2000:] for process in started]
    found = [torch.load(root / f"{name}.{rank}.pt") for rank in range(4)]
    expected, number = undivided(values, head)
    for of_one in found:
        assert of_one["state"].keys() == expected.keys()
        assert [key for key in expected if not torch.equal(of_one["state"][key], expected[key])] == []
        assert of_one["next"] == number
    return found


@pytest.mark.slow
def test_random_weights_are_those_of_an_undivided_run(tmp_path: Path) -> None:
    """To the bit, on processes that have drawn none of them; their memory did not grow by a model either."""
    values = recipe(tmp_path / "run", tmp_path, model__config=LARGE, run__shard_over=2)
    found = begun(tmp_path, "random", values, head=False)
    weights = sum(tensor.nbytes for tensor in found[0]["state"].values())
    assert weights > 25e6
    if sys.platform == "linux":
        assert found[0]["grown"] > 0.9 * weights
        assert max(of_one["grown"] for of_one in found[1:]) < 0.3 * weights


@pytest.mark.slow
def test_weights_of_a_checkpoint_are_those_of_its_files(tmp_path: Path) -> None:
    """In several files, under a head that starts afresh."""
    values = recipe(tmp_path / "run", tmp_path, run__shard_over=2)
    set_seed(3)
    made(from_dict(PretrainRun, values), head=False).save_pretrained(tmp_path / "checkpoint", max_shard_size="40kB")
    files = sorted((tmp_path / "checkpoint").glob("*.safetensors"))
    assert len(files) > 1
    values["model"] = {"checkpoint": str(tmp_path / "checkpoint")}
    found = begun(tmp_path, "checkpoint", values, head=True)
    stored = Stock.from_pretrained(tmp_path / "checkpoint").wav2vec2.state_dict()
    saved = {name for path in files for name in load_file(path)}
    assert {f"wav2vec2.{name}" for name in stored} <= saved
    for name, tensor in stored.items():
        assert torch.equal(found[3]["state"][f"wav2vec2.{name}"], tensor), name


@pytest.mark.slow
def test_a_checkpoint_that_the_main_process_cannot_load_ends_all(tmp_path: Path) -> None:
    """The others would wait for weights."""
    audio = write_clips(tmp_path / "audio", [0.9] * 12)
    values = recipe(tmp_path / "run", audio, run__shard_over=2)
    made(from_dict(PretrainRun, values), head=False).save_pretrained(tmp_path / "checkpoint")
    file = tmp_path / "checkpoint" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    values["model"] = {"checkpoint": str(tmp_path / "checkpoint")}
    started = on(2, tmp_path, "pretraining_runs:train", values)
    assert [process.wait(60) for process in started] == [1, 1]
    said = [process.said().splitlines()[-1] for process in started]
    assert "a weight file is truncated or corrupt" in said[0]
    assert "the main process could not start: CheckpointError: " in said[1]
