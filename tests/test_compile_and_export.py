"""The models compile into one graph, export with free sizes, and never make the host wait for the device."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from small_models import CALM, HEADS, small_config, waveforms
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from wav2vec2 import (
    Wav2Vec2ForAudioFrameClassification,
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2ForXVector,
    Wav2Vec2Model,
)

# torch's own tracer instantiates torch.autograd.Function to look at it, and torch warns of that.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


@pytest.fixture(autouse=True)
def one_graph_for_all() -> Iterator[None]:
    """Start without compiled graphs; a second compilation of the same model is an error."""
    torch._dynamo.reset()
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield
    torch._dynamo.reset()


#: Few convolutions and one layer, as every operation takes time to trace. A frame is still 320 samples.
SHALLOW: dict[str, Any] = {
    "num_hidden_layers": 1, "conv_dim": (16, 16), "conv_stride": (20, 16), "conv_kernel": (40, 20),
}  # fmt: skip


def build(head: Any, architecture: str = "base", **overrides: Any) -> Any:
    torch.manual_seed(0)
    return head(small_config(architecture, **(CALM | SHALLOW | overrides)))


def compiled(model: Any, backend: str = "aot_eager") -> Any:
    return torch.compile(model, fullgraph=True, dynamic=True, backend=backend)


def step(model: Any, parameters: Any, inputs: dict[str, Any]) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients, with the same random numbers at every call."""
    torch.manual_seed(5)
    loss = model(**inputs).loss
    return loss.detach(), list(torch.autograd.grad(loss, parameters, allow_unused=True))


def clips(lengths: list[int]) -> dict[str, Tensor]:
    values, mask = waveforms(lengths)
    return {"input_values": values, "attention_mask": mask}


