"""Tiny pretraining runs through the real `pretrain()`, in this process or in others, and what they leave behind."""

import errno
import os
import random
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import soundfile
import torch
import warm_processes
from logged_runs import without_timing
from safetensors import safe_open
from safetensors.torch import load_file
from small_models import CALM, SMALL
from torch import Tensor
from training_audio import RATE, encoded_samples, write_parquet

from wav2vec2.training import model_making, pretraining, starting
from wav2vec2.training.progress.training_log import read_log
from wav2vec2.training.saving.checkpoints import Checkpoints
from wav2vec2.training.settings.recipes import from_dict
from wav2vec2.training.settings.run_config import PretrainRun
from wav2vec2.training.update_step import Updater

#: A few thousand parameters, two convolutions; a frame is 320 samples as always. Clips have about fifty frames.
MODEL: dict[str, Any] = {name: list(value) if isinstance(value, tuple) else value for name, value in SMALL.items()} | {
    "conv_dim": [8, 8],
    "conv_stride": [20, 16],
    "conv_kernel": [40, 20],
    "feature_grad_mult": 0.1,
    "feature_penalty_weight": 10.0,
}

#: Dropout everywhere where the model has it, and LayerDrop.
RANDOM: dict[str, Any] = {
    "hidden_dropout": 0.1,
    "activation_dropout": 0.1,
    "attention_dropout": 0.1,
    "feat_proj_dropout": 0.1,
    "feat_quantizer_dropout": 0.1,
    "final_dropout": 0.1,
    "layerdrop": 0.3,
}


