"""Several processes train one model: the same layers skipped, the same weights, nothing waited for in vain."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from small_models import waveforms
from two_processes import PROCESSES, build, finetune, pretrain, run_on_two_processes, states_under_fsdp

from wav2vec2 import Wav2Vec2Model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (dist.is_available() and dist.is_gloo_available()), reason="two processes talk through gloo"
    ),
]


@pytest.mark.parametrize("work", [pretrain, finetune])
def test_two_processes_end_with_the_same_weights(work: Callable[[int, Path], None], tmp_path: Path) -> None:
    first, second = run_on_two_processes(work, tmp_path)
    assert all(torch.equal(first["weights"][name], second["weights"][name]) for name in first["weights"])
    assert first["losses"] != second["losses"]  # they saw different clips
    for name, weight in first["weights"].items():
        unused = work is finetune and name.endswith("masked_spec_embed")
        moved = float((weight - first["start"][name]).abs().max())
        assert bool(weight.isfinite().all())
        if not name.endswith("k_proj.bias"):  # a softmax ignores a shift of all scores
            assert (moved < 1e-4) == (unused or ".feature_extractor." in name), name
    if work is finetune:
        early, late = (sum(first["losses"][part]) for part in (slice(0, 10), slice(-10, None)))
        assert late < 0.8 * early


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
