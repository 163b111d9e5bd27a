"""Several processes train one model: the same layers skipped, the same weights at the end, nothing waited for in vain."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from small_models import CALM, recompute_activations, small_config, waveforms
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from wav2vec2 import Wav2Vec2ForCTC, Wav2Vec2ForPreTraining, Wav2Vec2Model

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="two processes talk through gloo"
)

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
    mp.spawn(enter, (work, free_port(), folder), nprocs=PROCESSES)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


def enter(rank: int, work: Callable[[int, Path], None], port: int, folder: Path) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
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
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
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


@pytest.mark.parametrize("work", [pretrain, finetune])
def test_two_processes_end_with_the_same_weights(work: Callable[[int, Path], None], tmp_path: Path) -> None:
    first, second = run_on_two_processes(work, tmp_path)
    assert all(torch.equal(first["weights"][name], second["weights"][name]) for name in first["weights"])
    assert first["losses"] != second["losses"]  # they saw different clips
    for name, weight in first["weights"].items():
        frozen = ".feature_extractor." in name or (work is finetune and name.endswith("masked_spec_embed"))
        moved = float((weight - first["start"][name]).abs().max())
        assert bool(weight.isfinite().all())
        assert moved > 1e-4 or frozen, name
        assert moved < 1e-2 if name.endswith("masked_spec_embed") else not frozen or moved == 0, name
    if work is finetune:
        early, late = (sum(first["losses"][part]) for part in (slice(0, 10), slice(-10, None)))
        assert late < 0.8 * early


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


def states_of_one_process(rank: int) -> list[list[torch.Tensor]]:
    """The same hidden states from a model that is not sharded."""
    model = build(Wav2Vec2Model, apply_spec_augment=False, num_hidden_layers=4)
    values, mask = waveforms([3200, 2000], seed=rank)
    states = []
    for update in range(4):
        model.set_update(update)
        with torch.no_grad():
            states.append(list(model(values, mask, output_hidden_states=True).hidden_states))
    return states


def test_layers_are_really_skipped_when_sharded(tmp_path: Path) -> None:
    """The layers that one process skips, on all processes; their parameters get a gradient of zero."""
    saved = run_on_two_processes(states_under_fsdp, tmp_path)
    skipped = 0
    for rank in range(PROCESSES):
        torch.testing.assert_close(saved[rank]["states"], states_of_one_process(rank), atol=1e-5, rtol=0)
    for update in range(4):
        states, gradients = saved[0]["states"][update], saved[0]["gradients"][update]
        assert all(gradient is not None for gradient in gradients.values())
        for layer in range(4):
            skip = torch.equal(states[layer], states[layer + 1])
            skipped += skip
            gradient = gradients[f"encoder.layers.{layer}.feed_forward.output_dense.weight"]
            assert (float(gradient.abs().sum()) == 0) == skip
    assert 0 < skipped < 16
