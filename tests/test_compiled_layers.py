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

#: Clips of a batch and whether they are padded: every kind of graph comes in the first three, only sizes change then.
KINDS = [([8000, 5000], True), ([8000, 8000], False), ([6000], False)]
SIZES = [([4000, 7000, 3000], True), ([5000] * 5, False), ([12000], False), ([3000, 11000], True)]

#: An update in which LayerDrop skips some of three layers, but not all.
SOME_SKIPPED = 1


@pytest.mark.parametrize("checkpointing", [False, True])
def test_updates_of_compiled_layers_are_those_of_plain_ones(
    checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loss and gradients, with a mask and without, of one clip and of several, each with a layer that is skipped: these
    are at most six graphs, however many layers there are, and other sizes need no other."""
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="aot_eager"))
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.reset()
    config = small_config(**CALM | {"layerdrop": 0.5})
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
    graphs: list[int] = []
    for number, (lengths, padded) in enumerate(KINDS + SIZES):
        values, mask = waveforms(lengths)
        inputs = {"input_values": values, "clip_seeds": torch.arange(len(lengths)) + number}
        results = []
        for model in models:
            model.set_update(SOME_SKIPPED)
            assert sorted(set(model.wav2vec2.encoder.layer_drop(0.5))) == [False, True]
            loss = model(**inputs, attention_mask=mask if padded else None).loss
            results.append([loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))])
        torch.testing.assert_close(results[1], results[0], atol=1e-4, rtol=1e-4)
        graphs.append(counters["stats"]["unique_graphs"])
    assert len(KINDS) <= graphs[len(KINDS) - 1] <= 2 * len(KINDS)
    assert graphs[-1] == graphs[len(KINDS) - 1]
    assert not counters["graph_break"]
    torch._dynamo.config.recompile_limit = limit
    torch._dynamo.reset()