@pytest.mark.slow
def test_ctc_compiles_into_one_graph() -> None:
    """Equal logits at any number of clips and samples, with the graph that the first batch made."""
    model = build(Wav2Vec2ForCTC, "large_lv60k").eval()
    fast = compiled(model)
    with torch.no_grad():
        for lengths in ([5000, 3000], [4321, 400, 300], [9000, 8000]):
            inputs = clips(lengths)
            torch.testing.assert_close(fast(**inputs).logits, model(**inputs).logits, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_ctc_trains_on_a_compiled_model() -> None:
    """Loss and gradients with SpecAugment on the device and LayerDrop, at changing sizes and updates.

    The loss itself stays outside of the graph: torch cannot trace its `ctc_loss`.
    """
    model = build(Wav2Vec2ForCTC, layerdrop=0.5, mask_feature_prob=0.3, mask_feature_length=8).train()
    parameters = list(model.parameters())
    plain, fast = model.wav2vec2, compiled(model.wav2vec2)
    for update, lengths in enumerate([[5000, 3000], [9000, 8000, 400]]):
        model.set_update(update)
        labels = torch.randint(1, 32, (len(lengths), 3 + update), generator=torch.Generator().manual_seed(0))
        inputs = {**clips(lengths), "labels": labels}
        model.wav2vec2 = fast
        found = step(model, parameters, inputs)
        model.wav2vec2 = plain
        torch.testing.assert_close(found, step(model, parameters, inputs), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_pretraining_compiles_into_one_graph() -> None:
    """Masks, distractors and Gumbel noise drawn on the device, LayerDrop, forward and backward. Another update, another
    temperature and other sizes need no other graph."""
    schedule: dict[str, Any] = {
        "gumbel_temperature_decay": 0.7,
        "feature_grad_mult": 0.1,
        "feature_penalty_weight": 10.0,
    }
    model = build(Wav2Vec2ForPreTraining, layerdrop=0.5, **schedule).train()
    names, parameters = zip(*model.named_parameters(), strict=True)
    fast = compiled(model)
    quantizer = []
    for update, lengths in enumerate([[5000, 3000], [5000, 3000], [9000, 8000, 400], [5000, 3000]]):
        model.set_update(update)
        assert float(model.quantizer.temperature) == pytest.approx(max(2 * 0.7**update, 0.5))
        inputs = clips(lengths)
        found = step(fast, parameters, inputs)
        torch.testing.assert_close(found, step(model, parameters, inputs), atol=1e-4, rtol=1e-4)
        quantizer.append(found[1][names.index("quantizer.weight_proj.weight")])
    assert float((quantizer[1] - quantizer[0]).abs().max()) > 1e-3  # the temperature acts on the gradient alone


@pytest.mark.slow
def test_layer_drop_of_a_compiled_model_keeps_changing() -> None:
    """Without a given update too, from the random state that `torch.manual_seed` sets, as eagerly."""
    model = build(Wav2Vec2Model, layerdrop=0.5, apply_spec_augment=False).train()
    fast = compiled(model)
    inputs = clips([1000, 900])
    with torch.no_grad():
        outputs = []
        for forward in (fast, fast, model):
            torch.manual_seed(0)
            outputs.append([forward(**inputs).last_hidden_state for _ in range(12)])
    assert len({round(float(output[0, 0, 0]), 4) for output in outputs[0]}) == 2
    torch.testing.assert_close(outputs[1:], outputs[:2], atol=1e-5, rtol=0)


# importing inductor runs code of torch that torch itself has deprecated
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:DeprecationWarning")
@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="inductor needs a C++ compiler")
def test_ctc_compiles_to_machine_code() -> None:
    model = build(Wav2Vec2ForCTC, conv_dim=(16,), conv_stride=(320,), conv_kernel=(400,))
    fast = compiled(model.eval(), "inductor")
    with torch.no_grad():
        for lengths in ([5000, 3000], [9000, 8000, 800]):
            inputs = clips(lengths)
            torch.testing.assert_close(fast(**inputs).logits, model(**inputs).logits, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["base", "large_lv60k"])
@pytest.mark.parametrize("masked", [False, True])
def test_ctc_exports_with_free_sizes(architecture: str, masked: bool) -> None:
    """One program for any number of clips and samples, which gives the logits of the model."""
    model = build(Wav2Vec2ForCTC, architecture).eval()
    names = ("input_values", "attention_mask") if masked else ("input_values",)
    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    example = clips([5000, 3000])
    program = torch.export.export(
        model, (), {name: example[name] for name in names}, dynamic_shapes={name: sizes for name in names}
    ).module()
    for lengths in ([5000, 3000], [16000, 900, 400], [4000, 3999, 3998, 2000]):
        inputs = {name: clips(lengths)[name] for name in names}
        with torch.no_grad():
            torch.testing.assert_close(program(**inputs).logits, model(**inputs).logits, atol=1e-5, rtol=0)


def labels_for(head: Any) -> dict[str, Any]:
    """Labels of two clips of 8000 samples, for the heads whose loss has a form without values (CTC's has none)."""
    if head is Wav2Vec2ForAudioFrameClassification:
        return {"labels": torch.zeros(2, 24, 2)}
    if head in (Wav2Vec2ForSequenceClassification, Wav2Vec2ForXVector):
        return {"labels": torch.tensor([0, 1])}
    return {}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_no_step_looks_at_a_value_on_the_device(head: Any, training: bool) -> None:
    """Tensors on the meta device have no values: whatever the host asked for would fail. Everything is switched on."""
    everything: dict[str, Any] = {
        "hidden_dropout": 0.1, "attention_dropout": 0.1, "feat_proj_dropout": 0.1, "layerdrop": 0.5,
        "mask_feature_prob": 0.5, "feature_penalty_weight": 1.0, "use_weighted_layer_sum": True,
    }  # fmt: skip
    model = build(head, **everything).train(training).to("meta")
    asked = {"clip_seeds": torch.tensor([1, 2])} if head is Wav2Vec2ForPreTraining else labels_for(head)
    inputs = {name: x.to("meta") for name, x in (clips([8000, 5000]) | asked).items()}
    output = model(**inputs)
    assert output[0].device.type == "meta"
    if "labels" in inputs or head is Wav2Vec2ForPreTraining:
        output.loss.backward()
        # a choice of codes that is not sampled has no gradient
        assert not training or all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_shapes_are_all_that_python_needs(head: Any, training: bool) -> None:
    """The same with tensors that know their shape alone, which is how compilers look at a model."""
    rates = {"hidden_dropout": 0.1, "attention_dropout": 0.1, "feat_quantizer_dropout": 0.1, "mask_feature_prob": 0.5}
    with FakeTensorMode():
        model = head(small_config(**(CALM | rates))).train(training)
        output = model(torch.randn(2, 8000))
    assert isinstance(output[0], FakeTensor)
    shapes = {
        Wav2Vec2Model: (2, 24, 48), Wav2Vec2ForPreTraining: () if training else (2, 24, 12),
        Wav2Vec2ForCTC: (2, 24, 32),
        Wav2Vec2ForSequenceClassification: (2, 2), Wav2Vec2ForAudioFrameClassification: (2, 24, 2),
        Wav2Vec2ForXVector: (2, 10),
    }  # fmt: skip
    assert output[0].shape == shapes[head]
