"""`run.compile=true`: each Transformer layer compiled by itself gives the same updates, under the same names."""

from functools import partialmethod
from typing import Any

import pytest
import torch
from small_models import CALM, recompute_activations, small_config, waveforms
from torch import nn
from torch._dynamo.utils import counters

from wav2vec2 import Wav2Vec2ForPreTraining
from wav2vec2.training.starting import compile_layers

# torch's own tracer instantiates torch.autograd.Function and looks at gradients, and torch warns of both.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]

#: Clips of a batch and whether they are padded: every kind of graph comes in the first four, only sizes change then.
BATCHES = [([8000, 5000], True), ([8000, 8000], False), ([6000], False), ([4000, 7000, 3000], True)]
SIZES = [([9000, 4000], True), ([5000] * 5, False), ([12000], False), ([3000, 11000], True)]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_updates_of_compiled_layers_are_those_of_plain_ones(
    checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loss and gradients, with LayerDrop, masks and without, one clip and several; other sizes need no other graph."""
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="aot_eager"))
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.reset()
    config = small_config(**CALM | {"layerdrop": 0.5, "num_hidden_layers": 4})
    models: list[Any] = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(Wav2Vec2ForPreTraining(config).train())
        if checkpointing:
            recompute_activations(models[-1], use_reentrant=False)
    plain, fast = models
    compile_layers(fast)
    assert fast.state_dict().keys() == plain.state_dict().keys()
    counters.clear()
    for update, (lengths, padded) in enumerate(BATCHES + SIZES):
        if update == len(BATCHES):
            graphs = counters["stats"]["unique_graphs"]
            assert 3 <= graphs <= 6, "with and without a mask or a skip, of one clip and of several; not per layer"
        values, mask = waveforms(lengths)
        inputs = {"input_values": values, "clip_seeds": torch.arange(len(lengths))}
        results = []
        for model in models:
            model.set_update(update)
            loss = model(**inputs, attention_mask=mask if padded else None).loss
            results.append([loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))])
        torch.testing.assert_close(results[1], results[0], atol=1e-4, rtol=1e-4)
    assert counters["stats"]["unique_graphs"] == graphs
    assert not counters["graph_break"]
    torch._dynamo.config.recompile_limit = limit
    torch._dynamo.reset()
