"""What each of two processes does in `test_distributed.py`. A new process finds its work by the name of its module."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from small_models import CALM, recompute_activations, small_config, waveforms
from torch.distributed.fsdp import fully_shard
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from wav2vec2 import Wav2Vec2ForCTC, Wav2Vec2ForPreTraining, Wav2Vec2Model

PROCESSES = 2
STEPS = 50

#: Short convolutions, so that fifty steps take seconds. A frame is still 320 samples.
QUICK: dict[str, Any] = {"conv_dim": (8, 8), "conv_stride": (20, 16), "conv_kernel": (40, 20), "layerdrop": 0.5}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def run_on_two_processes(work: Callable[[int, Path], None], folder: Path) -> list[Any]:
    """Run `work(rank, folder)` in each process; what each saved as `<rank>.pt`."""
    spawn(enter, (work, free_port(), folder), nprocs=PROCESSES)
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


def enter(rank: int, work: Callable[[int, Path], None], port: int, folder: Path) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ["OMP_NUM_THREADS"] = "1"  # or Accelerate gives each process both cores in the middle of its work
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=PROCESSES)
    try:
        work(rank, folder)
    finally:
        dist.destroy_process_group()


def build(head: Any, **overrides: Any) -> Any:
    """The same weights on every process, in training mode."""
    torch.manual_seed(0)
    return head(small_config(**(CALM | QUICK | overrides))).train()


def train_with_ddp(
    rank: int, folder: Path, head: Any, batch: Callable[[int], dict[str, Any]], **overrides: Any
) -> None:
    """Fifty steps without `find_unused_parameters`, checkpointing on, convolutions frozen; save what came out."""
    model = build(head, **overrides)
    model.freeze_feature_encoder()
    recompute_activations(model, use_reentrant=False)
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    ddp = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.0)
    losses = []
    for step in range(STEPS):
        model.set_update(step)
        loss = ddp(**batch(step * PROCESSES + rank)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    torch.save({"start": start, "weights": weights, "losses": losses}, folder / f"{rank}.pt")


def pretraining_batch(number: int) -> dict[str, Any]:
    """Every process sees its own clips and draws its own masks."""
    values, mask = waveforms([3200, 2000 + 10 * (number % 7)], seed=number)
    return {"input_values": values, "attention_mask": mask, "generator": torch.Generator().manual_seed(number)}


def ctc_batch(number: int) -> dict[str, Any]:
    values, mask = waveforms([3200, 2000 + 10 * (number % 7)], seed=number)
    return {"input_values": values, "attention_mask": mask, "labels": torch.tensor([[1, 2, 3], [3, 1, -100]])}


def pretrain(rank: int, folder: Path) -> None:
    train_with_ddp(rank, folder, Wav2Vec2ForPreTraining, pretraining_batch)


def finetune(rank: int, folder: Path) -> None:
    """Without SpecAugment nothing uses the mask embedding, which must not stop the others."""
    train_with_ddp(rank, folder, Wav2Vec2ForCTC, ctc_batch, mask_time_prob=0.0)


def weights_under_decay(rank: int, folder: Path) -> None:
    """Weights before and after steps with decay and without gradient for the convolutions; then the same of a model
    that is told so only when it is wrapped already."""
    weights = []
    for late in (False, True):
        model = build(Wav2Vec2ForCTC, feature_grad_mult=1.0 if late else 0.0)
        ddp = DistributedDataParallel(model)
        model.config.feature_grad_mult = 0.0
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
        weights.append({name: parameter.detach().clone() for name, parameter in model.named_parameters()})
        for step in range(3):
            optimizer.zero_grad()
            ddp(**ctc_batch(step * PROCESSES + rank)).loss.backward()
            optimizer.step()
        weights.append({name: parameter.detach().clone() for name, parameter in model.named_parameters()})
    torch.save({"before": weights[0], "after": weights[1], "late": weights[3]}, folder / f"{rank}.pt")


def states_under_fsdp(rank: int, folder: Path) -> None:
    """Hidden states of a sharded model for some updates, its skipped layers, and its gradients."""
    model = build(Wav2Vec2Model, apply_spec_augment=False, num_hidden_layers=4)
    for layer in model.encoder.layers:
        fully_shard(layer)
    fully_shard(model)
    values, mask = waveforms([3200, 2000], seed=rank)
    states, gradients = [], []
    for update in range(4):
        model.set_update(update)
        output = model(values, mask, output_hidden_states=True)
        states.append([state.detach() for state in output.hidden_states])
        model.zero_grad()
        output.last_hidden_state.square().mean().backward()
        gradients.append({name: whole(parameter.grad) for name, parameter in model.named_parameters()})
    torch.save({"states": states, "gradients": gradients}, folder / f"{rank}.pt")


def whole(gradient: Any) -> Any:
    """A sharded gradient, put together; None stays None."""
    return None if gradient is None else gradient.full_tensor()
