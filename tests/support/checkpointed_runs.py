"""A tiny run that saves checkpoints, in this process and in others. A new process finds its work by this module."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from small_models import small_config
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from wav2vec2 import Wav2Vec2ForPreTraining
from wav2vec2.training.saving.checkpoints import Checkpoints
from wav2vec2.training.saving.main_process import on_main_first, told_by_main
from wav2vec2.training.saving.training_state import TrainingState

TINY: dict[str, Any] = {"conv_dim": (8, 8), "conv_stride": (20, 16), "conv_kernel": (40, 20), "num_hidden_layers": 1}

#: This parameter is in the optimizer, but never gets a gradient, so the optimizer has no state of it.
UNUSED = "project_hid.bias"


@dataclass
class Run:
    """What a loop holds."""

    accelerator: Any
    model: Any
    optimizer: Any

    def train(self, first: int, last: int) -> None:
        """Updates with gradients that follow from the update alone, on any number of processes."""
        for update in range(first, last):
            generator = torch.Generator().manual_seed(update)
            for name, parameter in self.accelerator.unwrap_model(self.model).named_parameters():
                gradient = torch.randn(parameter.shape, generator=generator)
                if parameter.requires_grad and name != UNUSED:
                    parameter.grad = like(gradient, parameter)
            for group in self.optimizer.param_groups:
                group["lr"] = 1e-2 / (1 + update)
            self.optimizer.step()

    def state(self) -> dict[str, Any]:
        """Every number of the run: weights and optimizer by names, whole."""
        named = dict(self.accelerator.unwrap_model(self.model).named_parameters())
        state = {name: whole(parameter) for name, parameter in named.items()}
        for name, parameter in named.items():
            for entry, value in self.optimizer.state.get(parameter, {}).items():
                state[f"{name}/{entry}"] = whole(value)
        return state


def new_run(seed: int = 0, wrap: str = "plain") -> Run:
    """Weights of a seed, with a frozen part, a weight decay of its own for some and none for others."""
    torch.manual_seed(seed)
    model: Any = Wav2Vec2ForPreTraining(small_config(**TINY)).train()
    model.freeze_feature_encoder()
    if wrap in ("fsdp", "hsdp"):
        copies = (2, dist.get_world_size() // 2)
        mesh = init_device_mesh("cpu", copies, mesh_dim_names=("copy", "part")) if wrap == "hsdp" else None
        for layer in model.wav2vec2.encoder.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6)
    if wrap == "ddp":
        model = DistributedDataParallel(model)
    accelerator = Accelerator(cpu=True)
    return Run(accelerator, model, accelerator.prepare_optimizer(optimizer) if wrap == "plain" else optimizer)


def whole(tensor: Any) -> Any:
    """A copy, put together if it is in pieces."""
    tensor = tensor.detach()
    return tensor.full_tensor().clone() if hasattr(tensor, "full_tensor") else tensor.clone()


def like(tensor: Any, parameter: Any) -> Any:
    """A tensor in the pieces that the parameter is in."""
    if not hasattr(parameter, "full_tensor"):
        return tensor
    return torch.distributed.tensor.distribute_tensor(tensor, parameter.device_mesh, parameter.placements)


def save(run: Run, checkpoints: Checkpoints, update: int, metric: float | None = None) -> Path:
    """A checkpoint of the run."""
    state = TrainingState(update=update, position={"shard": update})
    return checkpoints.save(run.accelerator, run.model, run.optimizer, state, (), metric)


def restore(run: Run, checkpoints: Checkpoints) -> TrainingState:
    """The newest checkpoint into the run."""
    newest = checkpoints.newest()
    assert newest is not None
    return checkpoints.restore(newest, run.accelerator, run.model, run.optimizer)


def save_without_end(folder: Path) -> None:
    """Go on from the newest checkpoint, save after each update (twice, to replace one too), and report in a file."""
    torch.set_num_threads(1)
    checkpoints, run = Checkpoints(folder, keep_last=1, keep_best=1), new_run()
    update = restore(run, checkpoints).update if checkpoints.newest() else 0
    report = os.open(folder.with_suffix(".txt"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(report, b"ready\n")
    while True:
        run.train(update, update + 1)
        update += 1
        for _ in range(2):
            save(run, checkpoints, update, metric=abs(update % 7 - 3.0))
            os.write(report, f"{update}\n".encode())


def enter_accelerate(rank: int) -> None:
    """Tell Accelerate what a launcher would."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}


def work_on_two(rank: int, folder: Path) -> None:
    """All that two processes do: save, restore what one process saved in `one`, fail. What came out, by its name."""
    enter_accelerate(rank)
    found: dict[str, Any] = {}
    for wrap in ("ddp", "fsdp"):
        run = new_run(wrap=wrap)
        assert run.accelerator.num_processes == 2
        run.train(0, 3)
        save(run, Checkpoints(folder / wrap), 3)
        found[f"saved {wrap}"] = run.state()
        run = new_run(seed=1 + rank, wrap=wrap)
        assert restore(run, Checkpoints(folder / "one")).update == 3
        found[f"restored {wrap}"] = run.state()
        run.train(3, 5)
        found[f"trained {wrap}"] = run.state()
    (folder / "file").touch()  # where it stands no folder can be made
    try:
        save(run, Checkpoints(folder / "file"), 1)
    except OSError as error:
        found["told"] = f"{type(error).__name__}: {error}"
    found |= share_work(run.accelerator, folder / "order.txt")
    torch.save(found, folder / f"{rank}.pt")


def share_work(accelerator: Any, order: Path) -> dict[str, Any]:
    """What comes of work that the main process does first, and of work that it does alone."""
    rank = accelerator.process_index

    def work() -> int:
        with order.open("a") as file:
            file.write(f"{rank} ")
        return 10 + int(rank)

    def fail() -> int:
        work()
        raise KeyError("no")

    def elsewhere(error: Exception) -> Exception:
        return ValueError(f"main: {type(error).__name__}")

    found: dict[str, Any] = {}
    found["own results"] = on_main_first(accelerator, work, elsewhere)
    accelerator.wait_for_everyone()
    found["result of main"] = told_by_main(accelerator, work, elsewhere)
    for share in (on_main_first, told_by_main):
        try:
            share(accelerator, fail, elsewhere)
        except (KeyError, ValueError) as error:
            found[f"failure of {share.__name__}"] = repr(error)
    accelerator.wait_for_everyone()
    return found | {"order": order.read_text()}
