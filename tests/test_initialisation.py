"""Every parameter of a new model starts as fairseq's formulas say, and none is left as memory happened to be."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import ARCHITECTURES, HEADS, small_config
from torch import Tensor

from wav2vec2 import (
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
    Wav2Vec2Model,
)
from wav2vec2.configuration import presets


@pytest.fixture(autouse=True)
def unwritten_memory_is_nan() -> Iterator[None]:
    """torch.empty gives NaN, so that a parameter that nobody initialises is always seen."""
    torch.use_deterministic_algorithms(True)
    assert bool(torch.empty(1).isnan())
    yield
    torch.use_deterministic_algorithms(False)


def inputs_of(parameters: dict[str, Tensor], name: str) -> int:
    """Inputs of the layer that a weight or a bias belongs to."""
    return parameters[re.sub("bias$", "weight", name)][0].numel()


def check_normal(x: Tensor, std: float) -> None:
    """Mean 0, the given deviation, and the share within one deviation that a normal has; each within six errors."""
    count = x.numel()
    assert float(x.mean()) == pytest.approx(0, abs=6 * std / math.sqrt(count))
    assert float(x.std()) == pytest.approx(std, rel=6 / math.sqrt(2 * count))
    within = float((x.abs() < std).float().mean())
    assert within == pytest.approx(0.6827, abs=6 * math.sqrt(0.6827 * 0.3173 / count))


def check_uniform(x: Tensor, low: float, high: float) -> None:
    """Within the bounds, filling them, with the mean and the deviation of a uniform; within six errors."""
    count, width = x.numel(), high - low
    std = width / math.sqrt(12)
    assert low <= float(x.min()) <= low + 12 * width / count
    assert high - 12 * width / count <= float(x.max()) <= high
    assert float(x.mean()) == pytest.approx((low + high) / 2, abs=6 * std / math.sqrt(count))
    assert float(x.std()) == pytest.approx(std, rel=6 * math.sqrt(0.2 / count) + 1 / count)


def check_constant(x: Tensor, value: float) -> None:
    assert torch.equal(x, torch.full_like(x, value))


def check(parameters: dict[str, Tensor], name: str, layers: int) -> None:
    """One parameter against its formula. The first pattern that fits decides."""
    x = parameters[name]
    if re.search(r"masked_spec_embed$|quantizer\.codevectors$", name):
        check_uniform(x, 0, 1)
    elif re.search(r"quantizer\.weight_proj\.weight$|objective\.weight$", name):
        check_normal(x, 1.0)
    elif name.endswith("original1"):
        check_normal(x, math.sqrt(4 / (x.shape[2] * x.shape[0])))
    elif name.endswith("original0"):
        v = parameters[f"{name[:-1]}1"]
        norm = v.double().square().sum((0, 1), keepdim=True).sqrt()
        torch.testing.assert_close(x.double(), norm, atol=0, rtol=5e-5)  # up to 100,000 squares, added in 32 bits
    elif re.search(r"(conv_layers|adapter\.layers)\.\d+\.conv\.weight$", name):
        check_normal(x, math.sqrt(2 / inputs_of(parameters, name)))
    elif re.search(
        r"(conv_layers|adapter\.layers)\.\d+\.conv\.bias$|feature_projection\.projection|project_(hid|q)", name
    ):
        bound = 1 / math.sqrt(inputs_of(parameters, name))
        check_uniform(x, -bound, bound)
    elif name.endswith("layer_weights"):
        check_constant(x, 1 / (layers + 1))
    elif re.search(r"(layer_norm|adapter_layer\.norm)\.weight$", name):
        check_constant(x, 1.0)
    elif name.endswith(".bias"):
        check_constant(x, 0.0)
    else:
        assert name.endswith(".weight") and x.dim() == 2
        check_normal(x, 0.02)


def check_all(model: Any, names: list[str] | None = None) -> None:
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    for name in names or parameters:
        try:
            check(parameters, name, model.config.num_hidden_layers)
        except AssertionError as error:
            raise AssertionError(f"{name} {tuple(parameters[name].shape)} does not follow its formula") from error


FULL_WIDTH: dict[str, Wav2Vec2Config] = {
    "base": presets.base(num_hidden_layers=1),
    "large_lv60k": presets.large_lv60k(num_hidden_layers=1),
    "mms": presets.mms_1b(num_hidden_layers=1),
}


@pytest.mark.slow
@pytest.mark.parametrize("size", FULL_WIDTH)
def test_a_new_pretraining_model_follows_the_formulas(size: str) -> None:
    """At the width of published models, every parameter."""
    torch.manual_seed(0)
    check_all(Wav2Vec2ForPreTraining(FULL_WIDTH[size]))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("head", HEADS)
def test_every_new_model_follows_the_formulas(head: Any, architecture: str) -> None:
    torch.manual_seed(0)
    check_all(head(small_config(architecture, use_weighted_layer_sum=True)))


@pytest.mark.parametrize("head", [Wav2Vec2Model, Wav2Vec2ForCTC])
def test_a_new_adapter_follows_the_formulas(head: Any) -> None:
    torch.manual_seed(0)
    check_all(head(small_config(add_adapter=True, output_hidden_size=32)))


def test_the_range_of_linear_layers_is_configured() -> None:
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(small_config(initializer_range=0.5))
    for name in ("lm_head.weight", "wav2vec2.encoder.layers.0.attention.q_proj.weight"):
        check_normal(model.get_parameter(name).detach(), 0.5)


@pytest.mark.parametrize(
    ("config", "std", "torch_default"),
    [
        # sqrt(4 / (kernel * width)) beside 1 / sqrt(3 * kernel * width / groups), which an unapplied formula leaves
        (presets.base(num_hidden_layers=1), 0.00638, 0.00737),
        (
            Wav2Vec2Config(
                hidden_size=32, num_attention_heads=2, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
                num_hidden_layers=1, conv_dim=(8,) * 7,
            ),
            0.0884,
            0.0361,
        ),
    ],
    ids=["base", "narrow"],
)  # fmt: skip
def test_the_positional_convolution_is_initialised(config: Wav2Vec2Config, std: float, torch_default: float) -> None:
    """The formula reaches v, and the weight that is used: g starts as the norm of v."""
    convolution: Any = Wav2Vec2Model(config).encoder.pos_conv_embed.conv
    weight: Any = convolution.parametrizations["weight"]
    v, used = weight.original1.detach(), weight().detach()
    torch.testing.assert_close(used, v, atol=1e-6, rtol=0)
    for tensor in (v, used):
        assert float(tensor.std()) == pytest.approx(std, rel=0.02)
        assert abs(float(tensor.std()) / torch_default - 1) > 0.1
    # and so does what the convolution computes from one impulse in the middle of nothing
    impulse = torch.zeros(1, 1 + 2 * config.num_conv_pos_embeddings, config.hidden_size)
    impulse[0, config.num_conv_pos_embeddings, 0] = 1.0
    response = convolution(impulse).detach()
    assert float(response[response != 0].std()) == pytest.approx(std, rel=0.1)


def test_a_seed_decides_the_parameters() -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(Wav2Vec2ForPreTraining(small_config()).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["quantizer.codevectors"], states[2]["quantizer.codevectors"])


def headless_checkpoint(folder: Path, **overrides: Any) -> dict[str, Tensor]:
    """Save a model without a head, whose parameters no formula would give."""
    model = Wav2Vec2Model(small_config(use_weighted_layer_sum=True, num_labels=7, **overrides))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(3.0)
    model.save_pretrained(folder)
    return dict(model.state_dict())


@pytest.mark.parametrize("head", HEADS[1:])
def test_a_head_that_starts_afresh_follows_the_formulas(head: Any, tmp_path: Path) -> None:
    """After loading a checkpoint without one; what was loaded is left alone."""
    saved = headless_checkpoint(tmp_path)
    torch.manual_seed(0)
    model = head.from_pretrained(tmp_path)
    parameters = dict(model.named_parameters())
    fresh = [name for name in parameters if not name.startswith("wav2vec2.")]
    assert fresh
    check_all(model, fresh)
    for name, tensor in saved.items():
        assert torch.equal(parameters[f"wav2vec2.{name}"], tensor)


def test_a_mask_embedding_that_starts_afresh_follows_the_formula(tmp_path: Path) -> None:
    """Checkpoints that were fine-tuned without masking have none."""
    headless_checkpoint(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors.pop("masked_spec_embed")
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    for head in (Wav2Vec2Model, Wav2Vec2ForPreTraining):
        check_all(head.from_pretrained(tmp_path), [f"{'' if head is Wav2Vec2Model else 'wav2vec2.'}masked_spec_embed"])


def test_adapters_that_start_afresh_follow_the_formulas(tmp_path: Path) -> None:
    """Language adapters, and the convolutional one, on top of a checkpoint without either."""
    headless_checkpoint(tmp_path, do_stable_layer_norm=True)
    added: list[dict[str, Any]] = [{"adapter_attn_dim": 6}, {"add_adapter": True}]
    for overrides in added:
        model = Wav2Vec2ForCTC.from_pretrained(tmp_path, **overrides)
        fresh = [name for name, _ in model.named_parameters() if ".adapter" in name]
        assert len(fresh) == 6 * (3 if "adapter_attn_dim" in overrides else 1)
        check_all(model, fresh)


def test_language_adapters_can_be_started_afresh() -> None:
    """`init_adapter_layers` gives every adapter tensor and the head new values, by their formulas."""
    model = Wav2Vec2ForCTC(small_config("mms"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(3.0)
    model.init_adapter_layers()
    adapted = [name for name, _ in model.named_parameters() if ".adapter_layer." in name or name.startswith("lm_head.")]
    assert len(adapted) == 6 * 3 + 2
    check_all(model, adapted)
    for name, parameter in model.named_parameters():
        if name not in adapted:
            check_constant(parameter.detach(), 3.0)