def speechlike(seed: int, seconds: float) -> Any:
    """A few tones that come and go, and noise: something that can be told from something else."""
    random_numbers = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    tones = [np.sin(2 * np.pi * random_numbers.uniform(100, 3000) * time) for _ in range(3)]
    steps = [np.repeat(random_numbers.uniform(0, 0.2, len(time) // 800 + 1), 800)[: len(time)] for _ in tones]
    return sum(tone * step for tone, step in zip(tones, steps, strict=True)) + random_numbers.normal(0, 0.02, len(time))


def write_clips(folder: Path, lengths: Sequence[float], first_seed: int = 0) -> Path:
    """Files clip000.wav ... of so many seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, length in enumerate(lengths):
        soundfile.write(folder / f"clip{number:03d}.wav", speechlike(first_seed + number, length), RATE)
    return folder


def write_shards(folder: Path, lengths: Sequence[float]) -> None:
    """The same clips as rows of three parquet shards."""
    rows: list[dict[str, object]] = [
        {"audio": {"bytes": encoded_samples(speechlike(number, length)), "path": f"{number}.wav"}}
        for number, length in enumerate(lengths)
    ]
    for shard in range(3):
        write_parquet(folder / f"{shard}.parquet", rows[shard::3])


def recipe(folder: Path, audio: Path, valid: Path | None = None, **overrides: Any) -> dict[str, Any]:
    """A run of four updates over the clips in `audio`; an override `section__field=value` replaces one value."""
    values: dict[str, Any] = {
        "model": {"preset": "base", "config": MODEL | CALM},
        "data": {
            "train": [{"path": str(audio)}],
            "valid": [] if valid is None else [{"path": str(valid)}],
            "min_seconds": 0.3,
            "max_seconds": 2.0,
            "seconds_per_update": 8.8,
            "seconds_per_batch": 100.0,
            "workers": 0,
            "cache": str(folder.parent / "durations"),
        },
        "optimizer": {"learning_rate": 1e-3, "weight_decay": 0.1},
        "schedule": {"warmup": 0.5},
        "run": {
            "output": str(folder),
            "updates": 4,
            "precision": "fp32",
            "log_every": 3,
            "evaluate_every": 1000,
            "save_every": 1000,
            "report": False,
        },
        "guards": {"collapse": False, "stalled": False},
    }
    for key, value in overrides.items():
        section, _, name = key.partition("__")
        values[section][name] = values[section][name] | value if isinstance(value, Mapping) else value
    return values


# --- what a process does -------------------------------------------------------------------------------------------


def train(values: dict[str, Any], resume: bool = True) -> None:
    """The run, with what only costs time left out: measuring the machine's peak."""
    torch.set_num_threads(1)
    with patch.object(starting, "matmul_peak", lambda *_: 1e9):
        pretraining.pretrain(from_dict(PretrainRun, values), resume)


def train_and_record(values: dict[str, Any], counted: str = "mask_time_indices") -> None:
    """The run; of each update the gradients of this process, and how many frames or labels each of its parts counts."""
    recorded: list[dict[str, Any]] = []

    class Recording(Updater):
        def __call__(self, update: int, parts: Any, messages: Any = ()) -> Any:
            recorded.append({"counted": [int(part[counted].sum()) for part in parts]})
            if len(recorded) == 1:
                recorded[0]["start"] = {name: whole(tensor) for name, tensor in self.bare.state_dict().items()}
            return super().__call__(update, parts, messages)

        def gradient_norm(self) -> Tensor:
            recorded[-1]["gradients"] = {
                name: None if parameter.grad is None else whole(parameter.grad)
                for name, parameter in self.bare.named_parameters()
            }
            return super().gradient_norm()

    with patch.object(starting, "Updater", Recording):
        train(values)
    torch.save(recorded, Path(values["run"]["output"]) / f"recorded-{os.environ.get('RANK', '0')}.pt")


@contextmanager
def signalled_at(update: int, number: int) -> Iterator[None]:
    """At the beginning of an update (counted from 0), this process gets a signal."""

    class Interrupted(Updater):
        def __call__(self, now: int, *rest: Any) -> Any:
            if now == update:
                os.kill(os.getpid(), number)
            return super().__call__(now, *rest)

    with patch.object(starting, "Updater", Interrupted):
        yield


def train_until(values: dict[str, Any], update: int, number: int) -> None:
    """The run; at the beginning of an update (counted from 0), this process gets a signal."""
    with signalled_at(update, number):
        train(values)


def train_until_one_stops(values: dict[str, Any], update: int, number: int) -> None:
    """The run; at the beginning of an update its last process gets a signal, the others none."""
    last = int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1
    train_until(values, update if last else -1, number)


def train_until_killed(values: dict[str, Any], seed: int, share: float, event: int) -> None:
    """The run on a disk that cannot take a share of what is written; the process kills itself at an event (from 1)
    after its first checkpoint: a file is put on the disk or gets its name, an update or a save begins."""
    left = [event]
    begun = False

    def counted(real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            left[0] -= begun
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call

    real_save = counted(Checkpoints.save)

    def save(*arguments: Any, **options: Any) -> Any:
        nonlocal begun
        saved = real_save(*arguments, **options)
        begun = True
        return saved

    with (
        disk_full_now_and_then(seed, share),
        patch("wav2vec2.training.run_output.require_output"),  # a full disk is told of there, before the run
        patch.object(os, "fsync", counted(os.fsync)),
        patch.object(os, "rename", counted(os.rename)),
        patch.object(Updater, "__call__", counted(Updater.__call__)),
        patch.object(Checkpoints, "save", save),
    ):
        train(values)


def train_collapsed(values: dict[str, Any]) -> None:
    """The run of a model that chooses the first code of each group whatever it hears."""
    real = model_making.make_model

    def collapsed(*arguments: Any) -> Any:
        model, *said = real(*arguments)
        with torch.no_grad():
            model.quantizer.weight_proj.bias.unflatten(0, (model.quantizer.num_groups, -1))[:, 0] = 1e4
        return model, *said

    with patch.object(pretraining, "make_model", collapsed):
        train(values)


def train_losing_codes(values: dict[str, Any], update: int, left: int) -> None:
    """The run; from one update (from 0) on, only the first few codes of each group can be the most likely one."""

    class Losing(Updater):
        def __call__(self, now: int, *rest: Any) -> Any:
            if now == update:
                quantizer: Any = self.bare.quantizer
                quantizer.weight_proj.bias.data.unflatten(0, (quantizer.num_groups, -1))[:, :left] += 1e4
            return super().__call__(now, *rest)

    with patch.object(starting, "Updater", Losing):
        train(values)


def train_with_infinity(values: dict[str, Any], update: int, name: str, rank: str | None = None) -> None:
    """The run; from one update on a parameter, or in that update alone the output of a module, is infinite. With
    `rank`, on that process alone."""

    class Spoiled(Updater):
        def __call__(self, now: int, *rest: Any) -> Any:
            here = now == update and rank in (None, os.environ.get("RANK"))
            parameters = dict(self.bare.named_parameters())
            if here and name in parameters:
                parameters[name].data.view(-1)[0] = float("inf")
            if here and name not in parameters:
                self.bare.get_submodule(name).register_forward_hook(lambda *_: _[-1] * float("inf"))
            elif name not in parameters:
                self.bare.get_submodule(name)._forward_hooks.clear()
            return super().__call__(now, *rest)

    with patch.object(starting, "Updater", Spoiled):
        train(values)


def train_with_infinite_gradient(values: dict[str, Any], update: int, name: str) -> None:
    """The run; in one update the gradient of a parameter is infinite."""

    class Spoiled(Updater):
        def __call__(self, now: int, *rest: Any) -> Any:
            if now == update:
                dict(self.bare.named_parameters())[name].register_hook(lambda gradient: gradient.abs() * float("inf"))
            return super().__call__(now, *rest)

    with patch.object(starting, "Updater", Spoiled):
        train(values)


def train_sharded(values: dict[str, Any]) -> None:
    """The run with FSDP2, one copy of the model over all processes."""
    values["run"]["shard_over"] = int(os.environ["WORLD_SIZE"])
    train_and_record(values)


def whole(tensor: Any) -> Tensor:
    """A copy, put together if it is in pieces."""
    tensor = tensor.detach()
    result: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return result.clone()


@contextmanager
def disk_full_now_and_then(seed: int, share: float) -> Iterator[None]:
    """Some of the calls that put a file on the disk fail."""
    chance, real = random.Random(seed), os.fsync

    def fsync(handle: int) -> None:
        if chance.random() < share:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with patch.object(os, "fsync", fsync):
        yield


# --- what a run leaves behind --------------------------------------------------------------------------------------


def start(folder: Path, processes: int, work: str, *arguments: Any, **environment: str) -> list[warm_processes.Process]:
    """Begin `work` of this module in other processes."""
    server = warm_processes.server("pretraining_runs", "datasets")
    return server.start_many(
        processes, folder.with_suffix(".stderr"), f"pretraining_runs:{work}", *arguments, **environment
    )


def run(values: dict[str, Any], processes: int = 1, work: str = "train", *rest: Any, **environment: str) -> Path:
    """A whole run in other processes; its folder."""
    folder = Path(values["run"]["output"])
    server = warm_processes.server("pretraining_runs", "datasets")
    log = folder.with_suffix(".stderr")
    server.run(processes, log, f"pretraining_runs:{work}", values, *rest, **environment)
    return folder


def killed_after(values: dict[str, Any], update: int, processes: int = 1, number: int = signal.SIGKILL) -> Path:
    """A run whose processes all got a signal at the beginning of an update; they have ended."""
    folder = Path(values["run"]["output"])
    started = start(folder, processes, "train_until", values, update, number)
    for process in started:
        status = process.wait()
        assert status == (-number if number == signal.SIGKILL else 0), (status, process.said()[-3000:])
    warm_processes.server("pretraining_runs", "datasets").end_orphans()
    return folder


def last_checkpoint(folder: Path) -> Path:
    """The newest."""
    return max((folder / "checkpoints").glob("update-*"))


def recorded(folder: Path, rank: int = 0) -> list[dict[str, Any]]:
    """What `train_and_record` recorded of the updates of a process."""
    found: list[dict[str, Any]] = torch.load(folder / f"recorded-{rank}.pt")
    return found


def weights(folder: Path) -> dict[str, Tensor]:
    """The weights of the newest checkpoint."""
    found: dict[str, Tensor] = load_file(last_checkpoint(folder) / "model.safetensors")
    return found


def optimizer(folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The optimizer's tensors and numbers in the newest checkpoint."""
    path = last_checkpoint(folder) / "training_state" / "optimizer.safetensors"
    with safe_open(path, "pt") as file:
        return load_file(path), dict(file.metadata() or {})


def log(folder: Path) -> list[dict[str, Any]]:
    """The log without what depends on the moment."""
    return without_timing(read_log(folder))


def assert_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor], tolerance: float = 0.0) -> None:
    """The same tensors, bit by bit or nearly."""
    assert one.keys() == other.keys()
    for name in one:
        difference = (one[name].double() - other[name].double()).abs().max().item()
        assert one[name].shape == other[name].shape and difference <= tolerance, (name, difference)


def assert_same_run(one: Path, other: Path) -> None:
    """Bit-equal weights, optimizer and log."""
    assert_same(weights(one), weights(other))
    first, second = optimizer(one), optimizer(other)
    assert_same(first[0], second[0])
    assert first[1] == second[1]
    assert log(one) == log(other)
